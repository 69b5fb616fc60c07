"""Configuration of a run: schema, defaults and validation. Unknown keys are errors.

`load` merges a YAML file with dotted overrides (`train.lr=1e-4`) and validates the result. The docstring under each
field is the reference for users.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    Field,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from vlrm_ray import config_loading
from vlrm_ray.config_sections import Cluster, CriticEngine, Engine, ExpertPool, Section
from vlrm_ray.config_sections import Lora as Lora
from vlrm_ray.config_sections import Train as Train
from vlrm_ray.errors import UserError

ASSETS = "assets:"
"""Prefix of the path of a model shipped with the package, such as "assets:vlm"."""


class Prompts(Section):
    """Source of images and questions."""

    source: str = "scenes"
    """`scenes` (embedded), or path or URI of a folder of images, or of a file (JSON, Parquet) of prompts or preferences."""
    per_round: tuple[PositiveInt, ...] = (320,)
    """Prompts of each round: one number, or one for each round, such as `[320, 640, 1280]`, whose last holds for all further
    rounds. When a run resumes, rounds that have not begun may have other numbers. A source with fewer prompts than all rounds
    need in total is repeated in later rounds."""
    question: str = "Describe the image."
    """Question asked about each image if `source` is a folder."""
    max_pixels: int = Field(1_003_520, ge=784)
    """Most pixels of an image for policy, critics and training; larger ones are scaled down. Qwen2.5-VL: 784 a token."""
    recolor: float = Field(0.0, ge=0, le=1)
    """Share of the prompts whose image gets all its hues turned by a random angle before anything looks at it."""
    allow_hosts: tuple[str, ...] = ()
    """Hosts from which http(s) images are downloaded, such as `images.example.org` or `host:8080`; empty: none."""

    @field_validator("per_round", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        if isinstance(value, list | tuple) and value:
            return value
        try:
            return (TypeAdapter(PositiveInt).validate_python(value),)
        except ValidationError:
            raise ValueError("expected an integer of 1 or more, or a list of such") from None

    @field_serializer("per_round")
    def _as_given(self, value: tuple[int, ...]) -> int | list[int]:
        return value[0] if len(value) == 1 else list(value)

    def in_round(self, round_: int) -> int:
        """Number of prompts of a round; 1 is the first."""
        return self.per_round[min(round_, len(self.per_round)) - 1]

    def until_round(self, round_: int) -> int:
        """Number of prompts of all rounds up to one, with it."""
        return sum(self.in_round(number) for number in range(1, round_ + 1))


class Policy(Section):
    """The model whose responses are checked."""

    model: str = "assets:vlm"
    """Hugging Face folder by path or URI (s3://, gs://), hub name, or `assets:` and the name of a shipped model."""
    engine: Engine = Engine()
    """How the policy is served."""
    samples: int = Field(4, ge=0)
    """Responses per prompt with the full image; 0 starts no policy: only responses in `prompts.source` are used."""
    image_free: int = Field(1, ge=0)
    """Responses per prompt without the image; they are used as rejected responses only."""
    image_degraded: int = Field(1, ge=0)
    """Responses per prompt with a blurred, half-covered image; they are used as rejected responses only."""
    max_tokens: int = Field(48, ge=1)
    """Maximum length of a response in tokens."""
    temperature: float = Field(1.0, ge=0)
    """Sampling temperature."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling: cumulative probability of the tokens sampled from; 1 disables it."""


class Critic(Section):
    """The reward model, which writes critiques."""

    model: str = "assets:vlm"
    """Initial model, named as `policy.model`."""
    engine: CriticEngine = CriticEngine()
    """How the reward model is served."""
    format: Literal["compact", "detailed", "direct"] = "compact"
    """Critique format: `compact` for the shipped tiny model, `detailed` for large models, `direct` for Yes or No."""
    writer: Literal["newest", "base", "mixed"] = "base"
    """Who writes the critiques that are learned: the untrained `model` in every round, the newest version, or both (`mixed`)."""
    k: int = Field(3, ge=1)
    """Critiques sampled per side of a pair."""
    max_tokens: int = Field(120, ge=8)
    """Maximum length of a critique in tokens."""
    temperature: float = Field(0.8, ge=0)
    """Sampling temperature of critiques."""


class Detector(Section):
    """The object detector."""

    model: str = "assets:detector/detector.pt"
    """YOLO checkpoint (.pt, .onnx), or OWLv2 or GroundingDINO folder: path, URI, `assets:` name, or hub name."""
    sha256: str = ""
    """Required sha256 of a checkpoint file; empty accepts any file."""
    classes: tuple[str, ...] = ()
    """Class names that an open-vocabulary detector looks for; empty uses the checkpoint's own classes."""
    image_size: int = Field(128, ge=32)
    """Image size in pixels that ultralytics resizes to; ignored by other detectors."""
    confidence: float = Field(0.35, ge=0, le=1)
    """Minimum score of a detection that supports a claim; lower ones keep an object from being called absent."""
    min_score: float = Field(0.1, gt=0, lt=1)
    """Minimum score of a box that is reported at all; with a calibration of claims, fainter boxes tell more about absence."""
    batch: int = Field(32, ge=1)
    """Images per forward pass."""
    exhaustive: tuple[str, ...] = ()
    """Classes whose absence may be claimed even though no calibration shows a sufficient recall."""
    calibration: str = ""
    """File of the calibration, a path or URI; empty takes the file beside `model`."""
    pool: ExpertPool = ExpertPool()
    """Number and resources of the detector actors."""


class Reader(Section):
    """The OCR reader (PaddleOCR)."""

    enabled: bool = True
    """Whether to run OCR; without it, claims about text stay unverified."""
    detection_model: str = "assets:ocr/detection"
    """Folder of the text detection model: path, URI or `assets:` name; empty downloads PaddleOCR's default model."""
    recognition_model: str = "assets:ocr/recognition"
    """Folder of the text recognition model, as `detection_model`; empty downloads PaddleOCR's default model."""
    engine: Literal["onnxruntime", "paddle"] = "onnxruntime"
    """Inference library that runs the models."""
    confidence: float = Field(0.5, ge=0, le=1)
    """Minimum score of a text; texts below it are ignored."""
    pool: ExpertPool = ExpertPool()
    """Number and resources of the reader actors."""


class Experts(Section):
    """The vision experts and the claim extractor."""

    detector: Detector = Detector()
    """The object detector: objects and their colors, counts and spatial relations."""
    reader: Reader = Reader()
    """The OCR reader: text in images."""
    uncalibrated: Literal["refuse", "allow"] = "refuse"
    """Whether experts without a calibration decide pairs by raw scores (`allow`), or their claims stay open (`refuse`)."""
    extractor: Literal["rule", "parse", "llm"] = "rule"
    """Claim extraction: `rule` (rules, for the scenes), `parse` (spaCy's dependency parse, for photographs) or `llm` (a language model on vLLM)."""
    extractor_model: str = "assets:extractor"
    """Language model for `extractor: llm`, named as `policy.model` and served by an actor with the settings of `policy.engine`. Empty: the policy, without another engine."""


class MinVerified(Section):
    """How many claims of a chosen response must be supported."""

    share: float = Field(0, ge=0, le=1)
    """Minimum share of its claims; hedged claims and those about states and actions do not count."""
    number: int = Field(1, ge=1)
    """Minimum number of its claims."""


class Pairing(Section):
    """How responses are combined into pairs."""

    labels: Literal["experts", "self"] = "experts"
    """What decides which response is chosen: `experts`, or `self` (scores of the reward model, as a baseline)."""
    per_prompt: int = Field(2, ge=1)
    """Maximum number of pairs per prompt."""
    max_length_ratio: float = Field(1.6, ge=1)
    """Maximum ratio of the longer to the shorter response of a pair, in characters."""
    min_confidence: float = Field(0, ge=0, le=1)
    """Verdicts with a lower confidence decide no pair: their claims count as open."""
    min_verified: MinVerified = MinVerified()
    """How many claims of a chosen response must be supported."""


class Selection(Section):
    """Margin-based rejection sampling."""

    margin: float = Field(0.1, ge=-1, le=1)
    """Minimum reward(chosen) - reward(rejected) of a kept pair; -1 keeps pairs with wrong judgements too."""
    sides: Literal["either", "both"] = "either"
    """Sides that need a critique with the right judgement: `either`, and of a pair with one only that side is learned; or `both`."""
    label_mass: float = Field(0.5, ge=0, le=1)
    """Minimum p(Yes) + p(No) at the judgement token of a usable critique."""
    mastered: float = Field(1, ge=0, le=1)
    """Share that is kept of the pairs which the newest version already judges rightly, unaided and from true statements; 1 keeps all, unasked."""
    checked: bool = False
    """Whether only critiques are learned that state nothing which the experts' evidence contradicts."""
    own: bool = False
    """Whether the newest version's unaided critique is learned where it is right and all its statements are confirmed."""

    @property
    def asks_unaided(self) -> bool:
        """Whether the newest version judges pairs without evidence before critiques are written."""
        return self.mastered < 1 or self.own


class BenchmarkData(Section):
    """A public benchmark that the reward model is measured on after each round."""

    name: Literal[
        "vl_rewardbench", "multimodal_rewardbench", "mm_rlhf_rewardbench", "pope", "hallusionbench", "amber", "labels"
    ]
    """Name of the benchmark; `labels` are pairs that your own people have compared."""
    data: str
    """Folder with its files, on the machine of the driver, or its URI."""


class Evaluation(Section):
    """Evaluation of the reward model, before the first round and after each round."""

    pairs: int = Field(240, ge=0)
    """ScenesBench pairs per group; 0 disables ScenesBench and POPE, not pairs held out (`holdout`) and `benchmarks`."""
    split: Literal["dev", "test"] = "dev"
    """Split of ScenesBench: `dev` for choosing parameters, `test` for final results."""
    pope: int = Field(100, ge=0)
    """Number of scenes of the POPE evaluation before the first and after the last round; 0 disables it."""
    holdout: float = Field(0.1, ge=0, lt=1)
    """Share of the images of your own data that is not trained on, by content; 0 trains on all. Not for `scenes`."""
    benchmarks: tuple[BenchmarkData, ...] = ()
    """Public benchmarks to measure after each round, as `[{name: pope, data: FOLDER}]`, each name once."""

    @field_validator("benchmarks")
    @classmethod
    def _once(cls, benchmarks: tuple[BenchmarkData, ...]) -> tuple[BenchmarkData, ...]:
        names = [entry.name for entry in benchmarks]
        if several := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"expected each name once, because metrics are named by it; measure other data of {several[0]} with "
                "jobs/evaluate.py bench"
            )
        return benchmarks


class Config(Section):
    """Configuration of a run."""

    name: str = Field("scenes", pattern=config_loading.NAME)
    """Name of the run and of its folder."""
    folder: str = "runs"
    """Folder or URI (s3://, gs://) that contains the folders of the runs."""
    rounds: int | Literal["auto"] = 3
    """Number of rounds; `auto` ends after the first round that shows no gain (its interval includes 0), at most `max_rounds`."""
    max_rounds: int = Field(8, ge=1)
    """Most rounds with `rounds: auto`."""
    seed: int = 0
    """Random seed for prompts and sampling."""
    cache: str = ""
    """Folder or URI shared by runs for responses, evidence and images, by content; empty keeps them in the run."""
    offline: bool = False
    """Download no model: those that are named on a hub or by their library must be on the nodes already."""
    part_rows: int = Field(40, ge=1)
    """Prompts per part; a part is processed as one block and committed as a whole."""
    quarantine_limit: float = Field(0.2, ge=0, le=1)
    """Largest share of a round's prompts, and of its pairs, that may be quarantined, 0 to 1; above it the run stops. Counts from
    50 prompts or pairs on."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Experiment trackers that get the figures of each round and training step, such as `[tensorboard]`; see the page Watching."""
    prompts: Prompts = Prompts()
    """Images and questions."""
    policy: Policy = Policy()
    """The model whose responses are checked."""
    experts: Experts = Experts()
    """The vision experts, which check the responses."""
    pairing: Pairing = Pairing()
    """How responses are combined into pairs."""
    critic: Critic = Critic()
    """The reward model as critique writer."""
    selection: Selection = Selection()
    """Which critiques are used for training."""
    train: Train = Train()
    """Fine-tuning of the reward model."""
    evaluation: Evaluation = Evaluation()
    """Evaluation of the reward model."""
    cluster: Cluster = Cluster()
    """The Ray cluster."""

    @field_validator("rounds", mode="before")
    @classmethod
    def _number_or_auto(cls, value: object) -> object:
        is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not is_number and value != "auto":
            raise ValueError("expected a valid integer, 0 or more, or auto")
        return value

    @property
    def most_rounds(self) -> int:
        """The number of rounds, or the most with `rounds: auto`."""
        return self.max_rounds if self.rounds == "auto" else self.rounds

    @property
    def most_prompts(self) -> int:
        """Prompts of the largest round."""
        return max(self.prompts.in_round(number) for number in range(1, max(1, self.most_rounds) + 1))

    @model_validator(mode="after")
    def _enough_critics(self) -> "Config":
        asks = self.critic.writer == "base" and self.selection.asks_unaided
        if (asks or self.critic.writer == "mixed") and self.critic.engine.actors < 2:
            raise ValueError(
                "the untrained model and the newest version are needed at the same time (critic.writer, selection.mastered, "
                "selection.own): set critic.engine.actors to 2 or more"
            )
        return self


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Load a configuration.

    Args:
        path: YAML file; None starts from the defaults.
        overrides: dotted overrides such as `train.lr=1e-4`, applied in order.

    Raises:
        UserError: the file cannot be read, or a key or value is invalid.
    """
    where = str(path or config_loading.COMMAND_LINE)
    base = {} if path is None else config_loading.read_yaml(Path(path))
    return _validated(config_loading.merge(base, overrides, text_keys(), where), where, overrides)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Copy of a configuration with dotted overrides; raises UserError for an invalid key or value."""
    base, where = config.model_dump(mode="json"), "overrides"
    return _validated(config_loading.merge(base, overrides, text_keys(), where, resolve=False), where, overrides)


def _validated(values: dict[Any, Any], where: str, overrides: Sequence[str]) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        overridden = [item.partition("=")[0] for item in overrides]
        raise UserError(config_loading.explain(error, Config, where, overridden)) from None


def keys(model: type[BaseModel] = Config) -> list[str]:
    """All dotted keys of a section, by default of the whole configuration."""
    return config_loading.keys(model)


@cache
def text_keys() -> frozenset[str]:
    """The dotted keys whose values are texts."""
    return frozenset(config_loading.keys(Config, wanted=lambda kind: kind is str))


def asset_path(name: str) -> str:
    """Path of a shipped model ("assets:vlm") in this process's package; other names are returned unchanged.

    Other processes may have the package elsewhere: send them the name, not this path.
    """
    return str(config_loading.shipped_models() / name.removeprefix(ASSETS)) if name.startswith(ASSETS) else name


def is_checkpoint(model: str) -> bool:
    """Whether a detector model is a checkpoint file for ultralytics, not a folder or hub name for transformers."""
    return Path(model.partition("?")[0] if "://" in model else model).suffix in (".pt", ".onnx")
