"""Experiment trackers: what they are given, read back from what they write; and that no failure of theirs ends a run."""

import importlib.util
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit import made_up
from vlrm_ray.config import Config, load
from vlrm_ray.errors import UserError
from vlrm_ray.monitoring import STEP_FIELDS
from vlrm_ray.pipeline import trackers
from vlrm_ray.pipeline.monitor import RunMonitor
from vlrm_ray.pipeline.recorder import Recorder
from vlrm_ray.pipeline.row_counts import RowCounts
from vlrm_ray.pipeline.trackers import PRIVACY, Trackers, check_trackers, open_trackers, settings_of
from vlrm_ray.store.ledger import Ledger

STEP = {"round": 1, "step": 1, "steps": 2, "loss": 0.5, "mfu": None, "skipped": 0}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what trackers set in the environment."""
    for name in [*PRIVACY, "MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"]:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def a_run(folder: Path, *names: str) -> Path:
    """Log a round with two steps to trackers; returns the run's folder."""
    config = load(None, [f"trackers=[{','.join(names)}]", f"folder={folder}"])
    ledger, log = Ledger(f"{folder}/run"), list[str]()
    monitor = RunMonitor(config, ledger, Recorder(config.name, log.append))
    monitor.trackers = open_trackers(config, ledger, log.append)
    counts = {"select": RowCounts(5, 3, {"margin": 1}, {"longer_than_the_model_takes": 1})}
    monitor.gathered(1, counts)
    fields = dict.fromkeys(trackers_fields(), 1.0)
    for step in (1, 2):
        monitor.trained_step({"round": 1, "train": {**fields, **STEP, "step": step, "loss": 1 / step}})
    monitor.published(1, 1)
    monitor.evaluated(1, {"pair_accuracy": {"value": 0.75, "n": 4}})
    monitor.close()
    assert log == []
    return folder / "run"


def trackers_fields() -> tuple[str, ...]:
    return STEP_FIELDS


EXPECTED = {
    ("rows/select_kept", 1): 3.0,
    ("rows/select_quarantined", 1): 1.0,
    ("train/loss", 1): 1.0,
    ("train/loss", 2): 0.5,
    ("version", 1): 1.0,
    ("evaluation/pair_accuracy", 1): 0.75,
}


# --- TensorBoard --------------------------------------------------------------------------------


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """Scalars of all event files in a folder: records of a length, its checksum, an event and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in folder.rglob("*tfevents*"):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found |= {(value.tag, event.step): round(value.simple_value, 4) for value in event.summary.value}
            data = data[16 + length :]
    return found


def test_tensorboard_files_hold_rounds_and_steps(tmp_path: Path) -> None:
    found = scalars(a_run(tmp_path, "tensorboard") / "trackers" / "tensorboard")
    assert found.items() >= EXPECTED.items()
    assert ("train/mfu", 1) not in found


def test_steps_of_later_rounds_and_sessions_go_on(tmp_path: Path) -> None:
    a_run(tmp_path, "tensorboard")
    config, ledger = load(None, ["trackers=[tensorboard]"]), Ledger(f"{tmp_path}/run")
    opened = open_trackers(config, ledger, print)
    opened.skip_steps([{"round": 1, "train": {"round": 1, "step": 2, "steps": 2}}])
    opened.log_step({**STEP, "round": 2, "step": 1, "loss": 0.25})
    opened.close()
    assert scalars(tmp_path / "run")["train/loss", 3] == 0.25


def test_files_are_copied_to_object_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(str(tmp_path / "run"))
    monkeypatch.setattr(ledger, "local", False)
    opened = open_trackers(load(None, ["trackers=[tensorboard]"]), ledger, print)
    opened.log_round(1, {"version": 1})
    assert scalars(tmp_path / "run" / "trackers" / "tensorboard") == {("version", 1): 1.0}
    opened.log_round(2, {"version": 2})
    opened.close()
    assert scalars(tmp_path / "run")["version", 2] == 2.0


# --- wandb --------------------------------------------------------------------------------------


def records(folder: Path) -> Iterator[Any]:
    """Records of the files that wandb writes offline.

    After seven bytes a file is a log of LevelDB: blocks of 32 KiB with pieces of records, each with a header of seven bytes
    (checksum, length, and the type: 1 for a whole record, otherwise 2 for its first piece, 3 or 4 for its last).
    """
    from wandb.proto.wandb_internal_pb2 import Record

    for file in folder.rglob("*.wandb"):
        data, place, pieces = file.read_bytes(), 7, b""
        while place + 7 <= len(data):
            if -place % 32768 < 7:
                place += -place % 32768
            length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
            if place + 7 + length > len(data):
                break  # being written at this moment
            pieces, place = pieces + data[place + 7 : place + 7 + length], place + 7 + length
            if kind in (1, 4):
                yield Record.FromString(pieces)
                pieces = b""


def history(folder: Path) -> dict[tuple[str, int], float]:
    """Figures in the files that wandb writes, by name and step or round."""
    found: dict[tuple[str, int], float] = {}
    for record in records(folder):
        items = {(item.key or "/".join(item.nested_key)): item.value_json for item in record.history.item}
        step = items.get("train/step", items.get("round"))
        found |= {(name, int(float(step))): float(value) for name, value in items.items() if step is not None}
    return found


def test_wandb_is_offline_and_holds_rounds_and_steps(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run = a_run(tmp_path, "wandb")
    assert os.environ["WANDB_MODE"] == "offline"
    deadline = time.monotonic() + 120
    while not (found := history(run)).items() >= EXPECTED.items() and time.monotonic() < deadline:
        time.sleep(0.2)  # a process of wandb's own writes the file
    assert {key: found.get(key) for key in EXPECTED} == EXPECTED


# --- MLflow -------------------------------------------------------------------------------------


def test_mlflow_keeps_one_run_in_a_file_store(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    a_run(tmp_path, "mlflow")
    a_run(tmp_path, "mlflow")  # the run resumes
    client = MlflowClient((tmp_path / "run" / "trackers" / "mlflow").as_uri())
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    for (name, step), value in EXPECTED.items():
        assert {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)}[step] == value
    assert run.data.params["train.epochs"] == str(Config().train.epochs)
    assert run.info.status == "FINISHED"


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"^trackers: {name} needs .* run: pip install 'vlrm-ray\[tracking\]'$"):
        check_trackers(load(None, [f"trackers=[{name}]"]))


def test_a_folder_of_the_same_name_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_tracker").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(trackers.MODULES, "wandb", "a_tracker")
    with pytest.raises(UserError, match="not installed"):
        check_trackers(load(None, ["trackers=[wandb]"]))


def test_without_trackers_no_library_is_needed() -> None:
    check_trackers(Config())
    assert open_trackers(Config(), None, print) is trackers.NO_TRACKERS  # type: ignore[arg-type]


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UserError, match="trackers"):
        load(None, ["trackers=[clearml]"])


def test_a_tracker_that_cannot_be_opened_is_an_error_before_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run" / "trackers"
    run.mkdir(parents=True)
    (run / "tensorboard").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"^trackers: tensorboard cannot be opened: .*; check its settings"):
        open_trackers(load(None, ["trackers=[tensorboard]"]), Ledger(f"{tmp_path}/run"), print)


class Failing:
    """A tracker that loses its server."""

    def __init__(self) -> None:
        self.calls = 0

    def log(self, values: object, axis: str, step: int) -> None:
        self.calls += 1
        raise ConnectionError("no route to host\nand more")

    def close(self) -> None:
        raise AssertionError("it was closed before")


def test_a_tracker_that_fails_gets_no_more_figures_and_the_run_goes_on() -> None:
    failing, log = Failing(), list[str]()
    opened = Trackers({"wandb": failing}, None, log.append)
    opened.log_round(1, {"version": 1})
    opened.log_round(2, {"version": 2})
    opened.log_step(STEP)
    opened.close()
    assert failing.calls == 1
    assert log == ["tracker wandb failed and gets no more figures: no route to host"]


def test_trackers_see_no_passwords() -> None:
    shown = settings_of(made_up.config().model_copy(update={"folder": "s3://key:secret@bucket/runs"}))
    assert shown["folder"] == "s3://***@bucket/runs"
    assert shown["train.lora.rank"] == 0
