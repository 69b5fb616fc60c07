"""Experiment trackers: TensorBoard, wandb and MLflow, by the configuration key `trackers`.

They get the figures of each round (`evaluation/...`, `rows/...`, `version`) over its number, and those of each training
step (`train/...`) over the number of steps that the run has trained. They run in the driver. Their libraries are imported
only here, when they are used.

A tracker writes into the run's folder, `trackers/NAME`, and connects to no server unless its own environment variables
say so: `WANDB_MODE=online`, or `MLFLOW_TRACKING_URI`. What it writes is copied to object storage after each round.
"""

import importlib.util
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vlrm_ray.config import Config
from vlrm_ray.errors import UserError, first_line
from vlrm_ray.ids import digest
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.ledger import Ledger

Values = Mapping[str, float]
ROUND, STEP = "round", "train/step"
"""What figures are shown over."""
MODULES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""Trackers, each with the module that it needs."""
PROJECT = "vlrm-ray"
"""Project of wandb and experiment of MLflow."""
PRIVACY = {
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Environment of the trackers, where the user has not set it: no connections, no messages about the project to others."""


class Tracker(Protocol):
    """An experiment tracker that is open. Its methods may raise anything."""

    def log(self, values: Values, axis: str, step: int) -> None:
        """Add figures at a step of an axis, `ROUND` or `STEP`."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class Trackers:
    """The trackers of a run. One that fails is closed with a line in the log, and the run goes on."""

    def __init__(self, trackers: Mapping[str, Tracker], folder: "Folder | None", log: Callable[[str], None]) -> None:
        """Use open trackers, which write into a folder."""
        self._open, self._folder, self._log = dict(trackers), folder, log
        self._steps: dict[int, int] = {}

    def log_round(self, round_: int, values: Values) -> None:
        """Add figures of a round. Those that are None or no numbers are left out."""
        numbers = _numbers(values)
        if numbers:
            self._each(lambda tracker: tracker.log(numbers, ROUND, round_))
            self._upload()

    def log_step(self, record: Mapping[str, Any]) -> None:
        """Add the record of a training step; see `step_records.StepRecord`."""
        if not self._open:
            return
        self._steps[record["round"]] = record["steps"]
        step = sum(count for round_, count in self._steps.items() if round_ < record["round"]) + record["step"]
        values = {f"train/{name}": value for name, value in record.items() if name not in ("step", "steps")}
        self._each(lambda tracker: tracker.log(_numbers(values), STEP, step))

    def skip_steps(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Count the steps of earlier sessions, from their lines (see `RunMetrics.read`)."""
        self._steps |= {line["train"]["round"]: line["train"]["steps"] for line in lines}

    def close(self) -> None:
        """Close all trackers."""
        self._each(lambda tracker: tracker.close())
        self._upload()
        self._open.clear()

    def _each(self, work: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                work(tracker)
            except Exception as error:  # servers, disks and libraries fail in many ways
                del self._open[name]
                self._log(f"tracker {name} failed and gets no more figures: {first_line(error)}")

    def _upload(self) -> None:
        if self._folder and self._open:
            try:
                self._folder.upload()
            except Exception as error:  # the next time uploads it again
                self._log(f"the trackers' files were not copied to the run's folder: {first_line(error)}")


NO_TRACKERS = Trackers({}, None, lambda _: None)


def check_trackers(config: Config) -> None:
    """Check that the libraries of the configured trackers are installed; raises UserError if one is not."""
    for name in config.trackers:
        spec = importlib.util.find_spec(MODULES[name])
        if spec is None or spec.origin is None:  # a folder of that name is found too, such as what wandb leaves behind
            raise UserError(
                f"trackers: {name} needs the Python package {MODULES[name]}, which is not installed; run: "
                "pip install 'vlrm-ray[tracking]'"
            )


def open_trackers(config: Config, ledger: Ledger, log: Callable[[str], None]) -> Trackers:
    """Open the configured trackers; a run that resumes goes on in the same ones.

    Args:
        config: configuration of the run.
        ledger: ledger of the run.
        log: prints a line.

    Raises:
        UserError: a tracker cannot be opened.
    """
    if not config.trackers:
        return NO_TRACKERS
    for name, value in PRIVACY.items():
        os.environ.setdefault(name, value)
    folder, found = Folder(ledger), dict[str, Tracker]()
    classes: dict[str, type[TensorBoard] | type[Wandb] | type[MLflow]] = {
        "tensorboard": TensorBoard,
        "wandb": Wandb,
        "mlflow": MLflow,
    }
    for name in dict.fromkeys(config.trackers):
        try:
            found[name] = classes[name](config, digest(ledger.uri), folder.path(name))
        except Exception as error:
            raise UserError(
                f"trackers: {name} cannot be opened: {first_line(error)}; check its settings, or leave it out"
            ) from error
    return Trackers(found, folder, log)


class TensorBoard:
    """Event files, written by tensorboardX, which Ray brings along."""

    def __init__(self, config: Config, identity: str, folder: Path) -> None:
        """Write a new file into a folder. Without a queue: what is flushed is in the file, and can be copied."""
        from tensorboardX.event_file_writer import EventsWriter

        self._writer = EventsWriter(str(folder / f"events-{uuid.uuid4().hex[:8]}"))

    def log(self, values: Values, axis: str, step: int) -> None:
        """See `Tracker.log`."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in values.items():
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
        self._writer.flush()

    def close(self) -> None:
        """See `Tracker.close`."""
        self._writer.close()


class Wandb:
    """A run of wandb: in files for `wandb sync`, unless WANDB_MODE says otherwise."""

    def __init__(self, config: Config, identity: str, folder: Path) -> None:
        """Open the run."""
        import wandb

        settings = wandb.Settings(
            console="off", disable_git=True, disable_code=True, x_disable_stats=True, x_disable_meta=True, silent=True
        )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=config.name,
            id=identity[:16],
            dir=str(folder),
            resume="allow" if os.environ["WANDB_MODE"] == "online" else None,
            config=settings_of(config),
            settings=settings,
        )
        self._run.define_metric("train/*", step_metric=STEP)
        for group in ("evaluation/*", "rows/*", "version"):
            self._run.define_metric(group, step_metric=ROUND)

    def log(self, values: Values, axis: str, step: int) -> None:
        """See `Tracker.log`."""
        self._run.log({**values, axis: step})

    def close(self) -> None:
        """See `Tracker.close`."""
        self._run.finish()


class MLflow:
    """A run of MLflow: in a file store, unless MLFLOW_TRACKING_URI names another."""

    def __init__(self, config: Config, identity: str, folder: Path) -> None:
        """Open the run, or go on with that of an earlier session."""
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or folder.as_uri())
        experiment = self._client.get_experiment_by_name(PROJECT)
        number = experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
        known = self._client.search_runs([number], f"tags.vlrm_run = '{identity}'", max_results=1)
        run = known[0] if known else self._client.create_run(number, tags={"vlrm_run": identity}, run_name=config.name)
        self._id = run.info.run_id
        if not known:
            for name, value in settings_of(config).items():
                self._client.log_param(self._id, name, value)

    def log(self, values: Values, axis: str, step: int) -> None:
        """See `Tracker.log`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in values.items()])

    def close(self) -> None:
        """See `Tracker.close`."""
        self._client.set_terminated(self._id)


class Folder:
    """The folder that trackers write into: the run's own, or a temporary one that is copied to object storage."""

    def __init__(self, ledger: Ledger) -> None:
        """Use the folder `trackers` of a run."""
        self._ledger, self._copied = ledger, dict[str, tuple[int, int]]()
        self._temporary = None if ledger.local else tempfile.TemporaryDirectory(prefix="vlrm-trackers-")
        self._root = Path(self._temporary.name if self._temporary else ledger.root) / "trackers"

    def path(self, name: str) -> Path:
        """The folder of a tracker, which exists."""
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def upload(self) -> None:
        """Copy what has changed to object storage."""
        for file in sorted(self._root.rglob("*")) if self._temporary else []:
            name, state = file.relative_to(self._root).as_posix(), file.stat()
            version = (state.st_size, state.st_mtime_ns)
            if file.is_file() and self._copied.get(name) != version:
                self._ledger.put(f"trackers/{name}", file.read_bytes())
                self._copied[name] = version


def settings_of(config: Config) -> dict[str, Any]:
    """The configuration by dotted keys, as the trackers show it: without passwords in URIs."""

    def flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in values.items():
            key = f"{prefix}{name}"
            found |= flat(value, f"{key}.") if isinstance(value, dict) else {key: _readable(value)}
        return found

    return flat(config.model_dump(mode="json"), "")


def _readable(value: Any) -> Any:
    return redacted(str(value)) if isinstance(value, str | list) else value


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
