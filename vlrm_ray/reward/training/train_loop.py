"""The training loop of one Ray Train worker: FSDP2 over all workers, on CPU (gloo) or GPU (nccl).

The gradient of a step is that of the whole batch, whatever the number of workers and the size of micro-batches.

    pairs of the step -> loader threads: tokens, images, micro-batches -> forward and backward -> AdamW -> record
"""

import resource
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist

from vlrm_ray import torchvision_shim
from vlrm_ray.errors import UserError
from vlrm_ray.ids import sha256_of_file
from vlrm_ray.reward.model_folder import card_scoring, refuse_packing
from vlrm_ray.reward.training.activity import doing
from vlrm_ray.reward.training.examples import dealt, examples_of, examples_per_pair, global_batches, pairs_per_batch
from vlrm_ray.reward.training.task import TrainTask
from vlrm_ray.reward.training.temporary_folders import TemporaryFolders
from vlrm_ray.reward.training.training_data import Item, TrainingPair, TrainingSet
from vlrm_ray.store.models import local_model

torchvision_shim.install()

from transformers import AutoProcessor  # noqa: E402

from vlrm_ray.reward.publish import write_folder  # noqa: E402
from vlrm_ray.reward.training import packed_attention  # noqa: E402
from vlrm_ray.reward.training.checkpoints import Checkpoints  # noqa: E402
from vlrm_ray.reward.training.collator import Collator, MicroBatch, PairTrees  # noqa: E402
from vlrm_ray.reward.training.flops import model_flops, peak_flops  # noqa: E402
from vlrm_ray.reward.training.loader import BackgroundLoader  # noqa: E402
from vlrm_ray.reward.training.losses import Learner, positions_of  # noqa: E402
from vlrm_ray.reward.training.optimizer import WeightAverage, build_optimizer, lr_factor, peak_lr, restart  # noqa: E402
from vlrm_ray.reward.training.packing import CRITIQUE, JUDGEMENT, RESPONSE  # noqa: E402
from vlrm_ray.reward.training.sharded_model import (  # noqa: E402
    base_model,
    block_modules,
    load_weights,
    meta_model,
    parameter_count,
    shard,
)
from vlrm_ray.reward.training.step_records import StepRecord, StepRecorder  # noqa: E402


def train(task: TrainTask) -> None:
    """Train in this worker; all workers of a round get the same task."""
    context = ray.train.get_context()
    place = Place(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    Worker(task, TrainingSet(task.config, task.ledger, task.round), place).run()


@dataclass(frozen=True)
class Place:
    """Where a worker runs.

    Attributes:
        rank: number of the worker among all workers; 0 is the first.
        world: number of workers.
        device: its device.
    """

    rank: int
    world: int
    device: torch.device


@dataclass
class StepData:
    """What one worker contributes to a step.

    Attributes:
        pair_ids: ids of its pairs.
        batches: its micro-batches.
        dropped: number of examples left out, by reason.
    """

    pair_ids: list[str]
    batches: list[MicroBatch]
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass
class Totals:
    """Sums over an epoch's steps, of all workers where not stated otherwise.

    Attributes:
        losses: losses of the steps.
        tokens: trained tokens.
        waited: seconds that this worker waited for data.
        skipped: steps with a loss or gradient that is not finite.
        dropped: examples left out by this worker, by reason.
    """

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    waited: float = 0.0
    skipped: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Worker:
    """One training process: its shard of the model, its optimizer and its share of every batch.

    All workers compute the same batches of pair numbers, and each reads only the pairs of its own share.
    """

    def __init__(self, task: TrainTask, data: TrainingSet, place: Place) -> None:
        self.task, self.settings, self.data = task, task.config.train, data
        self.rank, self.world, self.device = place.rank, place.world, place.device
        self.items: dict[int, Item] = {}
        if self.device.type == "cpu":
            torch.set_num_threads(1)
            torch.set_float32_matmul_precision("medium")  # bfloat16 products on CPUs that support them
        self.folders = TemporaryFolders(task.ledger.uri, self.rank)
        self.folders.clear()
        doing("loading the model")
        self.initial_model = local_model(task.initial_model, task.ledger)
        self.processor = AutoProcessor.from_pretrained(self.initial_model)
        self.model = meta_model(self.initial_model, self.settings, self.device)
        self.collator = self._collator()
        self.learner = self._learner()
        self.lr = peak_lr(self.settings, parameter_count(self.model), task.round)
        self.optimizer = build_optimizer(self.model, self.lr, self.settings, self.device)
        self.average = WeightAverage(self.model) if self.settings.fits > 1 else None
        self.checkpoints = Checkpoints(
            self.model, self.optimizer, self.average, self.folders, self.settings.step_timeout
        )
        self.flops = model_flops(self.model)
        self.peak = peak_flops(torch.cuda.get_device_name(self.device)) if self.device.type == "cuda" else None
        self.loader = BackgroundLoader(self.prepare, self.settings.loader_workers, self.settings.step_timeout)
        self.recorder = StepRecorder(task.board if self.rank == 0 else None)
        self.per_batch = pairs_per_batch(task.config)
        self.per_epoch = -(-data.pairs // self.per_batch)
        self.epochs = self.settings.fits * self.settings.epochs
        self.steps = self.epochs * self.per_epoch
        self.step = self.skipped_in_a_row = 0

    def run(self) -> None:
        """Train from the latest checkpoint, or from the start, to the last epoch of the last fit; a checkpoint per epoch."""
        doing("reading the checkpoint")
        self.step = int((self.checkpoints.restore() or {"step": 0})["step"])
        for epoch in range(self.step // self.per_epoch, self.epochs):
            start, totals = time.perf_counter(), Totals()
            seed = self.task.config.seed + self.task.round
            pairs, descriptions = range(self.data.pairs), range(self.data.pairs, len(self.data))
            batches = global_batches(pairs, self.per_batch, epoch, seed, descriptions)[self.step % self.per_epoch :]
            shares = [dealt(batch, self.data.sizes, self.world)[self.rank] for batch in batches]
            doing("reading the pairs")
            self.items = self.data.read([number for share in shares for number in share])
            totals.waited = time.perf_counter() - start
            waited = self.loader.waited
            for data in self.loader(shares):
                self.train_step(epoch, data, self.loader.waited - waited, totals)
                waited = self.loader.waited
                every = self.settings.checkpoint_steps
                if every and self.step % every == 0 and self.step % self.per_epoch:
                    self.checkpoints.save({"step": self.step}, {"epoch": epoch, "step": self.step})
            self._end_epoch(epoch, totals, time.perf_counter() - start)
        self.recorder.close()
        self.checkpoints.finish()

    def _collator(self) -> Collator:
        settings = self.settings
        return Collator(
            self.processor,
            self.initial_model,
            positions_of(base_model(self.model)),
            judgement_weight=settings.judgement_weight,
            max_tokens=settings.max_tokens,
            packing=settings.packing,
            shared_prefix=settings.shared_prefix,
            max_pixels=self.task.config.prompts.max_pixels,
        )

    def _learner(self) -> Any:
        """The model with its losses: sharded, then loaded."""
        base = base_model(self.model)
        refuse_packing(self.initial_model, base.config.to_dict(), self.settings)
        if self.settings.packing:
            packed_attention.install(base)
        elif self.device.type == "cpu":
            base.set_attn_implementation("eager")  # on CPU faster than sdpa for short sequences
        if self.settings.checkpointing == "blocks":
            # without dropout there is no random state to restore, and reading it would wait for the GPU
            base.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        if self.settings.compile and self.device.type == "cuda":
            for block in block_modules(self.model):
                block.forward = torch.compile(block.forward)
        learner = shard(Learner(self.model, self.collator.labels), self.device, self.world)
        load_weights(self.model, self.initial_model, self.device, self.task.config.seed)
        return learner

    def prepare(self, numbers: Sequence[int]) -> StepData:
        """This worker's part of a step, from the numbers of its items; runs in the loader's threads."""
        pairs = [self._read(self.items[number]) for number in numbers]
        dropped: Counter[str] = Counter()
        for pair in pairs:
            dropped.update(pair.dropped)
        return StepData([pair.pair_id for pair in pairs], self.collator.micro_batches(pairs), dropped)

    def _read(self, item: Item) -> PairTrees:
        name = item.pair_id if isinstance(item, TrainingPair) else f"of the image {item.sha256[:16]}"
        return self.collator.read_pair(name, examples_of(item, self.task.config), item.image)

    def train_step(self, epoch: int, data: StepData, waited: float, totals: Totals) -> StepRecord:
        """One optimizer step over the whole batch, of which this worker computes its share.

        The loss is the weighted sum of token losses over all workers, divided by the sum of weights.

        Args:
            epoch: index of the epoch, over all fits; the first is 0.
            data: this worker's share.
            waited: seconds that it waited for the share.
            totals: sums of the epoch, to which the step is added.
        """
        start = time.perf_counter() - waited
        doing(f"step {self.step + 1} of {self.steps}")
        of_fit = self.settings.epochs * self.per_epoch
        lr = self.lr * lr_factor(self.step % of_fit, of_fit, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        weight, batches = self._agree(data.batches)
        loss, parts = torch.zeros((), device=self.device), torch.zeros(3, 3, device=self.device)
        work = torch.zeros(2, dtype=torch.float64, device=self.device)
        for batch in batches:
            losses = self.learner(batch.to(self.device))
            partial_loss = losses.total / weight
            (partial_loss * self.world).backward()  # FSDP averages gradients over workers; a sum is needed
            loss += partial_loss.detach()
            parts += losses.parts
            work += torch.tensor([batch.tokens, self._flops(batch)], dtype=torch.float64, device=self.device)
        for tensor in (loss, parts, work):
            dist.all_reduce(tensor)
        norm = self._update(loss)
        self.step += 1
        seconds = time.perf_counter() - start
        record = self._record(epoch, float(loss), parts.tolist(), norm, lr, work.tolist(), seconds, waited)
        self._count(totals, record, data)
        return record

    def _agree(self, batches: list[MicroBatch]) -> tuple[torch.Tensor, list[MicroBatch]]:
        """The weight of all workers' tokens, and this worker's micro-batches, of which all workers get equally many.

        Their forward and backward passes are collective operations.
        """
        weight = torch.stack([torch.zeros(()), *(batch.targets.weights.sum() for batch in batches)]).sum()
        weight, count = weight.to(self.device), torch.tensor(max(1, len(batches)), device=self.device)
        dist.all_reduce(weight)
        dist.all_reduce(count, dist.ReduceOp.MAX)
        missing = int(count) - len(batches)
        return weight, batches + [self.collator.empty()] * missing

    def _update(self, loss: torch.Tensor) -> float:
        """Clip the gradient and update the weights, if loss and gradient are finite; returns the gradient's norm.

        The loss of a step of which all examples were dropped is 0 / 0.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        value = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        finite = torch.isfinite(loss) and torch.isfinite(torch.tensor(value))
        if finite:
            self.optimizer.step()
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        self.optimizer.zero_grad(set_to_none=True)
        return value

    def _flops(self, batch: MicroBatch) -> float:
        """FLOPs of a micro-batch; the attention of the vision tower is left out, because most of it is in windows."""
        return self.flops.step(batch.tokens, len(batch.targets.ids), batch.attended, batch.patches)

    def _record(
        self, epoch: int, loss: float, parts: list[list[float]], norm: float, lr: float, work: list[float],
        seconds: float, waited: float,
    ) -> StepRecord:  # fmt: skip
        """Send and return the record of the step."""
        tokens, flops = work
        means = [total / count if count else None for total, count, _ in parts]
        judgements, right = parts[JUDGEMENT][1:]
        record = StepRecord(
            round=self.task.round,
            epoch=epoch + 1,
            step=self.step,
            steps=self.steps,
            loss=loss,
            loss_critique=means[CRITIQUE],
            loss_judgement=means[JUDGEMENT],
            loss_response=means[RESPONSE],
            accuracy=right / judgements if judgements else None,
            grad_norm=norm,
            lr=lr,
            tokens=int(tokens),
            seconds=seconds,
            wait_seconds=waited,
            tokens_per_second=tokens / seconds,
            mfu=flops / seconds / (self.peak * self.world) if self.peak else None,
            memory_gb=self.peak_memory() / 1e9,
            skipped=int(self.skipped_in_a_row > 0),
        )
        self.recorder.add(record)
        return record

    def _count(self, totals: Totals, record: StepRecord, data: StepData) -> None:
        """Add a step to the epoch's sums; too many skipped ones in a row end the training."""
        totals.tokens += record.tokens
        totals.waited += record.wait_seconds
        totals.skipped += record.skipped
        totals.dropped.update(data.dropped)
        if not record.skipped:
            totals.losses.append(record.loss)
        if self.skipped_in_a_row > self.settings.max_skipped:
            everyone: list[Any] = [None] * self.world
            dist.all_gather_object(everyone, data.pair_ids)
            ids = [pair_id for ids in everyone for pair_id in ids]
            dropped = "".join(f"; examples dropped by this worker: {n} {why}" for why, n in totals.dropped.items())
            raise UserError(
                f"loss or gradient were not finite in {self.skipped_in_a_row} steps in a row "
                f"(train.max_skipped={self.settings.max_skipped}); the last one trained the pairs {', '.join(ids[:8])}"
                f"{' ...' if len(ids) > 8 else ''}; lower train.lr, or look at these pairs{dropped}"
            )

    def _end_epoch(self, epoch: int, totals: Totals, seconds: float) -> None:
        """Report the epoch with a checkpoint; the last one holds the model folder to publish."""
        doing(f"the end of epoch {epoch + 1}")
        everyone: list[Any] = [None] * self.world
        dist.all_gather_object(everyone, totals.dropped)
        dropped = dict(sum(everyone, Counter()))
        examples = self.data.pairs * examples_per_pair(self.task.config) + self.data.descriptions
        if sum(dropped.values()) >= examples:
            raise UserError(
                f"no example is left to train on: {', '.join(f'{reason} {count}' for reason, count in dropped.items())} "
                f"of {examples}; train.max_tokens is {self.settings.max_tokens}"
            )
        metrics = {
            "epoch": epoch + 1,
            "step": self.step,
            "loss": sum(totals.losses) / max(1, len(totals.losses)),
            "seconds": seconds,
            "examples": examples - sum(dropped.values()),
            "dropped": dropped,
            "skipped": totals.skipped,
            "tokens_per_second": totals.tokens / seconds,
            "wait_share": totals.waited / seconds,
            "memory_gb": self.peak_memory() / 1e9,
        }
        folder, is_last = None, epoch + 1 == self.epochs
        if self.average is not None and (epoch + 1) % self.settings.epochs == 0:
            self.average.end_fit(is_last=is_last)
            restart(self.optimizer)
        if is_last:
            folder = self._write_model(metrics)
            metrics["files"] = self._hashes(folder)
        self.checkpoints.save({"step": self.step}, metrics, folder)

    def _write_model(self, metrics: dict[str, Any]) -> Path:
        """Write this worker's files of the model folder to publish; returns their folder."""
        config, folder = self.task.config, self.folders.new("model")
        metadata = {
            "version": self.task.round,
            "base_model": config.critic.model,
            "loss": metrics["loss"],
            "examples": metrics["examples"],
            "scoring": card_scoring(config),
        }
        write_folder(
            self.learner,
            self.processor,
            folder,
            config.critic.format,
            metadata,
            dtype=getattr(torch, config.critic.engine.dtype),
            rank=self.rank,
            world=self.world,
            initial_model=self.task.initial_model,
        )
        return folder

    def _hashes(self, folder: Path) -> dict[str, str]:
        """The sha256 of the files that all workers have written, by their names in the model folder. Collective."""
        doing("hashing the model")
        own = {str(path.relative_to(folder)): sha256_of_file(path) for path in folder.rglob("*") if path.is_file()}
        everyone: list[Any] = [None] * self.world
        dist.all_gather_object(everyone, own)
        return {name: sha256 for files in everyone for name, sha256 in files.items()}

    def peak_memory(self) -> int:
        """Peak memory in bytes: of the device, or of this process on CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
