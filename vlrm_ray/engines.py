"""What an engine does, whichever library stands behind it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from vlrm_ray.errors import UserError
from vlrm_ray.types import NO, YES, ImageCondition, ScoredCritique

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One question to a model.

    Attributes:
        text: the user's turn.
        image: URI of the picture; None asks without one.
        condition: in what state the model sees the picture.
        seed: seed of sampling; the same request gives the same answer.
        prefix: beginning of the model's answer, already given.
    """

    text: str
    image: str | None
    condition: ImageCondition = ImageCondition.FULL
    seed: int = 0
    prefix: str = ""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; temperature 0 takes the likeliest token.

    `json_schema`, as JSON text, holds the answers to it; vLLM alone serves that.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1
    json_schema: str = ""


@dataclass(frozen=True)
class Completion:
    """An answer, and p(Yes), p(No) at its last judgement token (0 and 0 if it has none)."""

    text: str
    yes: float = 0.0
    no: float = 0.0


@dataclass(frozen=True)
class Health:
    """State of a hosted engine; `problem` is what a user has to mend, empty if all is well."""

    name: str
    version: int
    model: str
    problem: str = ""
    memory_mb: int = 0
    pid: int = 0


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is started with."""

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
    """The verbs of an engine."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` answers to each request, in the order of the requests."""
        ...

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """p(Yes) and p(No) as the next token of each request."""
        ...

    def load(self, folder: str) -> None:
        """Take the weights of a published folder."""
        ...

    def close(self) -> None:
        """Free all memory."""
        ...


@dataclass(frozen=True)
class LabelTokens:
    """Token ids that stand for Yes and for No, with and without a leading space."""

    yes: frozenset[int]
    no: frozenset[int]
    all: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "all", tuple(sorted(self.yes | self.no)))

    def masses(self, logprobs: Mapping[int, float]) -> tuple[float, float]:
        """p(Yes) and p(No) from log-probabilities by token id."""
        from math import exp

        def mass(ids: frozenset[int]) -> float:
            return sum(exp(logprobs[i]) for i in ids if i in logprobs)

        return mass(self.yes), mass(self.no)


class Encoder(Protocol):
    """The part of a tokenizer that finds the labels."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""
        ...


def label_tokens(tokenizer: Encoder, model: str) -> LabelTokens:
    """Find the single tokens for Yes and No; raises UserError where a model has none."""

    def ids(word: str) -> Iterator[int]:
        for text in (word, f" {word}"):
            tokens = tokenizer.encode(text, add_special_tokens=False)
            if len(tokens) == 1:
                yield tokens[0]

    yes, no = frozenset(ids(YES)), frozenset(ids(NO))
    if not yes or not no or yes & no:
        raise UserError(
            f"model {model} has no single tokens for '{YES}' and '{NO}'; choose a model whose tokenizer does"
        )
    return LabelTokens(yes, no)


def scored_critique(answer: Completion) -> ScoredCritique:
    """A critique with its reward, to four digits: the next ones depend on what else was in the batch."""
    return ScoredCritique(answer.text, float(f"{answer.yes:.4g}"), float(f"{answer.no:.4g}"))


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into runs of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
