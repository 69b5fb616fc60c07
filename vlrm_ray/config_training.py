"""Section of the configuration that says how the reward model is fine-tuned in each round."""

from typing import Literal

from pydantic import Field

from vlrm_ray.config_resources import Section


class Lora(Section):
    """Low-rank adapters (LoRA, by peft)."""

    rank: int = Field(0, ge=0)
    """Rank of the adapters; 0 trains all weights instead."""
    alpha: float = Field(32, gt=0)
    """Scaling factor (lora_alpha) of the adapters."""
    targets: str = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    """Regular expression that matches the names of the modules to adapt."""


class Train(Section):
    """Fine-tuning of the reward model in each round."""

    workers: int = Field(2, ge=1)
    """Training processes; the model is sharded over them by FSDP2."""
    cpus: float = Field(0.5, ge=0)
    """Logical CPUs reserved per worker."""
    gpus: float = Field(0, ge=0)
    """GPUs reserved per worker; 0 trains on CPU with gloo, otherwise on GPU with nccl."""
    epochs: int = Field(3, ge=1)
    """Passes over the round's selected pairs."""
    batch: int = Field(32, ge=1)
    """Examples per optimizer step, over all workers; rounded up to whole pairs, whose examples travel together."""
    max_tokens: int = Field(8192, ge=1)
    """Most tokens of a forward pass of one worker. An example that is longer is dropped and counted."""
    packing: bool = True
    """Place sequences one after the other without padding; `false` pads them to rows of equal length."""
    shared_prefix: bool = True
    """Compute what the sequences of a pair have in common (image, question) once; needs packing."""
    checkpointing: Literal["none", "blocks"] = "none"
    """`blocks` keeps only the inputs of the model's blocks for the backward pass and computes the rest again."""
    compile: bool = False
    """Compile the model's blocks with torch.compile, on GPUs only; pays from some hundred steps on."""
    loader_workers: int = Field(1, ge=1)
    """Threads of each worker that read images and prepare micro-batches ahead of the training step."""
    lr: float | None = Field(None, gt=0)
    """Peak learning rate of AdamW in round 1. Unset: 1e-4 with LoRA; otherwise 1e-3 below 0.1B parameters, else 1e-5."""
    lr_scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after warm-up."""
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    """Share of a round's steps over which the learning rate rises linearly."""
    min_lr_ratio: float = Field(0.1, ge=0, le=1)
    """Learning rate at the end, as a share of the peak."""
    lr_decay: float = Field(0.55, gt=0, le=1)
    """Factor on the peak learning rate from one round to the next, if training goes on from the newest version."""
    initial: Literal["newest", "base"] = "newest"
    """What each round's training starts from: the newest version, or `critic.model`, which needs `replay`."""
    replay: float = Field(0, ge=0)
    """Pairs of earlier rounds that are trained again, per pair of the round; a large number takes all."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of AdamW; norms and biases have none."""
    freeze: tuple[Literal["vision", "language"], ...] | None = None
    """Parts of the model that are not trained. Unset: `[vision]` from 1B parameters on, otherwise nothing."""
    average: float = Field(0, ge=0, lt=1)
    """Decay of an exponential mean of the weights over the steps, which is published; 0 publishes the last weights."""
    judgement_weight: float = Field(8.0, gt=0)
    """Loss weight of the Yes or No token; the other tokens of a critique have weight 1."""
    response_weight: float = Field(0.1, ge=0)
    """Loss weight (lambda) of the tokens of the chosen response."""
    description_weight: float = Field(0, ge=0)
    """Loss weight of descriptions of all of the round's images as the experts saw them; 0 trains on none."""
    balance: bool = False
    """Whether critiques are weighted so that each wording (a number, a color, "no") is right as often as wrong."""
    clip: float = Field(1.0, gt=0)
    """Maximum gradient norm."""
    lora: Lora = Lora()
    """Low-rank adapters instead of full fine-tuning."""
    max_failures: int = Field(2, ge=0)
    """Worker crashes tolerated per training; after each, training resumes from the latest checkpoint."""
    checkpoint_steps: int = Field(0, ge=0)
    """Steps between checkpoints; there is one at the end of each epoch too."""
    max_skipped: int = Field(5, ge=0)
    """Steps in a row with a loss or gradient that is not finite; they are skipped, and one more ends the training."""
    start_timeout: int = Field(240, ge=10)
    """Timeout in seconds for the training workers to get their resources."""
    step_timeout: int = Field(1800, ge=10)
    """Timeout in seconds of a collective operation among the training workers."""
