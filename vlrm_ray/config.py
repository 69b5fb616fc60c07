"""The configuration: one schema, defaults in one place, unknown keys refused.

`load` merges a YAML file and dotted overrides (`train.lr=1e-4`) and validates the result.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from yaml import YAMLError

from vlrm_ray.errors import UserError

ASSETS = "assets:"
"""Prefix of a path inside the package's own assets: "assets:vlm"."""


class Section(BaseModel):
    """Base of all sections: frozen, strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Prompts(Section):
    """Where images and questions come from."""

    source: str = "scenes"
    """`scenes` (the embedded world), a JSONL or Parquet file with columns `image` and `question`, or a folder of images."""
    per_round: int = Field(320, ge=1)
    """Prompts in each round; a smaller source is gone through again, a larger one never repeats."""
    question: str = "Describe the image."
    """Question asked about each image of a folder."""


class Engine(Section):
    """How a model is hosted."""

    kind: Literal["vllm", "transformers"] = "vllm"
    """Engine library; `transformers` serves platforms without vLLM."""
    actors: int = Field(1, ge=1)
    """Long-lived actors, each with its own copy of the model."""
    cpus: float = Field(0.25, ge=0)
    """Logical CPUs an actor reserves."""
    gpus: float = Field(0, ge=0)
    """GPUs an actor reserves."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs that one copy of the model is spread over."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights in the engine."""
    max_model_len: int = Field(512, ge=64)
    """Longest prompt and answer together, in tokens, image included."""
    max_num_seqs: int = Field(256, ge=1)
    """Sequences decoded at the same time."""
    kv_cache_mb: int = Field(160, ge=16)
    """Memory for the key-value cache in MB, on CPU."""
    gpu_memory: float = Field(0.85, gt=0, le=1)
    """Share of a GPU's memory that vLLM may use."""


class Policy(Section):
    """The model whose responses are judged."""

    model: str = "assets:vlm"
    """Hugging Face folder or name, or `assets:` and the name of a shipped one."""
    engine: Engine = Engine()
    """How it is hosted."""
    samples: int = Field(4, ge=1)
    """Responses per prompt that saw the whole image."""
    image_free: int = Field(1, ge=0)
    """Responses per prompt that saw no image; they serve as negatives only."""
    image_degraded: int = Field(1, ge=0)
    """Responses per prompt that saw a blurred, half-covered image; negatives only."""
    max_tokens: int = Field(48, ge=1)
    """Longest response in tokens."""
    temperature: float = Field(1.0, ge=0)
    """Sampling temperature."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling."""


class Critic(Section):
    """The reward model as critique writer."""

    model: str = "assets:vlm"
    """Where the reward model starts from."""
    engine: Engine = Engine(actors=2)
    """How it is hosted."""
    format: Literal["compact", "detailed", "direct"] = "compact"
    """Wording: `compact` critiques for the tiny model, `detailed` for large ones, `direct` a bare Yes or No."""
    k: int = Field(3, ge=1)
    """Critiques per side of a pair."""
    max_tokens: int = Field(120, ge=8)
    """Longest critique in tokens."""
    temperature: float = Field(0.8, ge=0)
    """Sampling temperature of critiques."""


class Pool(Section):
    """Size of an expert pool that Ray Data owns and scales."""

    min: int = Field(1, ge=1)
    """Actors that are always there."""
    max: int = Field(1, ge=1)
    """Actors it may grow to; an autoscaler follows."""
    cpus: float = Field(0.25, ge=0)
    """Logical CPUs per actor."""
    gpus: float = Field(0, ge=0)
    """GPUs per actor."""

    @model_validator(mode="after")
    def _ordered(self) -> "Pool":
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is larger than max ({self.max})")
        return self


class Detector(Section):
    """The object detector."""

    model: str = "assets:detector/detector.pt"
    """YOLO checkpoint file (.pt, .onnx) for ultralytics, or folder or hub name of an OWLv2 or GroundingDINO for transformers."""
    sha256: str = ""
    """Refuse the checkpoint unless its file has this hash; empty accepts any."""
    classes: tuple[str, ...] = ()
    """Words that an open-vocabulary detector looks for; empty takes a closed checkpoint's own."""
    image_size: int = Field(128, ge=32)
    """Side that ultralytics resizes images to; other detectors know their own."""
    confidence: float = Field(0.35, ge=0, le=1)
    """Boxes below this score support nothing; absence is not claimed in spite of them."""
    batch: int = Field(32, ge=1)
    """Images per forward pass."""
    exhaustive: tuple[str, ...] = ()
    """Classes of which absence may be claimed though no calibration beside the model says so."""
    pool: Pool = Pool()
    """How many run."""


class Reader(Section):
    """The text reader (PaddleOCR)."""

    enabled: bool = True
    """Without it no claim about text is verified."""
    detection_model: str = "assets:ocr/detection"
    """Folder of the text detection model; empty for PaddleOCR's default, downloaded."""
    recognition_model: str = "assets:ocr/recognition"
    """Folder of the text recognition model; empty for PaddleOCR's default, downloaded."""
    engine: Literal["onnxruntime", "paddle"] = "onnxruntime"
    """What runs the models."""
    confidence: float = Field(0.5, ge=0, le=1)
    """Texts below this score are ignored."""
    pool: Pool = Pool()
    """How many run."""


class Experts(Section):
    """What checks the responses."""

    detector: Detector = Detector()
    """Objects, and by their boxes colours, counts and relations."""
    reader: Reader = Reader()
    """Words."""
    extractor: Literal["rule", "llm"] = "rule"
    """Who finds the claims in a response: rules, or a language model in an actor of its own (on vLLM)."""
    extractor_model: str = "assets:extractor"
    """Hugging Face folder or name of that language model; hosted as the policy's engine is."""


class Pairing(Section):
    """How candidates become pairs."""

    labels: Literal["experts", "self"] = "experts"
    """Who decides what is chosen and what rejected; `self`, the reward model's own scores, is there to show the dilemma."""

    per_prompt: int = Field(2, ge=1)
    """Most pairs made of one prompt's candidates."""
    max_length_ratio: float = Field(1.6, ge=1)
    """Longer over shorter response, in characters, above which a pair would teach length."""


class Selection(Section):
    """Margin-based rejection sampling."""

    margin: float = Field(0.1, ge=-1, le=1)
    """Smallest reward(chosen) - reward(rejected) of a kept pair; -1 rejects nothing, not even wrong judgements."""
    label_mass: float = Field(0.5, ge=0, le=1)
    """Smallest p(Yes) + p(No) at a judgement that counts."""


class Lora(Section):
    """Low-rank adapters (peft) instead of full fine-tuning."""

    rank: int = Field(0, ge=0)
    """Rank of the adapters; 0 trains all weights."""
    alpha: float = Field(32, gt=0)
    """Scale of the adapters."""
    targets: str = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    """Regular expression over the names of the adapted modules."""


class Train(Section):
    """Fine-tuning of the reward model, each round."""

    workers: int = Field(2, ge=1)
    """Processes that share the model by FSDP2."""
    cpus: float = Field(0.5, ge=0)
    """Logical CPUs per worker."""
    gpus: float = Field(0, ge=0)
    """GPUs per worker: 0 trains on CPU with gloo, else on GPU with nccl."""
    epochs: int = Field(3, ge=1)
    """Passes over the round's pairs."""
    batch: int = Field(32, ge=1)
    """Examples per optimizer step, over all workers."""
    micro_batch: int = Field(16, ge=1)
    """Examples per forward pass of one worker."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW in the first round; warm-up over a tenth of the steps, then cosine."""
    lr_decay: float = Field(0.55, gt=0, le=1)
    """Factor on the learning rate from each round to the next."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay."""
    judgement_weight: float = Field(8.0, gt=0)
    """Weight of the Yes/No token against the other tokens of a critique."""
    response_weight: float = Field(0.1, ge=0)
    """Weight (lambda) of the likelihood of the chosen response."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of a gradient."""
    lora: Lora = Lora()
    """Low-rank adapters."""
    max_failures: int = Field(2, ge=0)
    """Worker crashes that a fit survives, going on from its last epoch."""
    start_timeout: int = Field(240, ge=10)
    """Seconds to wait for the workers' resources before the fit ends with an error."""

    @model_validator(mode="after")
    def _divisible(self) -> "Train":
        if self.batch % self.workers:
            raise ValueError(f"batch ({self.batch}) is not a multiple of workers ({self.workers})")
        return self


class Evaluation(Section):
    """Measuring the reward model, before the first round and after each."""

    pairs: int = Field(240, ge=0)
    """ScenesBench pairs per group; 0 skips evaluation."""
    split: Literal["dev", "test"] = "dev"
    """Part of ScenesBench; `test` is for the study's last word, parameters are chosen on `dev`."""
    pope: int = Field(300, ge=0)
    """Scenes of a POPE that is asked before the first round and after the last; 0 asks none."""


class Cluster(Section):
    """Where it runs."""

    address: str = ""
    """Ray cluster to join; empty takes RAY_ADDRESS, or starts an own one on this machine."""
    cpus: int = Field(2, ge=1)
    """Logical CPUs of an own cluster."""
    object_store_mb: int = Field(300, ge=80)
    """Object store of an own cluster."""
    dashboard: bool = True
    """Serve the dashboard of an own cluster, on this machine only."""
    placement: Literal["disaggregated", "phased"] = "disaggregated"
    """`disaggregated` keeps engines and trainers on their own devices; `phased` closes the engines while training."""
    start_timeout: int = Field(300, ge=10)
    """Seconds to wait for engines to start."""


class Config(Section):
    """A run."""

    name: str = Field("scenes", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run and of its folder."""
    folder: str = "runs"
    """Folder or URI (s3://, gs://) that holds the runs."""
    rounds: int = Field(3, ge=0)
    """Rounds of generate, verify, pair, critique, select, train, evaluate, publish."""
    seed: int = 0
    """Seed of prompts and sampling."""
    cache: str = ""
    """Folder or URI that runs share: candidates, evidence, pictures, by content. Empty keeps them in the run."""
    part_rows: int = Field(40, ge=1)
    """Prompts that travel through the stages together and are committed together."""
    prompts: Prompts = Prompts()
    """Images and questions."""
    policy: Policy = Policy()
    """Who responds."""
    experts: Experts = Experts()
    """Who checks."""
    pairing: Pairing = Pairing()
    """Which responses are compared."""
    critic: Critic = Critic()
    """Who writes critiques."""
    selection: Selection = Selection()
    """Which critiques are kept."""
    train: Train = Train()
    """How the reward model learns."""
    evaluation: Evaluation = Evaluation()
    """How it is measured."""
    cluster: Cluster = Cluster()
    """Where it runs."""


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (all defaults without one) and apply dotted overrides; raises UserError."""
    base = OmegaConf.create({}) if path is None else _read(Path(path))
    return _merged(base, overrides, str(path or "command line"))


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Another configuration: this one with dotted overrides; raises UserError."""
    return _merged(OmegaConf.create(config.model_dump(mode="json")), overrides, "overrides")


def _merged(base: Any, overrides: Sequence[str], where: str) -> Config:
    for item in overrides:
        if "=" not in item or item.startswith("-"):
            raise UserError(f"'{item}' is not an override; write it as key=value, for example train.lr=1e-4")
    try:
        merged = OmegaConf.merge(base, OmegaConf.from_dotlist(list(overrides)))
        values = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration cannot be merged: {_first_line(error)}") from error
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, where)) from None


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"configuration file {path} does not exist")
    try:
        content = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not readable YAML: {_first_line(error)}") from error
    if not OmegaConf.is_dict(content):
        raise UserError(f"{path} must hold keys and values, not a list")
    return content


def _explain(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, keys(), n=1, cutoff=0.5)
        hint = f"; did you mean '{close[0]}'?" if close else "; see --dry-run for all keys"
        return f"unknown key '{key}' in {where}{hint}{more}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {key or 'configuration'}: {message}, got {first['input']!r}"[:300] + more


def keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every dotted key of the configuration."""
    names: list[str] = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += keys(inner, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def asset_path(name: str) -> str:
    """Resolve `assets:` to the package's own files; other names stay as they are."""
    if not name.startswith(ASSETS):
        return name
    return str(Path(__file__).parent / "scenes" / "assets" / name.removeprefix(ASSETS))


def is_checkpoint(model: str) -> bool:
    """Whether a detector is a checkpoint file of ultralytics, not a model folder or hub name."""
    return Path(model).suffix in (".pt", ".onnx")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
