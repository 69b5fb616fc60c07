"""Sections of the configuration that say where a run works: engines, actor pools and the Ray cluster."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Base class of all sections: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Engine(Section):
    """How a model is served."""

    kind: Literal["vllm", "transformers"] = "vllm"
    """Inference library: `vllm`, or `transformers` for platforms without vLLM."""
    actors: int = Field(1, ge=1)
    """Number of long-lived Ray actors, each with its own copy of the model."""
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
    """Share of the GPU memory that vLLM may use, 0 to 1."""
    reproducible: bool | None = None
    """Whether a part is one batch, so that a part made again is the same; false keeps engines full. Default: without GPUs."""

    @property
    def is_reproducible(self) -> bool:
        """`reproducible`, or whether the engine runs without GPUs."""
        return self.gpus == 0 if self.reproducible is None else self.reproducible


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
    gpus: float = Field(0, ge=0)
    """GPUs reserved per actor; 0 runs on CPU."""

    @model_validator(mode="after")
    def _ordered(self) -> "Pool":
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is larger than max ({self.max})")
        return self


class Stages(Section):
    """Actor pools of the data stages of a round."""

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
    start_timeout: int = Field(300, ge=10)
    """Timeout in seconds for the engines to start."""
    verbosity: int = Field(0, ge=0, le=2)
    """0 prints the run's own lines, 1 also what workers print, 2 also Ray's messages. Ray's log files keep everything."""
    call_timeout: int = Field(3600, ge=10)
    """Timeout in seconds for a call of an engine."""
    stages: Stages = Stages()
    """Sizes of the actor pools of a round's data stages; those of the experts are in `experts`."""
    parts_in_flight: int = Field(8, ge=1)
    """Parts that an actor of a stage that waits for engines works on at the same time."""
