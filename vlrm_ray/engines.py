"""Interface of the inference engines, independent of the library (vLLM, transformers) behind it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from vlrm_ray.errors import UserError
from vlrm_ray.types import NO, YES, ImageCondition, ScoredCritique

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One request to a model.

    Attributes:
        text: text of the user's turn.
        image: URI of the image; None for a request without an image.
        condition: whether the model sees the full image, a degraded one, or none.
        seed: sampling seed; the same request with the same seed gives the same answer.
        prefix: given start of the model's answer, which it continues.
    """

    text: str
    image: str | None
    condition: ImageCondition = ImageCondition.FULL
    seed: int = 0
    prefix: str = ""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters of a batch of requests.

    Attributes:
        max_tokens: maximum length of an answer in tokens.
        temperature: sampling temperature; 0 means greedy decoding.
        top_p: nucleus sampling.
        n: answers per request.
        json_schema: JSON schema, as text, that the answers must follow; "" for free text. Supported by vLLM only.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1
    json_schema: str = ""


@dataclass(frozen=True)
class Completion:
    """An answer, with p(Yes) and p(No) at its last Yes or No token (both 0 if it has none)."""

    text: str
    yes: float = 0.0
    no: float = 0.0


@dataclass(frozen=True)
class Health:
    """State of an engine in an actor.

    Attributes:
        name: name of the actor.
        version: version of the weights; 0 is the initial model.
        model: name of the model's folder.
        problem: error message for the user; "" if the engine runs.
        memory_mb: resident memory of the actor's process, in MiB.
        pid: process id of the actor.
    """

    name: str
    version: int
    model: str
    problem: str = ""
    memory_mb: int = 0
    pid: int = 0


@dataclass(frozen=True)
class EngineSettings:
    """Settings that an engine is started with; see `config.Engine` for their meaning. `model` is a folder or hub
    name."""

    kind: str
    model: str
    dtype: str
    max_model_len: int
    max_num_seqs: int
    kv_cache_mb: int
    gpu_memory: float
    gpus: float
    tensor_parallel: int


class Engine(Protocol):
    """An inference engine with one model."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """Generate `sampling.n` answers to each request, in the order of the requests."""
        ...

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """Compute p(Yes) and p(No) as the next token after each request's prefix; the completions have no text."""
        ...

    def load(self, folder: str) -> None:
        """Replace the weights by those of a model folder."""
        ...

    def close(self) -> None:
        """Shut the engine down and free its memory."""
        ...


@dataclass(frozen=True)
class LabelTokens:
    """Token ids of the two judgements, with and without a leading space.

    Attributes:
        yes: ids that mean Yes.
        no: ids that mean No.
        all: both, sorted.
    """

    yes: frozenset[int]
    no: frozenset[int]
    all: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "all", tuple(sorted(self.yes | self.no)))

    def masses(self, logprobs: Mapping[int, float]) -> tuple[float, float]:
        """p(Yes) and p(No), from the log-probabilities of the next token by token id."""
        from math import exp

        def mass(ids: frozenset[int]) -> float:
            return sum(exp(logprobs[i]) for i in ids if i in logprobs)

        return mass(self.yes), mass(self.no)


class Encoder(Protocol):
    """The part of the tokenizer interface that `label_tokens` needs."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Encode a text to token ids."""
        ...


def label_tokens(tokenizer: Encoder, model: str) -> LabelTokens:
    """Find the tokens that stand for Yes and No.

    Args:
        tokenizer: tokenizer of the model.
        model: name of the model, for the error message.

    Raises:
        UserError: the tokenizer has no single token for one of the words.
    """

    def ids(word: str) -> Iterator[int]:
        for text in (word, f" {word}"):
            tokens = tokenizer.encode(text, add_special_tokens=False)
            if len(tokens) == 1:
                yield tokens[0]

    yes, no = frozenset(ids(YES)), frozenset(ids(NO))
    if not yes or not no or yes & no:
        raise UserError(
            f"model {model} has no single token for each of '{YES}' and '{NO}'; choose a model whose tokenizer has them"
        )
    return LabelTokens(yes, no)


def scored_critique(answer: Completion) -> ScoredCritique:
    """Make a critique of an answer. Probabilities are rounded to 4 digits; further digits vary with the batch."""
    return ScoredCritique(answer.text, float(f"{answer.yes:.4g}"), float(f"{answer.no:.4g}"))


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Split a sequence into slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
