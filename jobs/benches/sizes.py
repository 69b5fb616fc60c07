"""Compute how many GPUs a run needs for what, and how long a round takes, for the tables of docs/cluster.md.

    python jobs/bench.py sizes

The tables are those of the sizes and the figures in this module; a configuration changes nothing.

A round has three kinds of GPU work. For each prompt, in GPU seconds:

    generate   vision tower and prompt once, then all responses, token by token
    judge      the pair's image and prompt once, then its critiques of both sides
    train      three examples for each pair that is kept

Training: `train_paper.py`, from the share of the peak that was measured on one GPU, times the measured gain of the shared
prefix. Engines: FLOPs at the share of the peak that one engine reached on one GPU. Evaluation, starts and data stages are
left out. Experts look at the images while the engines work: the table has the CPUs with which they keep up.

Generate and judge are one stream, and train comes after it:

    disaggregated   each has its own GPUs, split so that max(generate, judge) + train is shortest
    phased          all GPUs for the stream, then all for the training; the engines start again in each round
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil

from jobs.benches.train_paper import GPU_GB, PEAK, TOKENS, Case, Sizes, sizes_of, step_of

PROMPTS = 8192
"""Prompts of a round, as in jobs/configs/qwen2_5_vl_7b.yaml."""
IMAGE_TOKENS, TEXT_TOKENS = 1024, 100
RESPONSES, RESPONSE_TOKENS = 8, 256
JUDGED, KEPT = 1.0, 0.5
"""Pairs for each prompt, for which critiques are written, and the share of them that is kept for the training: assumed."""
FEW_JUDGED = 0.09
"""Pairs for each prompt of the run in docs/photographs.md: 59 pairs of 640 prompts."""
CRITIQUES, CRITIQUE_TOKENS, INSTRUCTIONS = 8, 400, 300
"""Critiques of a pair (k = 4 for each side), their length, and the instructions of a side: assumed."""
PAIR_TOKENS = 3 * (IMAGE_TOKENS + TEXT_TOKENS + RESPONSE_TOKENS) + 2 * (INSTRUCTIONS + CRITIQUE_TOKENS)
"""Tokens of a pair's three examples: the critiques of both sides, with their instructions, and the better response."""
EXAMPLE_TOKENS, PATCHES = PAIR_TOKENS / 3, 4 * IMAGE_TOKENS / PAIR_TOKENS
"""Tokens of an example, and patches per token: four make a token, and a pair's image is once for its three examples."""
VISION_FLOPS = 5.5e12
"""The vision tower on an image of `IMAGE_TOKENS`."""
ENGINE_SHARE = 192 * (2e9 * 7.6 * (576 + 64 + 6 * 128) + VISION_FLOPS * 576 / IMAGE_TOKENS) / 17.1 / PEAK
"""Share of the peak that an engine reaches: measured on one H200 with the 7B shape, 0.28.

192 requests with 576 tokens of an image and some 64 of text, each for 6 answers of 128 tokens, took 17.1 s with
`max_num_seqs=256` (`python -m tests.gpu.generation`).
"""
SHARED_PREFIX = 26.5 / 17.4
"""How many times as fast a training is with `train.shared_prefix`: measured on one H200, 7B with LoRA, compiled.

Measured with examples of 819 tokens, 36 % of which were computed once for several; of `PAIR_TOKENS` that is 41 % at most.
"""

READ_SECONDS, DETECT_SECONDS = 0.4, 0.8
"""CPU seconds of the experts for an image: measured with YOLOv8 m and PP-OCRv6 small (docs/photographs.md), on a slow core."""


@dataclass(frozen=True)
class Model:
    """A model and how it is run.

    Attributes:
        case: its training.
        parameters: of the language model, in 1e9.
        tensor_parallel: GPUs of 80 GB for one engine.
    """

    case: Case
    parameters: float
    tensor_parallel: int


MODELS = (Model(Case("7B", 64, 0.43), 7.6, 1), Model(Case("32B", 64, 0.43, checkpointing=True), 32.8, 2))


@dataclass(frozen=True)
class Plan:
    """A split of GPUs, and what it gives.

    Attributes:
        generate: GPUs of the policy generators.
        judge: GPUs of the critique writers.
        train: GPUs of the train workers.
        seconds: of a round.
        stream: seconds of it in which the engines and the experts work.
        idle: share of the GPUs' time without work, 0 to 1.
    """

    generate: int
    judge: int
    train: int
    seconds: float
    stream: float
    idle: float

    @property
    def images(self) -> float:
        """Images per second that the experts look at if they do not hold back the engines: one for each prompt."""
        return PROMPTS / self.stream

    @property
    def expert_cpus(self) -> tuple[int, int]:
        """CPUs that read, and CPUs that detect, that many images per second."""
        return ceil(READ_SECONDS * self.images), ceil(DETECT_SECONDS * self.images)


def generate_seconds(model: Model) -> float:
    """GPU seconds to write the responses to one prompt."""
    tokens = IMAGE_TOKENS + TEXT_TOKENS + RESPONSES * RESPONSE_TOKENS
    return (2e9 * model.parameters * tokens + VISION_FLOPS) / (ENGINE_SHARE * PEAK)


def judge_seconds(model: Model, judged: float = JUDGED) -> float:
    """GPU seconds to write the critiques of one prompt's pairs, of which there are `judged`."""
    sides = 2 * (RESPONSE_TOKENS + INSTRUCTIONS)
    tokens = IMAGE_TOKENS + TEXT_TOKENS + sides + CRITIQUES * CRITIQUE_TOKENS
    return judged * (2e9 * model.parameters * tokens + VISION_FLOPS) / (ENGINE_SHARE * PEAK)


@cache
def _sizes(case: Case) -> Sizes:
    return sizes_of(case, EXAMPLE_TOKENS, PATCHES)


def train_rates(model: Model, gpus: int) -> dict[int, float]:
    """Examples per second by number of GPUs on which the training fits, up to `gpus`."""
    sizes, rates = _sizes(model.case), {}
    for count in range(1, gpus + 1):
        step = step_of(model.case, sizes, count)
        if sum(step.memory.values()) <= GPU_GB * 1e9:
            rates[count] = SHARED_PREFIX * count * TOKENS / EXAMPLE_TOKENS / (step.compute + step.exposed)
    return rates


def disaggregated(model: Model, gpus: int, rates: dict[int, float]) -> Plan:
    """The split with the shortest round. `rates` are those of `train_rates`."""
    return min(
        (
            _plan(model, writers, engines - writers, train, rates)
            for train in rates
            for engines in [(gpus - train) // model.tensor_parallel * model.tensor_parallel]
            for writers in range(model.tensor_parallel, engines, model.tensor_parallel)
        ),
        key=lambda plan: plan.seconds,
    )


def phased(model: Model, gpus: int, rates: dict[int, float]) -> Plan:
    """All GPUs for engines, then all for the training; without the start of the engines."""
    step = model.tensor_parallel
    plans = (_plan(model, writers, gpus - writers, gpus, rates, shared=True) for writers in range(step, gpus, step))
    return min(plans, key=lambda plan: plan.seconds)


def _plan(
    model: Model, writers: int, judges: int, train: int, rates: dict[int, float], *, shared: bool = False
) -> Plan:
    """The round of a split; `shared` if the train workers have the engines' GPUs."""
    write, judge = PROMPTS * generate_seconds(model), PROMPTS * judge_seconds(model)
    learn = 3 * KEPT * JUDGED * PROMPTS / rates[train]
    stream = max(write / writers, judge / judges)
    seconds = stream + learn
    gpus = train if shared else train + writers + judges
    return Plan(writers, judges, train, seconds, stream, 1 - (write + judge + learn * train) / (gpus * seconds))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options."""


def run(arguments: argparse.Namespace) -> None:
    """Print the tables of docs/cluster.md."""
    print("\n".join([*rounds_table(), "", *costs_table()]))


def rounds_table() -> Iterator[str]:
    """Rows of the table of rounds."""
    yield "| model | GPUs | disaggregated: generate + judge + train | minutes per round | idle | experts: images/s, CPUs to read + detect | phased: minutes, and the start of the engines |"
    yield "|---|---|---|---|---|---|---|"
    for model in MODELS:
        for gpus in (8, 16, 64):
            rates = train_rates(model, gpus)
            own, shared = disaggregated(model, gpus, rates), phased(model, gpus, rates)
            split = f"{own.generate} + {own.judge} + {own.train}"
            experts = "{:.0f}: {} + {}".format(own.images, *own.expert_cpus)
            yield (
                f"| {model.case.shape}, LoRA | {gpus} | {split} | {own.seconds / 60:.1f} | {own.idle:.0%} | "
                f"{experts} | {shared.seconds / 60:.1f} |"
            )


def costs_table() -> Iterator[str]:
    """Rows of the table of what costs what: with the assumed number of pairs, and for the small model with few."""
    yield "| model | pairs per prompt | generate | judge | train | GPU hours per round | GPU hours per 10,000 kept pairs |"
    yield "|---|---|---|---|---|---|---|"
    for model, judged in (*((model, JUDGED) for model in MODELS), (MODELS[0], FEW_JUDGED)):
        rates = train_rates(model, 8)
        learn = 3 * KEPT * judged / (rates[8] / 8)
        parts = (generate_seconds(model), judge_seconds(model, judged), learn)
        shares = " | ".join(f"{part / sum(parts):.0%}" for part in parts)
        hours = PROMPTS * sum(parts) / 3600
        per_kept = hours * 1e4 / (KEPT * judged * PROMPTS)
        yield f"| {model.case.shape}, LoRA | {judged:g} | {shares} | {hours:.1f} | {per_kept:.1f} |"
