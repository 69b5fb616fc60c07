"""Shows what a run does while it works: in Ray's metrics, and in the experiment trackers that the configuration names.

    rounds ──── what they have finished ────┐
                                            ├─► RunMonitor ─┬─► Recorder ─► Ray's metrics (Prometheus)
    fleet ─── loads, counts, steps ─► Usage ┘               └─► Trackers (TensorBoard, wandb, MLflow)

Everything is recorded in the driver, and nothing that goes wrong here ends a run or delays it for long: the log names it.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import ray

from vlrm_ray.config import Config
from vlrm_ray.monitoring import STEP_FIELDS, TRAIN
from vlrm_ray.pipeline.background import repeated
from vlrm_ray.pipeline.recorder import Recorder
from vlrm_ray.pipeline.row_counts import RowCounts
from vlrm_ray.pipeline.run_metrics import STEPS, RunMetrics
from vlrm_ray.pipeline.stages import Tally
from vlrm_ray.pipeline.trackers import NO_TRACKERS, Trackers
from vlrm_ray.pipeline.usage import Usage, Watched
from vlrm_ray.store.ledger import Ledger

SAMPLE_SECONDS = 5.0
"""Interval at which the fleet is asked what it does, and gauges are repeated. Ray exports metrics every 10 s."""
REASON_LENGTH = 60
"""Most characters of a reason in a tag."""
JsonDict = dict[str, Any]


class RunMonitor:
    """Records what a run does.

    Attributes:
        recorder: records the metrics.
        trackers: the experiment trackers.
    """

    def __init__(self, config: Config, ledger: Ledger, recorder: Recorder) -> None:
        """Record the progress of a run; `start` also watches its actors."""
        self.config, self.ledger, self.recorder = config, ledger, recorder
        self.trackers: Trackers = NO_TRACKERS
        self._sampling = ExitStack()

    def start(self, fleet: Watched, trackers: Trackers = NO_TRACKERS) -> None:
        """Watch the fleet in a thread until `close`, and send figures to trackers.

        The figures of rounds that earlier sessions have finished are recorded at once.
        """
        self.trackers = trackers
        self.trackers.skip_steps(RunMetrics(self.ledger).read(STEPS))
        version = 0  # recorded in any case: in Grafana runs are chosen by this metric
        for round_ in range(self.config.most_rounds + 1):
            if published := self.ledger.result(round_, "publish"):
                version = published["version"]
            if evaluated := self.ledger.result(round_, "evaluate"):
                self._evaluated(round_, evaluated["metrics"])
        self._published(version)
        usage = Usage(self.config, fleet, self.recorder)

        def sample() -> None:
            if ray.is_initialized():  # a call would start another Ray
                usage.sample()
                self.recorder.repeat_gauges()

        self._sampling.enter_context(repeated(sample, SAMPLE_SECONDS, "watching the run"))

    def close(self) -> None:
        """Take a last sample and close the trackers."""
        self._sampling.close()
        self.trackers.close()

    def began(self, round_: int) -> None:
        """Record that the run works on a round."""
        self.recorder.record("vlrm_round", round_)

    def committed(self, tally: Tally) -> None:
        """Record the figures of a committed part; see `part_statistics.figures`."""
        figures = tally.figures
        for condition, count in figures.get("candidates", {}).items():
            self.recorder.record("vlrm_candidates", count, {"condition": condition})
        for first, second, name in (
            ("type", "verdict", "verdicts"),
            ("outcome", "reason", "pairs"),
            ("stage", "reason", "quarantined"),
        ):
            for outer, counts in figures.get(name, {}).items():
                for inner, count in counts.items():
                    self.recorder.record(f"vlrm_{name}", count, {first: outer, second: short(inner)})
        for tag, name in (("outcome", "margin"), ("side", "reward"), ("side", "label_mass")):
            for value, counts in figures.get(name, {}).items():
                self.recorder.record_bins(f"vlrm_{name}", counts, {tag: value})

    def gathered(self, round_: int, counts: Mapping[str, RowCounts]) -> None:
        """Send a round's row counts to the trackers."""
        rows = {f"rows/{stage}_kept": count.kept for stage, count in counts.items()}
        lost = {f"rows/{stage}_quarantined": sum(count.quarantined.values()) for stage, count in counts.items()}
        self.trackers.log_round(round_, rows | lost)

    def trained_step(self, line: Mapping[str, Any]) -> None:
        """Record a training step, and send it to the trackers; other lines of `metrics/` are left out."""
        if "train" in line:
            for field in STEP_FIELDS:
                if (value := line["train"][field]) is not None:
                    self.recorder.record(f"{TRAIN}{field}", value)
            self.trackers.log_step(line["train"])

    def published(self, round_: int, version: int) -> None:
        """Record the newest version, after a training."""
        self.recorder.forget_gauges(TRAIN)
        self._published(version)
        self.trackers.log_round(round_, {"version": version})

    def evaluated(self, round_: int, metrics: Mapping[str, JsonDict]) -> None:
        """Record a round's evaluation; `metrics` are those of its result."""
        self._evaluated(round_, metrics)
        self.trackers.log_round(round_, {f"evaluation/{name}": metric["value"] for name, metric in metrics.items()})

    def _published(self, version: int) -> None:
        self.recorder.record("vlrm_version", version)

    def _evaluated(self, round_: int, metrics: Mapping[str, JsonDict]) -> None:
        for name, metric in metrics.items():
            if metric["value"] is not None:
                self.recorder.record("vlrm_evaluation", metric["value"], {"metric": name, "round": str(round_)})


def short(reason: str) -> str:
    """A reason as a tag: without the details after a colon, which differ from row to row and would each be a series."""
    return reason.partition(":")[0][:REASON_LENGTH]
