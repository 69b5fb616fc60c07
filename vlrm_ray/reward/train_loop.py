"""The training loop of one Ray Train worker: FSDP2 over all workers, on CPU (gloo) or GPU (nccl).

The gradient of a step is that of the whole batch, whatever the number of workers and the size of micro-batches.
A checkpoint is written after each epoch. The last one also holds the model folder to publish, in `hf/`.
"""

import json
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from ray.train import Checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.functional import cross_entropy

from vlrm_ray import torchvision_shim
from vlrm_ray.config import Config
from vlrm_ray.reward.examples import Example, examples_of, examples_per_pair, global_batches, micro_batches
from vlrm_ray.reward.task import TrainTask
from vlrm_ray.reward.training_data import TrainingData
from vlrm_ray.store.models import local_model

torchvision_shim.install()

from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel  # noqa: E402

from vlrm_ray.reward.collator import Collator  # noqa: E402
from vlrm_ray.reward.publish import write_folder  # noqa: E402

BLOCKS = ("DecoderLayer", "VisionBlock", "EncoderLayer")
"""Endings of the class names of the modules that become FSDP units of their own."""
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
"""Gather the unsharded state on rank 0, on CPU."""
RESTORE = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
"""Load an unsharded state that only rank 0 has."""


def train(task: TrainTask) -> None:
    """Train in this worker; all workers of a round get the same task."""
    Worker(task, TrainingData(task.ledger, task.round)).run()


class Worker:
    """One training process: its shard of the model, its optimizer and its share of every batch.

    Examples are numbered; those of pair i begin at i times `examples_per_pair`. All workers compute the same batches of
    numbers, and each reads only the pairs of its own share.
    """

    def __init__(self, task: TrainTask, data: TrainingData) -> None:
        self.task, self.settings, self.data = task, task.config.train, data
        self.per_pair = examples_per_pair(task.config)
        self.numbers = range(len(data) * self.per_pair)
        self.examples: dict[int, Example] = {}
        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        if self.device.type == "cpu":
            torch.set_num_threads(1)
            torch.set_float32_matmul_precision("medium")  # bfloat16 products on CPUs that support them
        self.initial_model = local_model(task.initial_model, task.ledger)
        self.processor = AutoProcessor.from_pretrained(self.initial_model)
        max_pixels = task.config.prompts.max_pixels
        self.collate = Collator(self.processor, self.initial_model, self.settings.judgement_weight, max_pixels)
        self.model = self._sharded()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.lr = self.settings.lr * self.settings.lr_decay ** (task.round - 1)
        self.optimizer = torch.optim.AdamW(trained, lr=self.lr, weight_decay=self.settings.weight_decay)
        self.steps = self.settings.epochs * len(global_batches(self.numbers, self.settings.batch, 0, 0))
        self.step = 0

    def run(self) -> None:
        """Train from the latest checkpoint, or from the start, to the last epoch; reports a checkpoint per epoch."""
        for epoch in range(self._restore(), self.settings.epochs):
            start = time.perf_counter()
            batches = global_batches(self.numbers, self.settings.batch, epoch, self.task.config.seed + self.task.round)
            self._read_examples([number for batch in batches for number in batch[self.rank :: self.world]])
            losses = [self._train_step(batch) for batch in batches]
            metrics = {
                "epoch": epoch + 1,
                "loss": sum(losses) / len(losses),
                "seconds": time.perf_counter() - start,
                "examples": len(self.numbers),
            }
            self._report(metrics, last=epoch + 1 == self.settings.epochs)

    def _read_examples(self, numbers: list[int]) -> None:
        """Read this worker's examples of an epoch, in place of those of the epoch before."""
        pairs = self.data.read({number // self.per_pair for number in numbers})
        of_pair = {index: examples_of(pair, self.task.config) for index, pair in pairs.items()}
        self.examples = {number: of_pair[number // self.per_pair][number % self.per_pair] for number in numbers}

    def _train_step(self, batch: list[int]) -> float:
        """One optimizer step over the whole batch, given by numbers of examples, of which this worker computes its share.

        Returns:
            The batch's loss: the weighted sum of token losses over all workers, divided by the sum of weights.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * _schedule(self.step, self.steps)
        shares = micro_batches(batch, self.rank, self.world, self.settings.micro_batch)
        collated = [self.collate([self.examples[number] for number in share]) for share in shares]
        total_weight = torch.stack([weights[:, 1:].sum() for _, weights in collated]).sum().to(self.device)
        dist.all_reduce(total_weight)
        loss = torch.zeros((), device=self.device)
        for index, (inputs, weights) in enumerate(collated):
            self.model.set_requires_gradient_sync(index + 1 == len(collated))
            partial_loss = self._loss(inputs, weights) / total_weight
            (partial_loss * self.world).backward()  # FSDP averages gradients over workers; a sum is needed
            loss += partial_loss.detach()
        dist.all_reduce(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return float(loss)

    def _loss(self, inputs: dict[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Weighted sum of the token losses of a micro-batch, a scalar; `weights` has shape (rows, length)."""
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        logits = self.model(**inputs, use_cache=False).logits[:, :-1]
        targets, target_weights = inputs["input_ids"][:, 1:], weights[:, 1:].to(self.device)
        learned = target_weights > 0
        losses = cross_entropy(logits[learned].float(), targets[learned], reduction="none")
        # the second term gives every parameter a gradient, also in a micro-batch without targets
        total: torch.Tensor = (losses * target_weights[learned]).sum() + 0.0 * logits.sum()
        return total

    def _sharded(self) -> Any:
        """Load the initial model in float32, add adapters if configured, and shard it over all workers."""
        model = AutoModelForImageTextToText.from_pretrained(self.initial_model, dtype=torch.float32)
        model.train()
        if self.device.type == "cpu":
            model.set_attn_implementation("eager")  # on CPU faster than sdpa for short sequences
        if self.settings.lora.rank:
            model = _with_adapters(model, self.task.config)
        model = model.to(self.device)
        mesh = init_device_mesh(self.device.type, (self.world,))
        mixed_precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        policy = mixed_precision if self.device.type == "cuda" else MixedPrecisionPolicy()
        for module in list(model.modules()):
            if type(module).__name__.endswith(BLOCKS):
                fully_shard(module, mesh=mesh, mp_policy=policy)
        sharded = fully_shard(model, mesh=mesh, mp_policy=policy)
        assert isinstance(sharded, FSDPModule)
        return sharded

    def _restore(self) -> int:
        """Load the latest checkpoint, if there is one; returns the index of the epoch to train next."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return 0
        with checkpoint.as_directory() as folder:
            state: dict[str, Any] = {"model": {}, "optimizer": {}}
            if self.rank == 0:
                state = torch.load(Path(folder, "state.pt"), weights_only=True)
            set_model_state_dict(self.model, state["model"], options=RESTORE)
            set_optimizer_state_dict(self.model, self.optimizer, state["optimizer"], options=RESTORE)
            progress = json.loads(Path(folder, "progress.json").read_text())
        self.step = int(progress["step"])
        return int(progress["epoch"])

    def _report(self, metrics: dict[str, Any], *, last: bool) -> None:
        """Report metrics and a checkpoint to Ray Train. Collective: every worker must call it."""
        model = get_model_state_dict(self.model, options=FULL)
        optimizer = get_optimizer_state_dict(self.model, self.optimizer, options=FULL)
        with _temporary_folder(self.rank) as folder:
            if folder is not None:
                torch.save({"model": model, "optimizer": optimizer}, folder / "state.pt")
                (folder / "progress.json").write_text(json.dumps({"epoch": metrics["epoch"], "step": self.step}))
                if last:
                    self._write_model(model, folder / "hf", metrics)
            checkpoint = None if folder is None else Checkpoint.from_directory(str(folder))
            ray.train.report(metrics, checkpoint=checkpoint, checkpoint_dir_name=f"epoch-{metrics['epoch']:04d}")

    def _write_model(self, state: dict[str, Any], folder: Path, metrics: dict[str, Any]) -> None:
        """Write the model folder to publish, with adapters merged into the weights; on rank 0 only."""
        config = self.task.config
        model: Any = AutoModelForImageTextToText.from_pretrained(self.initial_model, dtype=torch.float32)
        if self.settings.lora.rank:
            model = _with_adapters(model, config)
        model.load_state_dict(state)
        if self.settings.lora.rank:
            model = model.merge_and_unload()
        metadata = {
            "version": self.task.round,
            "base_model": config.critic.model,
            "loss": metrics["loss"],
            "examples": len(self.examples),
        }
        write_folder(
            model.to(getattr(torch, config.critic.engine.dtype)).eval(),
            self.processor,
            folder,
            config.critic.format,
            metadata,
        )


def _with_adapters(model: PreTrainedModel, config: Config) -> Any:
    """The model with LoRA adapters (peft)."""
    from peft import LoraConfig, get_peft_model

    lora = config.train.lora
    torch.manual_seed(config.seed)  # the same initial adapters on all workers
    return get_peft_model(model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets))


def _schedule(step: int, steps: int) -> float:
    """Factor on the learning rate: linear warm-up over a tenth of the steps, then cosine decay to a tenth of the peak."""
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@contextmanager
def _temporary_folder(rank: int) -> Iterator[Path | None]:
    """A temporary folder on rank 0, None on all other ranks."""
    if rank:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
