"""Sections of the configuration about machines: engines, actor pools, the Ray cluster, and training."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Role = Literal["generate", "judge", "train", "expert", "cpu"]
"""What a process of a run does, for its place in the cluster: policy generators and the claim extractor (`generate`), critique
writers (`judge`), train workers (`train`), detectors and text readers (`expert`), data stages (`cpu`)."""
ROLES: tuple[Role, ...] = get_args(Role)
LABEL_KEY = re.compile(r"([\w.-]{1,253}/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?")
LABEL_CONDITION = re.compile(r"!?(in\([\w.-]+(, ?[\w.-]+)*\)|[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)")
"""Conditions on a node's label that Ray understands: `train`, `!train`, `in(train, judge)` or `!in(train, judge)`."""


class Section(BaseModel):
    """Base class of all sections: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Engine(Section):
    """How a model is served."""

    kind: Literal["vllm", "transformers"] = "vllm"
    """Inference library: `vllm`, or `transformers` for platforms without vLLM."""
    actors: int = Field(1, ge=1)
    """Number of long-lived Ray actors, each with its own copy of the model."""
    max_actors: int = Field(0, ge=0)
    """With more than `actors`, their number grows up to this while requests wait, and shrinks again; not if `reproducible`."""
    cpus: float = Field(0.25, ge=0)
    """Logical CPUs reserved per actor."""
    gpus: float = Field(0, ge=0)
    """GPUs reserved per actor, multiplied by `tensor_parallel`; 0 runs on CPU."""
    tensor_parallel: int = Field(1, ge=1)
    """Number of GPUs that one copy of the model is sharded over."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the weights."""
    max_model_len: int = Field(512, ge=64)
    """Maximum length of prompt and answer together, in tokens; image tokens count."""
    max_num_seqs: int = Field(256, ge=1)
    """Maximum number of sequences decoded at the same time."""
    kv_cache_mb: int = Field(160, ge=16)
    """Memory for the KV cache in MiB, on CPU only."""
    gpu_memory: float = Field(0.85, gt=0, le=1)
    """Share of the GPU memory that vLLM may use, 0 to 1; at most 0.9 times `gpus` if that is below 1."""
    reproducible: bool | None = None
    """Whether a part is one batch, so that a part made again is the same; false keeps engines full. Default: without GPUs."""

    @property
    def is_reproducible(self) -> bool:
        """`reproducible`, or whether the engine runs without GPUs."""
        return self.gpus == 0 if self.reproducible is None else self.reproducible

    @property
    def most_actors(self) -> int:
        """Largest number of actors."""
        return max(self.actors, self.max_actors)

    @model_validator(mode="after")
    def _fixed_if_reproducible(self) -> "Engine":
        if self.most_actors > self.actors and self.is_reproducible:
            raise ValueError(
                f"max_actors ({self.max_actors}) lets the number of actors change, on which the answers of a reproducible "
                "engine depend; set reproducible=false or max_actors=0"
            )
        return self


class CriticEngine(Engine):
    """How the reward model is served: as any engine, but by two actors, because critics write more than policies do."""

    actors: int = Field(2, ge=1)
    """Number of long-lived Ray actors, each with its own copy of the model."""


class Pool(Section):
    """Size of an actor pool that Ray Data scales."""

    min: int = Field(1, ge=1)
    """Minimum number of actors."""
    max: int = Field(1, ge=1)
    """Maximum number of actors."""
    cpus: float = Field(0.25, ge=0)
    """Logical CPUs reserved per actor."""

    @model_validator(mode="after")
    def _ordered(self) -> "Pool":
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is larger than max ({self.max})")
        return self


class ExpertPool(Pool):
    """Size of the actor pool of a vision expert, which may run on GPUs."""

    gpus: float = Field(0, ge=0)
    """GPUs reserved per actor; 0 runs on CPU."""


class Stages(Section):
    """Actor pools of the data stages of a round. None of them uses a GPU."""

    ingest: Pool = Pool(cpus=0.1)
    """Actors that read, check and hash images, eight at a time."""
    generate: Pool = Pool(cpus=0.1)
    """Actors that send prompts to the policy and wait for its responses."""
    verify: Pool = Pool(cpus=0.1)
    """Actors that extract claims, check them and make pairs; CPU work."""
    critique: Pool = Pool(cpus=0.1)
    """Actors that send pairs to the critics, wait for the critiques and select."""
    commit: Pool = Pool(cpus=0.1)
    """Actors that write finished parts to the run's folder."""


def _selectors(value: Any) -> Any:
    """The name of a label as the selectors of all roles, each of which asks for its own name."""
    return {role: {value: role} for role in ROLES} if isinstance(value, str) and value else value or {}


class Cluster(Section):
    """The Ray cluster."""

    address: str = ""
    """Address of the Ray cluster to join; empty uses RAY_ADDRESS, or starts Ray on this machine."""
    cpus: int = Field(2, ge=1)
    """Logical CPUs of Ray on this machine; ignored on an existing cluster."""
    object_store_mb: int = Field(300, ge=80)
    """Size in MiB of the object store of Ray on this machine; ignored on an existing cluster."""
    dashboard: bool = True
    """Whether to serve the dashboard of Ray on this machine (on localhost); ignored on an existing cluster."""
    placement: Literal["disaggregated", "phased"] = "disaggregated"
    """`disaggregated` keeps engines and training on separate devices; `phased` stops the engines during training."""
    labels: Annotated[dict[Role, dict[str, str]], BeforeValidator(_selectors)] = {}
    """Label selector by role (`generate`, `judge`, `train`, `expert`, `cpu`): where Ray may place it. A label's name alone is
    short for `{train: {NAME: train}, ...}`. Empty: anywhere."""
    overlap: int = Field(0, ge=0, le=1)
    """Rounds whose candidates are made ahead: 1 generates and verifies the next round's while this one trains."""
    start_timeout: int = Field(300, ge=10)
    """Timeout in seconds for the engines to start."""
    verbosity: int = Field(0, ge=0, le=2)
    """0 prints the run's own lines, 1 also what workers print, 2 also Ray's messages. Ray's log files keep everything."""
    call_timeout: int = Field(3600, ge=10)
    """Time in seconds for which an engine may finish no sequence before a call of it fails."""
    stages: Stages = Stages()
    """Sizes of the actor pools of a round's data stages; those of the experts are in `experts`."""
    parts_in_flight: int = Field(8, ge=1)
    """Parts that an actor of a stage that waits for engines works on at the same time."""

    @field_validator("labels")
    @classmethod
    def _readable(cls, labels: dict[Role, dict[str, str]]) -> dict[Role, dict[str, str]]:
        for role, selector in labels.items():
            for key, condition in selector.items():
                if not LABEL_KEY.fullmatch(key) or not LABEL_CONDITION.fullmatch(condition):
                    raise ValueError(
                        f"{role}: {{{key}: {condition}}} is no label selector; write a label's name and a condition such as "
                        "train, !train or in(train, judge)"
                    )
        # Ray accepts a space after the comma of in(a, b), and then takes it for part of the value
        return {role: {k: v.replace(" ", "") for k, v in selector.items()} for role, selector in labels.items()}

    def nodes_of(self, *roles: Role) -> str:
        """The label selectors of some roles, for messages: "vlrm-role=train"; "" if they may be on any node."""
        texts = {", ".join(f"{key}={value}" for key, value in self.labels.get(role, {}).items()) for role in roles}
        return " or ".join(sorted(texts - {""}))

    @model_validator(mode="after")
    def _engines_for_overlap(self) -> "Cluster":
        if self.overlap and self.placement == "phased":
            raise ValueError("overlap=1 needs placement=disaggregated: with `phased` no engine runs during training")
        return self


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
    """GPUs reserved per worker, at most 1; 0 trains on CPU with gloo, otherwise on GPU with nccl."""
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
    fits: int = Field(1, ge=1)
    """Trainings of a round from the same start, each with its own order of the pairs; the mean of their weights is published."""
    judgement_weight: float = Field(8.0, gt=0)
    """Loss weight of the Yes or No token; the other tokens of a critique have weight 1."""
    response_weight: float = Field(0.1, ge=0)
    """Loss weight (lambda) of the tokens of the chosen response."""
    description_weight: float = Field(0, ge=0)
    """Loss weight of descriptions of all of the round's images as the experts saw them; 0 trains on none."""
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

    @field_validator("gpus")
    @classmethod
    def _one_gpu(cls, gpus: float) -> float:
        if gpus > 1:
            raise ValueError("a training worker uses one GPU: set train.gpus=1 and train.workers to the number of GPUs")
        return gpus
