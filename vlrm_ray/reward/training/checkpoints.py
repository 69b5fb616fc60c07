"""Checkpoints of a training: PyTorch's distributed checkpoints, sharded, written in the background.

A checkpoint in Ray Train's storage has these files:

    __<rank>_0.distcp    tensors of that rank's shard: trained parameters, optimizer, averaged weights
    .metadata            which tensor is where; see `checkpoint_reader` for how it is read
    progress.json        where the training stands
    hf/                  the model folder to publish, in the last checkpoint, which has no tensors of its own

Parameters that are not trained come from the base model again. Each rank uploads its own files and reads only the
tensors that it needs, so that another number of ranks can go on.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any, Protocol

import pyarrow.fs as pafs
import ray.train
import torch
import torch.distributed as dist
from ray.train import Checkpoint, CheckpointUploadMode
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from vlrm_ray.errors import STORAGE_ERRNOS, UserError
from vlrm_ray.reward.training.checkpoint_reader import CheckpointReader
from vlrm_ray.reward.training.temporary_folders import TemporaryFolders

PROGRESS = "progress.json"
MODEL, OPTIMIZER, AVERAGE = "model", "optimizer", "average"
"""First parts of the tensors' names in a checkpoint."""


class Averaged(Protocol):
    """An average of the weights; its state is a nested dictionary of its own tensors."""

    def state_dict(self) -> dict[str, Any]:
        """The tensors themselves."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""


class Checkpoints:
    """Saves and restores the state of a training; all ranks call the same methods in the same order."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: Averaged | None,
        folders: TemporaryFolders,
        timeout: float = 1800,
    ) -> None:
        """Prepare to save. Collective: makes a process group on CPU for the background.

        Args:
            model: the sharded module.
            optimizer: optimizer of its trained parameters.
            average: averaged weights, if there are any.
            folders: where checkpoints are written before their upload.
            timeout: timeout in seconds of a collective operation, and of an upload.
        """
        self.model, self.optimizer, self.average, self.folders = model, optimizer, average, folders
        self.timeout = timeout
        self.group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self.saving: Future[Any] | None = None
        self.uploaded = Event()
        self.uploaded.set()

    def save(self, progress: Mapping[str, Any], metrics: Mapping[str, Any], model_folder: Path | None = None) -> None:
        """Save a checkpoint and report it to Ray Train. Returns when the state is copied to the CPU's memory.

        Waits for the checkpoint before and for its upload, so that there is memory for one copy at a time, and one
        folder: Ray Train's queue of uploads has no limit.

        Args:
            progress: JSON values to continue with; `step` names the checkpoint.
            metrics: metrics to report with it.
            model_folder: this rank's files of the model folder to publish; they are moved into the checkpoint. Given
                after the last step, and then nothing else is saved.

        Raises:
            UserError: this node has no space for the checkpoint before.
            RuntimeError: it could not be written for another reason, or was not uploaded in time.
        """
        self.finish()
        if not self.uploaded.wait(self.timeout):
            raise RuntimeError(
                f"the upload of a checkpoint took longer than train.step_timeout={self.timeout:g} s; look at the storage "
                "of the run, or raise train.checkpoint_steps"
            )
        folder = self.folders.new("checkpoint")
        if dist.get_rank() == 0:
            (folder / PROGRESS).write_text(json.dumps(dict(progress)))
        if model_folder is None:
            self.saving = save_state(trained_state(self.model, self.optimizer, self.average), folder, self.group)
        else:
            shutil.move(model_folder, folder / "hf")
        saving, uploaded = self.saving, Event()
        self.uploaded = uploaded

        def upload(checkpoint: Checkpoint, name: str) -> Checkpoint:
            """In a thread of Ray Train, which tries again if a storage is busy; what it raises ends this worker."""
            try:
                if saving is not None:
                    _wait(saving)
                stored: Checkpoint = ray.train.get_context().get_storage().persist_current_checkpoint(checkpoint, name)
                shutil.rmtree(folder, ignore_errors=True)
                return stored
            finally:
                uploaded.set()

        ray.train.report(
            dict(metrics),
            checkpoint=Checkpoint.from_directory(str(folder)),
            checkpoint_dir_name=f"step-{int(progress['step']):07d}",
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=False,
            checkpoint_upload_fn=upload,
        )

    def restore(self) -> dict[str, Any] | None:
        """Load the latest checkpoint of this training, from any number of ranks; returns its progress, None without one.

        The checkpoint of a finished training has no state to load.

        Raises:
            UserError: it cannot be read, or belongs to other parameters.
        """
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        filesystem, path = checkpoint.filesystem, checkpoint.path
        with filesystem.open_input_file(f"{path}/{PROGRESS}") as file:
            progress: dict[str, Any] = json.loads(file.read())
        if filesystem.get_file_info(f"{path}/hf").type is pafs.FileType.NotFound:
            load_state(self.model, self.optimizer, self.average, filesystem, path, self.group)
        return progress

    def finish(self) -> None:
        """Wait until the last checkpoint is written on this node; Ray Train waits for uploads at the end of a worker.

        Raises:
            UserError: this node has no space for it.
            RuntimeError: it could not be written for another reason.
        """
        saving, self.saving = self.saving, None
        if saving is not None:
            _wait(saving)


def _wait(saving: Future[Any]) -> None:
    """Wait until a checkpoint is written.

    Only a full or broken disk of this rank is for the user to mend. All else ends this attempt: after the loss of a
    rank, the others fail here too. PyTorch's CheckpointException is no Exception, and Ray Train's threads would end
    without a word.
    """
    try:
        saving.result()
    except (Exception, CheckpointException) as error:
        rank = dist.get_rank()
        found: dict[int, BaseException] = {rank: error}
        if isinstance(error, CheckpointException) and error.failures:
            found = {number: cause for number, (cause, _) in error.failures.items()}
        first = rank if rank in found else min(found)
        cause = found[first]
        line = f"rank {first} could not write a checkpoint to {tempfile.gettempdir()} ({_one_line(cause)})"
        if first == rank and isinstance(cause, OSError) and cause.errno in STORAGE_ERRNOS:
            raise UserError(f"{line}; free space there, or name another folder by TMPDIR") from error
        raise RuntimeError(line) from error


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def trained_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: Averaged | None
) -> dict[str, torch.Tensor]:
    """The tensors of a training's state by name, without copies: trained parameters, optimizer and average.

    The optimizer's hyper-parameters are not part of it; they come from the configuration.
    """
    names = {id(parameter): name for name, parameter in _trained(model).items()}
    state = {f"{MODEL}.{name}": parameter.detach() for name, parameter in _trained(model).items()}
    for parameter, values in optimizer.state.items():
        state |= {f"{OPTIMIZER}.{names[id(parameter)]}.{field}": value for field, value in values.items()}
    return state | _flat(AVERAGE, average.state_dict() if average else {})


def save_state(state: dict[str, torch.Tensor], folder: Path, group: dist.ProcessGroup | None) -> Future[Any]:
    """Write a state's shards in the background; collective.

    Args:
        state: tensors by name, sharded or replicated. They may change as soon as this returns.
        folder: folder of this rank; the ranks' folders together are the checkpoint.
        group: a group of all ranks on CPU, used by nothing else meanwhile.

    Returns:
        A future that is done when all ranks have written.
    """
    saving = async_save(state, storage_writer=FileSystemWriter(folder), process_group=group)
    assert isinstance(saving, Future)
    return saving


def load_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Averaged | None,
    filesystem: pafs.FileSystem,
    path: str,
    group: dist.ProcessGroup | None,
) -> None:
    """Load a state in place, on any number of ranks; collective.

    Args:
        model: module with the parameters that were trained.
        optimizer: optimizer of the trained parameters.
        average: averaged weights, if the state has them.
        filesystem: where the checkpoint is.
        path: its folder there.
        group: a group of all ranks on CPU.

    Raises:
        UserError: the checkpoint cannot be read, or belongs to other parameters.
    """
    reader, trained = CheckpointReader(filesystem, path), _trained(model)
    stored = reader.read_metadata().state_dict_metadata
    state: dict[str, torch.Tensor] = {f"{MODEL}.{name}": parameter.detach() for name, parameter in trained.items()}
    state |= _flat(AVERAGE, average.state_dict() if average else {})
    of_optimizer: dict[str, dict[str, torch.Tensor]] = {}
    for key in (key for key in stored if key.startswith(f"{OPTIMIZER}.")):
        name, _, field = key.removeprefix(f"{OPTIMIZER}.").rpartition(".")
        if name in trained:
            description = stored[key]
            assert isinstance(description, TensorStorageMetadata)  # the reader refuses anything else
            parameter, size = trained[name].detach(), description.size
            value = torch.zeros_like(parameter) if size == parameter.shape else torch.zeros(size)
            state[key] = of_optimizer.setdefault(name, {})[field] = value
    if state.keys() != stored.keys():
        different = sorted(state.keys() ^ stored.keys())
        raise UserError(
            f"the checkpoint {path} belongs to other parameters than those trained now ({different[0]} and "
            f"{len(different) - 1} more); keep the settings in section train, or start another run"
        )
    load(state, storage_reader=reader, process_group=group)
    _fill_optimizer(optimizer, {id(trained[name]): values for name, values in of_optimizer.items()})
    if average:
        average.load_state_dict(average.state_dict())


def _fill_optimizer(optimizer: torch.optim.Optimizer, values: Mapping[int, dict[str, torch.Tensor]]) -> None:
    """Give an optimizer the state of its parameters, which are named by their `id`."""
    content = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    indices = [index for group in content["param_groups"] for index in group["params"]]
    content["state"] = {
        index: values[id(parameter)]
        for index, parameter in zip(indices, parameters, strict=True)
        if id(parameter) in values
    }
    optimizer.load_state_dict(content)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _flat(prefix: str, nested: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Tensors of a nested dictionary by their joined names."""
    flat: dict[str, torch.Tensor] = {}
    for name, value in nested.items():
        flat |= _flat(f"{prefix}.{name}", value) if isinstance(value, Mapping) else {f"{prefix}.{name}": value}
    return flat
