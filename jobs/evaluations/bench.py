"""Score a reward model or a VLM on a public benchmark, from local files in the benchmark's public format.

    # score a published reward model on POPE
    python jobs/evaluate.py bench --rm runs/scenes/versions/0003 --benchmark pope --data FOLDER --out FOLDER

    # no data at hand: write a POPE of 300 rendered scenes to FOLDER
    python jobs/evaluate.py bench --benchmark pope --make-scenes 300 --data FOLDER

    # the same without the images: what the model knows of the answers' words alone
    python jobs/evaluate.py bench --rm runs/scenes/versions/0003 --benchmark pope --data FOLDER --out BLIND --blind
    python jobs/evaluate.py compare BLIND FOLDER

    # five critiques per answer, both orders, 200 items, on a GPU
    python jobs/evaluate.py bench --rm FOLDER --benchmark vl_rewardbench --data FOLDER --out FOLDER \\
        --k 5 --order both --limit 200 \\
        critic.engine.actors=1 critic.engine.gpus=1 critic.engine.dtype=bfloat16

Benchmarks: vl_rewardbench, multimodal_rewardbench, mm_rlhf_rewardbench, pope, hallusionbench, amber; and
labels, pairs that your own people have compared.
docs/benchmarks.md lists the files that each of them needs in --data.

A published reward model (a folder with vlrm_reward.json) is a pointwise judge: it scores each answer on its own,
in the critique format that it was trained on, and the answer with the higher mean reward over K critiques wins.
Any other Hugging Face VLM is a pairwise judge: it sees both answers, in an order derived from the item's id, and
says which one is better. --judge overrides this choice. A Yes/No question is converted to two responses, such as
"Yes, there is a cup." and "No, there is no cup.", or "Yes." and "No.".

The output folder gets predictions.jsonl (or .json) for the official scorer, items.jsonl for `evaluate.py compare`
and summary.json. You can interrupt the command at any time; run it again to resume. Items that were quarantined, for
example because their image was missing, are tried again. --data, --images and --out may be URIs such as s3://bucket/pope.

There are two critics unless critic.engine.actors says otherwise. Without RAY_ADDRESS give cluster.cpus too, at least
critic.engine.actors times critic.engine.cpus.
"""

import argparse
import asyncio
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks import BENCHMARKS, compare, results, summary
from vlrm_ray.evaluation.benchmarks.context_budget import ContextBudget
from vlrm_ray.evaluation.benchmarks.images import IMAGE_FOLDERS, ImageResolver
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item
from vlrm_ray.evaluation.benchmarks.judging import PAIRWISE, POINTWISE, JudgeSettings
from vlrm_ray.evaluation.benchmarks.scoring import JudgementLog, Scorer
from vlrm_ray.evaluation.benchmarks.setup import (
    Judge,
    check_output_folder,
    claim_output_folder,
    data_folder,
    judge_from_folder,
)
from vlrm_ray.ids import digest
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV, check_kept, connected, stage_name
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.store.filesystem import is_remote, redacted
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import local_model, portable

BATCHES_OF_SEQUENCES = 2
"""Requests per batch, as a multiple of the engine's max_num_seqs. A larger batch wastes less time at its end, but an
interrupted run loses more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--rm", metavar="FOLDER",
        help="model to score: path or URI of a published reward model or a Hugging Face VLM; a name of the hub is not taken, "
        "fetch its model with `hf download OWNER/NAME --local-dir vlm`",
    )  # fmt: skip
    parser.add_argument("--benchmark", metavar="NAME", required=True, help=f"one of {', '.join(BENCHMARKS)}")
    parser.add_argument("--data", metavar="FOLDER", required=True, help="folder with the benchmark's files, or its URI")
    parser.add_argument("--out", metavar="FOLDER", help="output folder for the results, or its URI; not inside --data")
    parser.add_argument(
        "--k",
        type=int,
        default=1,
        help="critiques per answer, or comparisons; 1 decodes greedily, more are sampled (default: 1)",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=int,
        help="judge only N items, chosen by hash; a larger N later keeps the items already judged",
    )
    parser.add_argument(
        "--order",
        choices=("random", "both"),
        default="random",
        help="order in which a pairwise judge sees the two answers; both measures position bias (default: random)",
    )
    parser.add_argument(
        "--judge",
        choices=(POINTWISE, PAIRWISE),
        help="score answers one at a time, or compare both in one prompt (default: depends on the model, see above)",
    )
    parser.add_argument(
        "--images", metavar="FOLDER", help="folder that image paths are relative to, or its URI (default: --data)"
    )
    parser.add_argument("--blind", action="store_true", help="judge the same items without their images")
    parser.add_argument("--allow-urls", action="store_true", help="download images that are given as URLs")
    parser.add_argument(
        "--bare",
        action="store_true",
        help="afterwards time the engine alone on the same requests, to measure the overhead of the actors",
    )
    parser.add_argument(
        "--make-scenes",
        metavar="N",
        type=int,
        help="first write a POPE benchmark of N rendered scenes to --data; without --rm, stop after that",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML configuration file, as for jobs/iterate.py; `critic`, `cluster` and `selection.label_mass` are used",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="configuration overrides, for example critic.engine.kind=transformers",
    )


def run(arguments: argparse.Namespace) -> None:
    """Judge the items that are missing, then write predictions and summary."""
    progress = Progress()
    benchmark = BENCHMARKS.get(arguments.benchmark)
    if benchmark is None:
        raise UserError(f"--benchmark {arguments.benchmark}: unknown; choose one of {', '.join(BENCHMARKS)}")
    if arguments.make_scenes is not None:
        _make_scenes(benchmark, arguments, progress)
        if arguments.rm is None:
            return
    if arguments.rm is None or arguments.out is None:
        raise UserError(
            "--rm or --out is missing; give the model with --rm FOLDER and a result folder with --out FOLDER"
        )
    check_kept("--out", arguments.out)
    check_output_folder(arguments.out, arguments.data)
    judge = judge_from_folder(arguments.rm, arguments.judge, arguments.k, arguments.config, arguments.overrides)
    data = data_folder("--data", arguments.data)
    images = data_folder("--images", arguments.images) if arguments.images else None
    items = _read_items(benchmark, data, arguments, progress)
    claim_output_folder(arguments.out, benchmark.name, judge, arguments.images, arguments.blind)
    with JudgementLog.of(Ledger(arguments.out)) as log:
        scorer = _scorer(judge, log, [images] if images else [data / name for name in IMAGE_FOLDERS], arguments)
        todo = scorer.missing(items, arguments.order == "both")
        where = " without the images" if arguments.blind else ""
        progress.log(f"{benchmark.name}: {len(items)} items, {len(todo)} to judge{where}; {judge.description}")
        todo = scorer.quarantine_leading(todo)
        rates = (
            _judge(judge.config, scorer, todo, arguments, progress) if todo else results.previous_rates(arguments.out)
        )
    results.check_any_judged(items, log.judged, arguments.out, images or data)
    _finish(benchmark, items, log, _details(arguments, judge) | rates, arguments.out, progress)


def _make_scenes(benchmark: Benchmark, arguments: argparse.Namespace, progress: Progress) -> None:
    from vlrm_ray.scenes import pope

    if benchmark.name != "pope":
        raise UserError(f"--make-scenes writes POPE data only, got --benchmark {benchmark.name}; use --benchmark pope")
    if arguments.make_scenes < 1:
        raise UserError(f"--make-scenes {arguments.make_scenes}: expected at least 1")
    if is_remote(arguments.data):
        raise UserError(f"--make-scenes writes to a local folder, got --data {redacted(arguments.data)}; give a path")
    with progress.stage(f"draw {arguments.make_scenes} scenes") as meter:
        meter.set_summary(f"{pope.write(Path(arguments.data), arguments.make_scenes)} questions in {arguments.data}")


def _read_items(benchmark: Benchmark, data: Path, arguments: argparse.Namespace, progress: Progress) -> list[Item]:
    items = benchmark.read(data, progress.log)
    if not items:
        raise UserError(f"--data {data}: the files of {benchmark.name} have no rows; give another folder")
    if arguments.limit is not None:
        if arguments.limit < 1:
            raise UserError(f"--limit {arguments.limit}: expected at least 1")
        chosen = sorted(items, key=lambda item: digest("limit", item.key))[: arguments.limit]
        items = sorted(chosen, key=lambda item: item.position)
    return items


def _scorer(judge: Judge, log: JudgementLog, roots: list[Path], arguments: argparse.Namespace) -> Scorer:
    config = judge.config
    critic = config.critic
    copied = any(is_remote(uri) for uri in (arguments.out, arguments.images or arguments.data))
    settings = JudgeSettings.create(
        judge.kind,
        FORMATS[critic.format],
        critic.k,
        critic.max_tokens,
        critic.temperature,
        config.selection.label_mass,
        judge.calibration,
        blind=arguments.blind,
    )
    return Scorer(
        settings,
        ImageResolver(roots, Ledger(arguments.out), arguments.allow_urls, store_files=copied and not arguments.blind),
        ContextBudget(Path(local_model(critic.model)), critic.engine.max_model_len - critic.max_tokens),
        log,
        batch_size=BATCHES_OF_SEQUENCES * critic.engine.max_num_seqs,
    )


def _judge(
    config: Config, scorer: Scorer, todo: list[tuple[Item, int]], arguments: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    """Judge the missing items on a new or an existing Ray cluster.

    Returns:
        `items_per_second`; with --bare also `bare_items_per_second`, the rate of the engine alone.
    """
    with ExitStack() as stack:
        with progress.stage(f"{stage_name(config)}, start the engine"):
            stack.enter_context(connected(config, progress.log))
            from actors.fleet import JUDGE_REMEDY, Fleet

            fleet = Fleet(config, Ledger(arguments.out))
            stack.callback(fleet.close)
            fleet.start(policy=False)
        judges = fleet.batches("critic", scorer.settings.sampling, remedy=JUDGE_REMEDY)
        with progress.stage("judge", len(todo), "items") as meter:
            start = time.monotonic()
            scorer.score(todo, judges, meter.add, keep=arguments.bare)
            rate = len(todo) / (time.monotonic() - start)
            meter.set_summary(f"{rate:.1f} items/s")
    if not arguments.bare or not scorer.sent_requests:
        return {"items_per_second": round(rate, 2)}
    bare = _bare_rate(config, scorer, arguments, progress) * len(todo) / len(scorer.sent_requests)
    return {"items_per_second": round(rate, 2), "bare_items_per_second": round(bare, 2)}


def _bare_rate(config: Config, scorer: Scorer, arguments: argparse.Namespace, progress: Progress) -> float:
    """Requests per second of the engine alone, in this process, with all requests in one call."""
    os.environ.update(WORKER_ENV | (CPU_ENV if config.critic.engine.gpus == 0 else {}))
    from actors.engine_actors import engine_settings
    from actors.engine_hosts import CritiqueWriter

    requests, sampling = scorer.sent_requests, scorer.settings.sampling
    settings = engine_settings(config.critic.engine, config.critic.model, config.prompts.max_pixels)

    async def rate() -> float:
        host = CritiqueWriter("bare", settings, Ledger(arguments.out))
        await host.generate(requests[:8], sampling)
        start = time.monotonic()
        await host.generate(requests, sampling)
        seconds = time.monotonic() - start
        await host.close()
        return len(requests) / seconds

    with progress.stage("bare engine", len(requests), "requests") as meter:
        found = asyncio.run(rate())
        meter.set_summary(f"{found:.1f} requests/s")
    return found


def _details(arguments: argparse.Namespace, judge: Judge) -> dict[str, Any]:
    """Facts about the judge and the data, for `summary.json`."""
    return {
        "rm": redacted(judge.config.critic.model),
        "judge": judge.kind,
        "wording": judge.config.critic.format,
        "k": judge.config.critic.k,
        "order": arguments.order,
        "limit": arguments.limit,
        "blind": arguments.blind,
        "data": redacted(portable(arguments.data)),
    }


def _finish(
    benchmark: Benchmark,
    items: list[Item],
    log: JudgementLog,
    details: dict[str, Any],
    out: str,
    progress: Progress,
) -> None:
    """Write the results and print them."""
    content = results.write_results(benchmark, items, log.judged, details, out)
    progress.table(f"{benchmark.name}: {details['rm']}", *summary.summary_table(content))
    for line in results.summary_lines(content, items, log.judged):
        progress.log(line)
    prediction_files = ", ".join(sorted(benchmark.files([])))
    progress.log(
        f"results: {redacted(Ledger(out).location(compare.SUMMARY))}; for the official scorer: {prediction_files}"
    )
