"""Score a reward model on a public benchmark, from local files in its public format.

    python jobs/evaluate.py bench --rm runs/scenes/versions/0003 --benchmark pope --data FOLDER --out FOLDER
    python jobs/evaluate.py bench --benchmark pope --make-scenes 300 --data FOLDER      made-up data to try it on
    ... --k 5 --order both --limit 200 critic.engine.gpus=1 critic.engine.dtype=bfloat16

Benchmarks: vl_rewardbench, multimodal_rewardbench, mm_rlhf_rewardbench, pope, hallusionbench, amber.

A published reward model (it has vlrm_reward.json) judges each answer by itself in the wording that it
was trained on; the higher mean reward over K critiques wins. Any other Hugging Face VLM is a judge
that sees both answers and says which is better, in random order by the item's id. `--judge` chooses
otherwise. Yes/No questions become two responses to compare: "Yes, there is a cup." and "No, there is
no cup.", or "Yes." and "No." where the question has no such sentence.

OUT gets predictions.jsonl (or .json) for the official scorer, items.jsonl for `evaluate.py compare`,
and summary.json. Run the same command again after an interruption: it goes on.
"""

import argparse
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks import BENCHMARKS, results, summary
from vlrm_ray.evaluation.benchmarks.context_budget import ContextBudget
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item
from vlrm_ray.evaluation.benchmarks.judging import PAIRWISE, POINTWISE, JudgeSettings
from vlrm_ray.evaluation.benchmarks.pictures import Pictures
from vlrm_ray.evaluation.benchmarks.scoring import Log, Scorer
from vlrm_ray.evaluation.benchmarks.setup import Judge, bind, judge_of
from vlrm_ray.ids import digest
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV, connected
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.store.ledger import Ledger

PICTURE_FOLDERS = ("", "images", "image", "data", "data/images", "hallusion_bench")
"""Where a path to a picture may begin, inside the data folder."""

WAVES = 2
"""Requests in a batch, in terms of what the engine decodes at a time: more waste less at a batch's end, and a killed
run loses more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rm", metavar="FOLDER", type=Path, help="a published reward model, or a Hugging Face VLM")
    parser.add_argument("--benchmark", metavar="NAME", required=True, help=", ".join(BENCHMARKS))
    parser.add_argument("--data", metavar="FOLDER", type=Path, required=True, help="the benchmark's files")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="where the results go")
    parser.add_argument("--k", type=int, default=1, help="critiques per answer; 1 is greedy (default)")
    parser.add_argument("--limit", metavar="N", type=int, help="only N items, chosen by hash: a larger N adds to them")
    parser.add_argument("--order", choices=("random", "both"), default="random", help="order of the two answers")
    parser.add_argument("--judge", choices=(POINTWISE, PAIRWISE), help="one answer at a time, or both together")
    parser.add_argument("--images", metavar="FOLDER", type=Path, help="where the pictures are, if not in the data")
    parser.add_argument("--allow-urls", action="store_true", help="fetch pictures that are given as URLs")
    parser.add_argument("--bare", action="store_true", help="then time the bare engine on the same requests")
    parser.add_argument("--make-scenes", metavar="N", type=int, help="first write a POPE of N rendered scenes to DATA")
    parser.add_argument("--config", metavar="FILE", help="YAML file, as for jobs/iterate.py; `critic` is what counts")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as critic.engine.kind=transformers")


def run(arguments: argparse.Namespace) -> None:
    """Judge what is missing, then write predictions and summary."""
    progress = Progress()
    benchmark = BENCHMARKS.get(arguments.benchmark)
    if benchmark is None:
        raise UserError(f"unknown benchmark '{arguments.benchmark}'; choose one of {', '.join(BENCHMARKS)}")
    if arguments.make_scenes is not None:
        _make_scenes(benchmark, arguments, progress)
        if arguments.rm is None:
            return
    if arguments.rm is None or arguments.out is None:
        raise UserError("give the reward model with --rm FOLDER and a place for the results with --out FOLDER")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise UserError(f"--out {arguments.out} is a file; give a folder")
    judge = judge_of(arguments.rm, arguments.judge, arguments.k, arguments.config, arguments.overrides)
    items = _items(benchmark, arguments, progress)
    bind(arguments.out, benchmark.name, judge)
    scorer = _scorer(judge, arguments)
    todo = scorer.missing(items, arguments.order == "both")
    progress.log(f"{benchmark.name}: {len(items)} items, {len(todo)} to judge; {judge.described}")
    rates = _judge(judge.config, scorer, todo, arguments, progress) if todo else results.rates(arguments.out)
    _finish(benchmark, items, scorer.log, _details(arguments, judge) | rates, arguments.out, progress)


def _make_scenes(benchmark: Benchmark, arguments: argparse.Namespace, progress: Progress) -> None:
    from vlrm_ray.scenes import pope

    if benchmark.name != "pope":
        raise UserError(f"--make-scenes writes a pope, not {benchmark.name}")
    if arguments.make_scenes < 1:
        raise UserError(f"--make-scenes {arguments.make_scenes}: expected at least 1")
    with progress.stage(f"draw {arguments.make_scenes} scenes") as meter:
        meter.close(f"{pope.write(arguments.data, arguments.make_scenes)} questions in {arguments.data}")


def _items(benchmark: Benchmark, arguments: argparse.Namespace, progress: Progress) -> list[Item]:
    items = benchmark.read(arguments.data, progress.log)
    if not items:
        raise UserError(f"{arguments.data} holds no items of {benchmark.name}")
    if arguments.limit is not None:
        if arguments.limit < 1:
            raise UserError(f"--limit {arguments.limit}: expected at least 1")
        chosen = sorted(items, key=lambda item: digest("limit", item.key))[: arguments.limit]
        items = sorted(chosen, key=lambda item: item.position)
    return items


def _scorer(judge: Judge, arguments: argparse.Namespace) -> Scorer:
    config = judge.config
    critic = config.critic
    if arguments.images is not None and not arguments.images.is_dir():
        raise UserError(f"--images {arguments.images}: there is no such folder")
    roots = [arguments.images] if arguments.images else [arguments.data / name for name in PICTURE_FOLDERS]
    manner = JudgeSettings.create(
        judge.kind, FORMATS[critic.format], critic.k, critic.max_tokens, critic.temperature, config.selection.label_mass
    )
    pictures = Pictures(roots, Ledger(str(arguments.out)), arguments.allow_urls)
    room = ContextBudget(Path(critic.model), critic.engine.max_model_len - critic.max_tokens)
    return Scorer(manner, pictures, room, Log(arguments.out / "judged.jsonl"), size=WAVES * critic.engine.max_num_seqs)


def _judge(
    config: Config, scorer: Scorer, todo: list[tuple[Item, int]], arguments: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    """Judge the missing items on an own or joined cluster; returns items per second, and the bare engine's."""
    with ExitStack() as stack:
        with progress.stage("start Ray and engine"):
            stack.enter_context(connected(config, progress.log))
            from actors.fleet import Fleet
            from actors.judge_pool import JudgePool

            fleet = Fleet(config, Ledger(str(arguments.out)))
            stack.callback(fleet.close)
            fleet.start(policy=False)
        judges = JudgePool(fleet.critics, scorer.manner.sampling)
        with progress.stage("judge", len(todo), "items") as meter:
            began = time.monotonic()
            scorer.score(todo, judges, meter.add, keep=arguments.bare)
            rate = len(todo) / (time.monotonic() - began)
            meter.close(f"{rate:.1f} items/s")
    if not arguments.bare or not scorer.asked:
        return {"items_per_second": round(rate, 2)}
    bare = _bare_rate(config, scorer, arguments, progress) * len(todo) / len(scorer.asked)
    return {"items_per_second": round(rate, 2), "bare_items_per_second": round(bare, 2)}


def _bare_rate(config: Config, scorer: Scorer, arguments: argparse.Namespace, progress: Progress) -> float:
    """Requests per second of the engine alone, in this process, given all of them at once."""
    os.environ.update(WORKER_ENV | (CPU_ENV if config.critic.engine.gpus == 0 else {}))
    from actors.engine_hosts import CritiqueWriter
    from actors.fleet import engine_settings

    with progress.stage("bare engine", len(scorer.asked), "requests") as meter:
        settings = engine_settings(config.critic.engine, config.critic.model)
        host = CritiqueWriter("bare", settings, Ledger(str(arguments.out)))
        host.generate(scorer.asked[:8], scorer.manner.sampling)
        began = time.monotonic()
        host.generate(scorer.asked, scorer.manner.sampling)
        rate = len(scorer.asked) / (time.monotonic() - began)
        host.close()
        meter.close(f"{rate:.1f} requests/s")
    return rate


def _details(arguments: argparse.Namespace, judge: Judge) -> dict[str, Any]:
    return {
        "rm": str(arguments.rm.resolve()),
        "judge": judge.kind,
        "wording": judge.config.critic.format,
        "k": judge.config.critic.k,
        "order": arguments.order,
        "limit": arguments.limit,
        "data": str(arguments.data.resolve()),
    }


def _finish(
    benchmark: Benchmark, items: list[Item], log: Log, details: dict[str, Any], out: Path, progress: Progress
) -> None:
    found = results.write(benchmark, items, log.judged, details, out)
    progress.table(f"{benchmark.name}: {details['rm']}", *summary.table(found))
    for line in results.summary_lines(found, items, log.judged):
        progress.log(line)
    progress.log(f"results: {out}/summary.json and, for the official scorer, {', '.join(sorted(benchmark.files([])))}")
