"""Measure the training of the reward model on CPU: against the loop of stage one, and a whole fit under Ray.

    python jobs/bench.py train --json           also what each part of it gains, and memory at the start; one line of JSON
    python jobs/bench.py train RUN_FOLDER       the same with the pairs of a run's first round
    python jobs/bench.py train --paper          step time and memory on 8 to 64 GPUs, computed, as a table

Both loops train the same pairs in turn, each in a process of its own with one thread, bound to the same CPU. So both see
the same load of the machine, and the ratio of their times means something even if the times do not.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.benches import train_start
from jobs.benches.output import add_json_option, progress_beside_json
from jobs.benches.step_times import StepTimes
from jobs.benches.train_turns import VARIANTS
from vlrm_ray.config import Config, asset_path, load
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.cluster import connected
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.preferences.critique import format_critique
from vlrm_ray.reward.training.training_data import TrainingPair, TrainingPairs, to_table
from vlrm_ray.scenes.bench import exchanges, facts_of
from vlrm_ray.scenes.images import store_image
from vlrm_ray.scenes.language import HALLUCINATION, REASONING
from vlrm_ray.store.ledger import Ledger

STAGE_ONE = "9e8c681"
"""The commit whose loop is the yardstick."""
OVERRIDES = ("train.workers=1", "seed=0")
PAIRS_PER_TURN, TURNS = 44, 5
"""Pairs of a turn, four steps of 11; turns, of which the first is left out of the figures."""
FIT_PAIRS = 200
"""Pairs of the fit under Ray: about as many as the demo selects in a round."""
ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "run", nargs="?", metavar="RUN_FOLDER", help="a run whose pairs are trained (default: made-up ones)"
    )
    parser.add_argument("--paper", action="store_true", help="compute large trainings, measure nothing")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> None:
    """Measure the training and print the figures as one line of JSON, or compute large ones and print a table."""
    if not arguments.paper:
        print(json.dumps(measure_train(arguments.run, progress_beside_json(arguments))))
        return
    if arguments.run:
        raise UserError(f"--paper measures nothing, so it takes no run; leave {arguments.run} out")
    from jobs.benches.train_paper import print_tables

    print_tables()


def measure_train(run: str | None, progress: Progress) -> dict[str, Any]:
    """Measure everything; see `docs/training.md`.

    Args:
        run: folder of a run whose first round's pairs are trained; None makes pairs like the demo's.
        progress: shows what is done.

    Raises:
        UserError: the history has no commit `STAGE_ONE`, or the run has too few pairs.
    """
    with tempfile.TemporaryDirectory(prefix="vlrm-bench-", ignore_cleanup_errors=True) as scratch:
        old = Path(scratch, "stage-one")
        _check_out(old)
        ledger = Ledger(run) if run else _made_up(Ledger(f"{scratch}/pairs"))
        pairs = list(TrainingPairs(ledger, 1).read(range(FIT_PAIRS)).values())
        if len(pairs) < PAIRS_PER_TURN:
            raise UserError(
                f"{run} has {len(pairs)} selected pairs in round 1; give a run with at least {PAIRS_PER_TURN}"
            )
        if run:  # the fit below writes to the ledger
            ledger = Ledger(f"{scratch}/pairs")
            ledger.put_part(1, 0, {"select": to_table(pairs, TrainingPair)}, {})
        with progress.stage("train in turn with the loop of stage one", TURNS, "turns") as meter:
            figures = compare(old, ledger, pairs, meter.add)
            meter.set_summary(f"{figures['speedup']:.2f} times as fast")
        with progress.stage("whole fits under Ray"):
            figures |= fixed_cost(ledger, progress)
        with progress.stage("memory at the start, on 2 and 4 ranks"):
            figures |= train_start.measure()
    return figures


def compare(old: Path, ledger: Ledger, pairs: Sequence[TrainingPair], done: Any) -> dict[str, Any]:
    """Train the same pairs in turn with the old loop, today's, and today's without some of its parts.

    Args:
        old: checkout of the old code.
        ledger: has the pairs in round 1.
        pairs: the same pairs.
        done: called with 1 after each turn.

    Returns:
        `speedup` and `cpu_speedup`: examples per second of today's loop by those of the old one, in the time of the
        clock and of the CPU, the medians over the turns; `examples_per_second` of both; and `shares`: CPU seconds per
        example without a part by those with it.
    """
    here = Path(__file__).parent
    overrides = list(OVERRIDES)
    model = asset_path("assets:vlm")
    order = {"overrides": overrides, "model": model}
    numbers = list(range(PAIRS_PER_TURN))
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ("stage_one", *VARIANTS)}
    with (
        _process([str(here / "stage_one_loop.py")], old, order | {"pairs": [asdict(pair) for pair in pairs]}) as before,
        _process(["-m", "jobs.benches.train_turns"], ROOT, order | {"ledger": ledger.uri}) as now,
    ):
        for _ in range(TURNS):
            seconds["stage_one"].append(_ask(before, numbers))
            for name in VARIANTS:
                seconds[name].append(_ask(now, [name, numbers]))
            done(1)
    measured = {name: turns[1:] for name, turns in seconds.items()}

    def ratio(slow: str, fast: str, kind: int = 1) -> float:
        turns = zip(measured[slow], measured[fast], strict=True)
        return round(statistics.median(a[kind] / b[kind] for a, b in turns), 3)

    def rate(name: str) -> float:
        return round(3 * PAIRS_PER_TURN / statistics.median(wall for wall, _ in measured[name]), 2)

    return {
        "speedup": ratio("stage_one", "all", 0),
        "cpu_speedup": ratio("stage_one", "all"),
        "examples_per_second": {"stage_one": rate("stage_one"), "now": rate("all")},
        "shares": {
            "packing": ratio("plain", "packing"),
            "image_once": ratio("plain", "image_once"),
            "shared_prefix": ratio("packing_and_image_once", "all"),
            "rest": ratio("stage_one", "plain"),
        },
    }


def fixed_cost(ledger: Ledger, progress: Progress) -> dict[str, Any]:
    """Seconds of a fit of two workers beside its steps, on a warm cluster: the second of two fits counts.

    Returns:
        `first_fixed_seconds` of the first fit, and of the second `fixed_seconds`, `before_first_step_seconds`, which are
        most of them, `fit_seconds` with the steps, and `wait_share`: the share of the last epoch in which rank 0 waited
        for data.
    """
    config = load(None, ["cluster.dashboard=false", "cluster.object_store_mb=200", "train.workers=2"])
    figures: dict[str, Any] = {}
    with connected(config, progress.log):
        for key in ("first_fixed_seconds", "fixed_seconds"):
            figures |= _fit(config, ledger, key)
    return figures


def _fit(config: Config, ledger: Ledger, key: str) -> dict[str, Any]:
    import ray

    from vlrm_ray.reward.training.fit import fit

    board = ray.remote(num_cpus=0)(StepTimes).remote()
    ray.get(board.steps.remote())
    start = time.time()
    _, metrics = fit(config, ledger, 1, "assets:vlm", board=board)
    whole = time.time() - start
    steps = ray.get(board.steps.remote())
    ray.kill(board)
    shutil.rmtree(ledger.path("train"))
    return {
        key: round(whole - sum(seconds for _, seconds in steps), 2),
        "before_first_step_seconds": round(steps[0][0] - start, 2),
        "wait_share": round(metrics["wait_share"], 4),
        "fit_seconds": round(whole, 2),
    }


def _made_up(ledger: Ledger) -> Ledger:
    """Commit pairs like the demo's to round 1 of a ledger: of the embedded scenes, with true critiques."""
    pairs = []
    for group, kinds in (("hallucination", HALLUCINATION), ("reasoning", REASONING)):
        for number, (scene, exchange) in enumerate(exchanges("dev", group, kinds, FIT_PAIRS // 2)):
            sides = (exchange.right, exchange.wrong)
            facts = ", ".join(facts_of(scene))
            critiques = [format_critique(facts, ", ".join(map(str, side.checks)), side.true) for side in sides]
            texts = [side.text for side in sides]
            image = store_image(scene, ledger)
            pairs.append(
                TrainingPair(
                    f"{group}-{number}", image, "", exchange.question, texts[0], texts[1], critiques[0], critiques[1]
                )
            )
    ledger.put_part(1, 0, {"select": to_table(pairs, TrainingPair)}, {})
    return ledger


def _check_out(folder: Path) -> None:
    """Write the old code to a folder."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", STAGE_ONE, "vlrm_ray"], capture_output=True, check=False
    )
    if archive.returncode:
        raise UserError(
            f"the loop of stage one cannot be taken from the history ({archive.stderr.decode().strip()[:200]}); run this in a "
            f"clone that has commit {STAGE_ONE}: git fetch --unshallow"
        )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)


@contextmanager
def _process(command: list[str], code: Path, order: dict[str, Any]) -> "Iterator[subprocess.Popen[str]]":
    """A process with one thread that answers lines, with some code in front on its path."""
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, *command], env=environment, cwd=code, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        try:
            _write(process, order)
            if _line(process) != "ready":
                errors.seek(0)
                raise UserError(f"{command[-1]} did not start: {errors.read().decode()[-500:]}")
            yield process
        finally:
            process.kill()
            process.wait()


def _ask(process: "subprocess.Popen[str]", question: Any) -> tuple[float, float]:
    _write(process, question)
    answer = _line(process)
    if not answer:
        raise UserError(f"the process of the bench ended with exit status {process.wait()}; look at its error output")
    wall, cpu = json.loads(answer)
    return wall, cpu


def _write(process: "subprocess.Popen[str]", value: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value) + "\n")
    process.stdin.flush()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
