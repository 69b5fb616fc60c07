"""A training continues from a sharded checkpoint on any number of ranks, and executes nothing that is in it."""

import errno
import os
import pickle
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
import torch
import torch.distributed as dist
from ray.train import Checkpoint, CheckpointUploadMode
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tests.unit.ranks import run_ranks
from vlrm_ray.errors import UserError
from vlrm_ray.reward.training.checkpoint_reader import METADATA, read_metadata
from vlrm_ray.reward.training.checkpoints import Checkpoints, load_state, save_state, trained_state
from vlrm_ray.reward.training.optimizer import WeightAverage, restart
from vlrm_ray.reward.training.temporary_folders import TemporaryFolders

LOCAL = pafs.LocalFileSystem()


class Training:
    """A small training: sharded layers of uneven sizes, one of them frozen, with AdamW and averaged weights."""

    def __init__(self, world: int, width: int = 7) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(5, width), nn.Linear(width, width), nn.Linear(width, 3))
        self.model[1].requires_grad_(False)
        mesh = init_device_mesh("cpu", (world,))
        for unit in (*self.model, self.model):
            fully_shard(unit, mesh=mesh)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-2)
        self.average = WeightAverage(self.model)
        self.group = dist.new_group(backend="gloo")

    def steps(self, first: int, last: int) -> None:
        """Train on batches that depend on the step's number; every second step ends a fit."""
        for step in range(first, last):
            batch = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
            self.model(batch).square().mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            if step % 2 == 1:
                self.average.end_fit(is_last=False)
                restart(self.optimizer)

    def state(self) -> dict[str, torch.Tensor]:
        return trained_state(self.model, self.optimizer, self.average)

    def whole_state(self) -> dict[str, torch.Tensor]:
        return {key: v.full_tensor() if isinstance(v, DTensor) else v.clone() for key, v in self.state().items()}


def state_bytes(state: Mapping[str, torch.Tensor]) -> int:
    """Bytes of this rank's shard of a state."""
    local = [value.to_local() if isinstance(value, DTensor) else value for value in state.values()]
    return sum(value.numel() * value.element_size() for value in local)


def saved(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Save after three steps, train on while it is written, and return the state after five."""
    training = Training(world)
    training.steps(0, 3)
    own = folder / f"rank-{rank}"
    own.mkdir(parents=True)
    saving = save_state(training.state(), own, training.group)
    bytes_ = state_bytes(training.state())
    training.steps(3, 5)
    saving.result()
    return {"state": training.whole_state(), "bytes": bytes_, "files": sorted(os.listdir(own))}


def resumed(rank: int, world: int, folder: str) -> dict[str, torch.Tensor]:
    """Load, train two steps and return the state."""
    del rank
    training = Training(world)
    load_state(training.model, training.optimizer, training.average, LOCAL, folder, training.group)
    training.steps(3, 5)
    return training.whole_state()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A checkpoint by two ranks, merged from their folders, and what the ranks said."""
    folder = tmp_path_factory.mktemp("checkpoint")
    results = run_ranks(2, folder / "ranks", saved, folder)
    for rank in range(2):
        shutil.copytree(folder / f"rank-{rank}", folder / "merged", dirs_exist_ok=True)
    return folder / "merged", results


def test_each_rank_writes_its_own_shard_of_what_is_trained(checkpoint: tuple[Path, list[dict[str, Any]]]) -> None:
    _, (first, second) = checkpoint
    assert first["files"] == [METADATA, "__0_0.distcp"]
    assert second["files"] == ["__1_0.distcp"]
    trained = (5 * 7 + 7) + (7 * 3 + 3)
    assert first["bytes"] + second["bytes"] == 4 * 4 * trained + 2 * (4 * 4 + 8)  # float32; counters are replicated
    assert not any(".1." in key for key in first["state"])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_training_continues_on_any_number_of_ranks(
    tmp_path: Path, checkpoint: tuple[Path, list[dict[str, Any]]], world: int
) -> None:
    """Weights, optimizer and averaged weights are those of a training without interruption."""
    folder, (uninterrupted, _) = checkpoint
    states = run_ranks(world, tmp_path, resumed, str(folder))
    for state in states:
        assert state.keys() == uninterrupted["state"].keys()
        for key, value in uninterrupted["state"].items():
            assert torch.allclose(state[key], value, atol=1e-6), key


def test_a_checkpoint_of_other_parameters_is_refused(
    tmp_path: Path, checkpoint: tuple[Path, list[dict[str, Any]]]
) -> None:
    def on_rank(rank: int, world: int) -> str:
        del rank
        training = Training(world)
        training.model[1].requires_grad_(True)
        with pytest.raises(UserError, match="belongs to other parameters") as error:
            load_state(training.model, training.optimizer, training.average, LOCAL, str(checkpoint[0]), training.group)
        return str(error.value)

    [message] = run_ranks(1, tmp_path, on_rank)
    assert "\n" not in message


class Command:
    """Pickles to a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("attack", [os.system, eval, pickle.loads, torch.load, getattr, Path])
def test_a_description_that_calls_anything_is_refused_and_not_executed(tmp_path: Path, attack: Any) -> None:
    victim = tmp_path / "created"
    data = pickle.dumps(Command(attack, f"touch {victim}"))
    with pytest.raises(UserError, match="nothing of it was executed") as error:
        read_metadata(data, METADATA)
    assert not victim.exists()
    assert "\n" not in str(error.value)


def test_a_description_that_refers_to_other_folders_is_refused(
    checkpoint: tuple[Path, list[dict[str, Any]]],
) -> None:
    metadata = read_metadata((checkpoint[0] / METADATA).read_bytes(), METADATA)
    for info in metadata.storage_data.values():
        info.relative_path = "../other/" + info.relative_path
    with pytest.raises(UserError, match="refers to files of another folder"):
        read_metadata(pickle.dumps(metadata), METADATA)


def test_objects_other_than_tensors_are_refused(checkpoint: tuple[Path, list[dict[str, Any]]]) -> None:
    """PyTorch would unpickle them without limits."""
    from torch.distributed.checkpoint.metadata import BytesStorageMetadata

    metadata = read_metadata((checkpoint[0] / METADATA).read_bytes(), METADATA)
    metadata.state_dict_metadata["model.0.weight"] = BytesStorageMetadata()
    with pytest.raises(UserError, match="BytesStorageMetadata"):
        read_metadata(pickle.dumps(metadata), METADATA)


@pytest.mark.parametrize("data", [b"", b"\x80", b"not a pickle", pickle.dumps({"a": 1})])
def test_a_damaged_description_is_one_line(data: bytes) -> None:
    with pytest.raises(UserError, match="is not the description of a checkpoint") as error:
        read_metadata(data, METADATA)
    assert "\n" not in str(error.value)


def folders(rank: int = 0) -> TemporaryFolders:
    return TemporaryFolders("/runs/a", rank)


class RayTrain:
    """Stands for Ray Train in one worker: reports are uploaded at once, into one folder."""

    def __init__(self, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storage, self.latest, self.local = storage, None, list[str]()
        monkeypatch.setattr("ray.train.report", self.report)
        monkeypatch.setattr("ray.train.get_checkpoint", lambda: self.latest)
        monkeypatch.setattr("ray.train.get_context", lambda: self)

    def get_storage(self) -> "RayTrain":
        return self

    def persist_current_checkpoint(self, checkpoint: Checkpoint, name: str) -> Checkpoint:
        shutil.copytree(checkpoint.path, self.storage / name)
        return Checkpoint.from_directory(str(self.storage / name))

    def report(self, metrics: dict[str, Any], **options: Any) -> None:
        assert options["checkpoint_upload_mode"] is CheckpointUploadMode.ASYNC
        self.local.append(options["checkpoint"].path)
        self.latest = options["checkpoint_upload_fn"](options["checkpoint"], options["checkpoint_dir_name"])


def test_checkpoints_go_to_ray_train_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files are removed; the last checkpoint has the model folder and no state."""
    ray_train = RayTrain(tmp_path / "storage", monkeypatch)

    def on_rank(rank: int, world: int) -> None:
        del rank
        first = Training(world)
        checkpoints = Checkpoints(first.model, first.optimizer, first.average, folders())
        assert checkpoints.restore() is None
        first.steps(0, 3)
        checkpoints.save({"step": 3}, {"loss": 0.5})
        second = Training(world)
        again = Checkpoints(second.model, second.optimizer, second.average, folders())
        assert again.restore() == {"step": 3}
        expected = first.whole_state()
        assert all(torch.equal(value, expected[key]) for key, value in second.whole_state().items())
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_text("{}")
        again.save({"step": 6}, {"loss": 0.4}, tmp_path / "model")
        again.finish()
        assert again.restore() == {"step": 6}
        assert not any(os.path.exists(path) for path in ray_train.local)

    run_ranks(1, tmp_path / "ranks", on_rank)
    names = {path.relative_to(tmp_path / "storage").as_posix() for path in (tmp_path / "storage").rglob("*")}
    assert {"step-0000003/.metadata", "step-0000003/progress.json", "step-0000003/__0_0.distcp"} < names
    last = {name for name in names if name.startswith("step-0000006/")}
    assert last == {"step-0000006/progress.json", "step-0000006/hf", "step-0000006/hf/config.json"}


class SlowRayTrain(RayTrain):
    """Uploads in a thread when it is told to."""

    def __init__(self, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(storage, monkeypatch)
        self.gate, self.steps = threading.Event(), list[str]()

    def report(self, metrics: dict[str, Any], **options: Any) -> None:
        self.steps.append(options["checkpoint_dir_name"])

        def upload() -> None:
            self.gate.wait(30)
            super(SlowRayTrain, self).report(metrics, **options)

        threading.Thread(target=upload, daemon=True).start()


def test_a_checkpoint_waits_for_the_upload_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow storage cannot fill the node's disk; one that does not answer ends the attempt."""
    ray_train = SlowRayTrain(tmp_path / "storage", monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def on_rank(rank: int, world: int) -> tuple[list[str], list[str]]:
        training = Training(world)
        training.steps(0, 1)
        checkpoints = Checkpoints(training.model, training.optimizer, training.average, folders(rank), timeout=0.5)
        checkpoints.save({"step": 1}, {})
        with pytest.raises(RuntimeError, match=r"took longer than train.step_timeout=0.5 s; look at the storage"):
            checkpoints.save({"step": 2}, {})
        waiting = [path.name for path in tmp_path.glob("vlrm-train-*")]
        ray_train.gate.set()
        checkpoints.timeout = 30
        checkpoints.save({"step": 3}, {})
        return waiting, ray_train.steps

    [(waiting, steps)] = run_ranks(1, tmp_path / "ranks", on_rank)
    assert len(waiting) == 1
    assert steps == ["step-0000001", "step-0000003"]


def test_a_busy_storage_gets_the_checkpoint_when_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train calls the upload again after errors that pass."""
    ray_train = RayTrain(tmp_path / "storage", monkeypatch)

    def on_rank(rank: int, world: int) -> None:
        calls = list[Any]()
        monkeypatch.setattr("ray.train.report", lambda metrics, **options: calls.append(options))
        training = Training(world)
        training.steps(0, 1)
        checkpoints = Checkpoints(training.model, training.optimizer, training.average, folders(rank))
        checkpoints.save({"step": 1}, {})
        with monkeypatch.context() as patch:
            patch.setattr(ray_train, "persist_current_checkpoint", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                ray_train.report({}, **calls[0])
        ray_train.report({}, **calls[0])

    run_ranks(1, tmp_path / "ranks", on_rank)
    assert (tmp_path / "storage" / "step-0000001" / "__0_0.distcp").is_file()


def test_what_earlier_attempts_of_a_run_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By ranks that run elsewhere now too; folders of other runs stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = [folders(rank).new(kind) for rank in (0, 3) for kind in ("checkpoint", "model")]
    other = TemporaryFolders("/runs/b", 0).new("checkpoint")
    (left[0] / "__0_0.distcp").write_text("")
    folders().clear()
    assert list(tmp_path.iterdir()) == [other]


def failed_writes(folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[BaseException]:
    """What two ranks raise if writing a checkpoint raises an error on rank 1."""
    monkeypatch.setattr("ray.train.report", lambda *_, **__: None)
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    def write(*_: object, **__: object) -> None:
        raise error

    def on_rank(rank: int, world: int) -> BaseException:
        training = Training(world)
        training.steps(0, 1)
        checkpoints = Checkpoints(training.model, training.optimizer, None, folders(rank))
        with monkeypatch.context() as patch:
            if rank == 1:
                patch.setattr(FileSystemWriter, "write_data", write)
            checkpoints.save({"step": 1}, {})
            with pytest.raises((UserError, RuntimeError)) as raised:
                checkpoints.finish()
        return type(raised.value)(*raised.value.args)  # without its cause, which cannot be pickled

    return run_ranks(2, folder, on_rank)


def test_a_full_disk_is_for_the_user_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another attempt would meet it again; ranks with space only say which one has none."""
    found = failed_writes(tmp_path, monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    line = (
        f"rank 1 could not write a checkpoint to {tempfile.gettempdir()} (OSError: [Errno 28] No space left on device)"
    )
    assert [type(error) for error in found] == [RuntimeError, UserError]
    assert [str(error) for error in found] == [line, f"{line}; free space there, or name another folder by TMPDIR"]


def test_a_checkpoint_that_fails_otherwise_ends_the_attempt_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the connection to a rank is lost while it is written: another attempt is made."""
    found = failed_writes(tmp_path, monkeypatch, ConnectionResetError(errno.ECONNRESET, "Connection reset\nby peer"))
    assert [type(error) for error in found] == [RuntimeError, RuntimeError]
    assert all("rank 1 could not write a checkpoint" in str(error) and "\n" not in str(error) for error in found)
