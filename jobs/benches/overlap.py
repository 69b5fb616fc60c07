"""Measure idle GPUs with and without `cluster.overlap`: whole runs with simulated engines and trainings of stated seconds.

    python jobs/bench.py overlap --json                       one line of JSON; progress goes to the standard error output
    python jobs/bench.py overlap --json without overlap       some of the runs without, overlap, overlap_newest

The driver's loop, the graph, the ledger and Ray are those of a run, on a node that claims to have 8 GPUs:
4 generate, 2 judge and 2 train. Only what the GPUs do is simulated, so that the figures are those of the orchestration:
what it leaves idle, with the starts of its pools, which weigh less in the longer rounds of real models.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jobs.benches.output import add_json_option, progress_beside_json
from jobs.benches.ray_environment import ray_environment
from vlrm_ray.config import load
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import utilization
from vlrm_ray.pipeline.cluster import start_local
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger

PROMPTS, SLOTS = 1280, (16, 16)
"""Prompts of a round, and sequences that a generator and a critic work on at the same time."""
SEQUENCE_SECONDS = (4.0, 4.7)
"""Time of a response and of a critique: 1280 prompts with 8 responses and 3.3 critiques take 4 generators 640 s, and 2 critics as
long."""
STEPS, STEP_SECONDS = 128, 5.0
"""Steps of a training, and the time of each; of the last round there is only one step, because the measurement ends there."""
ROUNDS = 2
"""Idle time is measured from the start of the first training to that of the last: one whole round."""
OVERRIDES = (
    f"rounds={ROUNDS}", f"prompts.per_round={PROMPTS}", "part_rows=8", "policy.samples=8", "policy.image_free=0",
    "policy.image_degraded=0", "policy.engine.actors=4", "policy.engine.gpus=1", "policy.engine.cpus=0.05",
    "critic.engine.actors=2", "critic.engine.gpus=1", "critic.engine.cpus=0.05", "critic.k=1", "train.workers=2",
    "train.gpus=1", "train.cpus=0.05", f"train.epochs={STEPS}", "experts.reader.enabled=false", "evaluation.pairs=0",
    "evaluation.holdout=0", "cluster.stages.verify.max=2",
)  # fmt: skip
RUNS = {
    "without": ("cluster.overlap=0", "critic.writer=base"),
    "overlap": ("cluster.overlap=1", "critic.writer=base"),
    "overlap_newest": ("cluster.overlap=1", "critic.writer=newest"),
}
"""The runs that are compared, with what differs in their configuration."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "names", nargs="*", metavar="RUN", help=f"which to measure, of {', '.join(RUNS)} (default: all)"
    )
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the figures as one line of JSON."""
    print(json.dumps(measure_overlap(progress_beside_json(arguments), arguments.names)))


def measure_overlap(progress: Progress, names: Sequence[str] = ()) -> dict[str, Any]:
    """Measure some of `RUNS`, or all: the idle share of the GPUs, of all and by role, and seconds per round.

    Raises:
        UserError: there is no run of some name.
    """
    if unknown := [name for name in names if name not in RUNS]:
        raise UserError(f"overlap {unknown[0]}: expected some of {', '.join(RUNS)}")
    figures: dict[str, Any] = {
        "prompts": PROMPTS,
        "sequence_seconds": SEQUENCE_SECONDS,
        "train_seconds": STEPS * STEP_SECONDS,
    }
    with tempfile.TemporaryDirectory(prefix="vlrm-", dir="/tmp") as scratch, _node(scratch, progress.log):
        for name in names or RUNS:
            with progress.stage(name) as meter:
                found = _run(Path(scratch), name, RUNS[name], progress)
                figures[name] = found
                meter.set_summary(
                    f"{found['idle']:.1%} of the GPUs' time idle, {found['seconds_per_round']:.0f} s a round"
                )
    return figures


@contextmanager
def _node(scratch: str, log: Callable[[str], None]) -> Iterator[None]:
    """Ray on this machine, as if it had 8 GPUs."""
    Path(scratch, "ray").mkdir()
    variables = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_AUTH_MODE": "disabled"}
    with ray_environment(RAY_TMPDIR=scratch, **variables):
        import ray

        try:
            start_local({"num_cpus": 8, "num_gpus": 8, "include_dashboard": False, "log_to_driver": False}, log)
            yield
        finally:
            ray.shutdown()


def _run(scratch: Path, name: str, overrides: tuple[str, ...], progress: Progress) -> dict[str, Any]:
    """Run all rounds; returns the idle shares and the seconds per round."""
    from unittest import mock

    import ray

    from jobs import iterate
    from tests import simulated_run

    fleets: list[Any] = []

    class Fleet(simulated_run.SimulatedFleet):
        slots = SLOTS

        def launch(self, *, policy: bool = True) -> None:
            """Start engines that answer at once; the first round is not measured."""
            fleets.append(self)
            super().launch(policy=policy)

    def slow_down() -> None:
        """From the first training on, engines take their time."""
        for actors, seconds in zip((fleets[0].policy, fleets[0].critics), SEQUENCE_SECONDS, strict=True):
            ray.get([actor.take.remote(seconds) for actor in actors])

    source = scratch / "prompts"
    if not source.exists():
        source.mkdir()
        simulated_run.prompt_file(source, 8, ROUNDS * PROMPTS // 8)
    prompts = f"prompts.source={source / 'prompts.jsonl'}"
    config = load(None, [*OVERRIDES, *overrides, prompts, f"folder={scratch}", f"name={name}"])
    ledger = Ledger(str(scratch / name))
    fit = partial(simulated_run.fit, step_seconds=STEP_SECONDS, short_round=ROUNDS)
    with mock.patch("actors.fleet.Fleet", Fleet), mock.patch("vlrm_ray.reward.training.fit.fit", fit):
        iterate.run_rounds(config, ledger, progress, slow_down)
    results = {
        n: {s: r for s in (*ROLLOUT_STAGES, "train", "evaluate") if (r := ledger.result(n, s))}
        for n in range(ROUNDS + 1)
    }
    settings = config.model_dump(mode="json")
    found = utilization.idle(settings, results)
    return found | {"seconds_per_round": round(found["seconds"] / (ROUNDS - 1), 1)}
