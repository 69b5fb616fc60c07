"""Interface of the inference engines, independent of the library (vLLM, transformers) behind it.

`generate_isolated` and `score_isolated` answer all requests that an engine accepts, and refuse the others one by one.
`PlainText` makes words of the control tokens in a text; engines and the trainer prepare their texts with it.
"""

import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from vlrm_ray.errors import BadImage, UserError, first_line
from vlrm_ray.types import NO, YES, ImageCondition, ScoredCritique

T = TypeVar("T")
TOO_LONG = "longer_than_the_model_takes"
"""Reason of a request that has more tokens than the engine accepts."""
REFUSED = "refused by the engine"
"""Start of the reason of a request that an engine refuses for any other cause."""
ENDED = f"{REFUSED}: its process ended on it"
"""Reason of a request that ends the engine's process, which another engine would not survive either."""
CPU_LIBRARY = "libnuma.so.1"
"""System library that vLLM's CPU build is linked with."""
_TOO_LONG_MESSAGE = re.compile(r"maximum (context|model) length|longer than the maximum", re.IGNORECASE)


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
        judgement: what is done about the judgement, Yes or No, of each answer: "none" if answers have none; "read" to
            compute p(Yes) and p(No) where an answer has one; "ask" to also ask the model for it where it has none.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1
    json_schema: str = ""
    judgement: Literal["none", "read", "ask"] = "read"


@dataclass(frozen=True)
class Completion:
    """An answer with the probabilities at its judgement.

    Attributes:
        text: the answer; empty for a refused request.
        yes: p(Yes) at the token of the judgement; 0 if the answer has no judgement.
        no: p(No) at the same token.
        refused: reason why the engine refused the request; "" for an answer.
        asked: whether the model wrote no judgement and was asked for it; the text then ends with it.
        cut: whether the answer reached the largest number of tokens before its end.
        tokens: tokens that the engine has generated for the answer; not compared.
    """

    text: str
    yes: float = 0.0
    no: float = 0.0
    refused: str = ""
    asked: bool = False
    cut: bool = False
    tokens: int = field(default=0, compare=False)


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
        node: host name of the actor's node.
    """

    name: str
    version: int
    model: str
    problem: str = ""
    memory_mb: int = 0
    pid: int = 0
    node: str = ""


@dataclass(frozen=True)
class LoadReport:
    """How busy an engine is. A request for `n` answers counts as `n` sequences.

    Attributes:
        running: sequences that the engine works on.
        waiting: sequences that wait for a place in the engine.
        finished: sequences that were answered or refused since the start; while the engine does not run, the steps of the search
            for the requests that ended it.
        tokens: tokens that were generated since the start; not compared.
        busy_seconds: time since the start in which the engine worked on any sequence; not compared.
        runs: whether the engine runs; False while its actor starts it again, and once the actor has given up.
        gave_up: whether the actor has given up: its engine does not run, and is not being started.
    """

    running: int = 0
    waiting: int = 0
    finished: int = 0
    tokens: int = field(default=0, compare=False)
    busy_seconds: float = field(default=0.0, compare=False)
    runs: bool = True
    gave_up: bool = False

    @property
    def unfinished(self) -> int:
        """Sequences that are running or waiting."""
        return self.running + self.waiting


class EngineDied(UserError):
    """The process of an engine has ended. The message names the actor, its node and the cause."""


@dataclass(frozen=True)
class EngineSettings:
    """Settings that an engine is started with; see `vlrm_ray.config_sections.Engine` for their meaning.

    `model` is a reference to the model (see `vlrm_ray.store.models`). `max_pixels` is the largest number of pixels of an
    image; larger ones are scaled down.
    """

    kind: str
    model: str
    dtype: str
    max_model_len: int
    max_num_seqs: int
    kv_cache_mb: int
    gpu_memory: float
    gpus: float
    tensor_parallel: int
    reproducible: bool = True
    max_pixels: int = 0

    @property
    def memory_share(self) -> float:
        """Share of a GPU's memory that the engine may use: of a GPU that it shares, at most 0.9 of its own part."""
        return min(self.gpu_memory, 0.9 * self.gpus) if 0 < self.gpus < 1 else self.gpu_memory


class Engine(Protocol):
    """An inference engine with one model, for one call at a time."""

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
        yes: ids of "Yes".
        no: ids of "No".
        other_yes: ids of "yes" and "YES".
        other_no: ids of "no" and "NO".
    """

    yes: frozenset[int]
    no: frozenset[int]
    other_yes: frozenset[int] = frozenset()
    other_no: frozenset[int] = frozenset()

    @property
    def all(self) -> tuple[int, ...]:
        """All ids, sorted."""
        return tuple(sorted(self.yes | self.no | self.other_yes | self.other_no))

    def masses(self, logprobs: Mapping[int, float], word: str = YES) -> tuple[float, float]:
        """p(Yes) and p(No).

        Args:
            logprobs: log-probabilities of the next token by token id.
            word: the judgement as the model writes it. Written as "yes" or "NO", all spellings are counted.
        """
        from math import exp

        def mass(ids: frozenset[int]) -> float:
            return sum(exp(logprobs[i]) for i in ids if i in logprobs)

        if word in (YES, NO):
            return mass(self.yes), mass(self.no)
        return mass(self.yes | self.other_yes), mass(self.no | self.other_no)


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

    def ids(*words: str) -> Iterator[int]:
        for text in (spaced for word in words for spaced in (word, f" {word}")):
            tokens = tokenizer.encode(text, add_special_tokens=False)
            if len(tokens) == 1:
                yield tokens[0]

    yes, no = frozenset(ids(YES)), frozenset(ids(NO))
    if not yes or not no or yes & no:
        raise UserError(
            f"model {model} has no single token for each of '{YES}' and '{NO}'; choose a model whose tokenizer has them"
        )
    return LabelTokens(
        yes, no, frozenset(ids(YES.lower(), YES.upper())) - yes - no, frozenset(ids(NO.lower(), NO.upper())) - yes - no
    )


class PlainText:
    """Makes plain words of the control tokens in a text, so that a user's text cannot end a turn or add an image.

    A space is put after the first character of each control token: `<|im_end|>` becomes `< |im_end|>`. Texts without
    control tokens are not changed.

    Attributes:
        tokens: the control tokens, longest first.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        """Use the given control tokens; single characters and white space are left out."""
        usable = {token for token in tokens if len(token.strip()) > 1}
        self.tokens = tuple(sorted(usable, key=lambda token: (-len(token), token)))
        self._pattern = re.compile("|".join(map(re.escape, self.tokens))) if self.tokens else None

    @classmethod
    def of_processor(cls, processor: Any) -> "PlainText":
        """The control tokens of a processor or tokenizer of transformers: special tokens and image placeholders."""
        tokenizer = getattr(processor, "tokenizer", processor)
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if _is_control(token)]
        placeholders = [
            str(value)
            for name, value in vars(processor).items()
            if name.endswith("_token") and (isinstance(value, str) or hasattr(value, "content"))
        ]
        return cls([*map(str, tokenizer.all_special_tokens), *added, *placeholders])

    def __call__(self, text: str) -> str:
        """The text with its control tokens as plain words."""
        while self._pattern is not None and self._pattern.search(text):
            text = self._pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        return text


def _is_control(token: Any) -> bool:
    """Whether an added token is special, or written like a special one."""
    return bool(token.special) or re.fullmatch(r"<[|｜].*[|｜]>", str(token)) is not None


def chat_tokenization(tokenizer: Any, text: str) -> dict[str, Any]:
    """Arguments with which a rendered chat is tokenized, so that it has one token for its beginning (BOS).

    Some chat templates write it, as those of Gemma 3 and Llama, some leave it to the tokenizer.
    """
    written = bool(tokenizer.bos_token) and text.startswith(str(tokenizer.bos_token))
    return {"add_special_tokens": False} if written else {}


def generate_isolated(engine: Engine, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
    """`Engine.generate`, in which a request that the engine refuses does not fail the others.

    A batch that raises an exception is split in halves, until the refused requests are alone. Batches without such
    requests reach the engine unchanged.

    Returns:
        `sampling.n` answers to each request; those to a refused request have only a reason, in `refused`.
    """
    return _isolated(
        lambda part: engine.generate(part, sampling),
        requests,
        lambda reason: [Completion("", refused=reason)] * sampling.n,
    )


def score_isolated(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    """`Engine.score`, in which a request that the engine refuses does not fail the others; see `generate_isolated`."""
    return _isolated(engine.score, requests, lambda reason: Completion("", refused=reason))


def _isolated(
    call: Callable[[Sequence[Request]], list[T]], requests: Sequence[Request], refused: Callable[[str], T]
) -> list[T]:
    if not requests:
        return []
    try:
        return call(requests)
    except UserError:
        raise
    except Exception as error:  # engines, processors and image decoders raise many exception types
        if len(requests) == 1:
            return [refused(refusal_reason(error))]
    half = len(requests) // 2
    return _isolated(call, requests[:half], refused) + _isolated(call, requests[half:], refused)


def refusal_reason(error: Exception) -> str:
    """Reason to record for a request that raises an exception: that of the image, `TOO_LONG`, or the first line."""
    if isinstance(error, BadImage):
        return str(error)
    return TOO_LONG if _TOO_LONG_MESSAGE.search(str(error)) else f"{REFUSED}: {first_line(error)}"


def check_cpu_library() -> None:
    """Check for the system library that vLLM's CPU build is linked with; raises UserError if it is missing."""
    try:
        if sys.platform == "linux":
            ctypes.CDLL(CPU_LIBRARY)
    except OSError:
        raise UserError(
            f"vLLM on CPUs needs the system library {CPU_LIBRARY}, which {socket.gethostname()} does not have; on Debian or "
            "Ubuntu: apt-get install libnuma1"
        ) from None


def check_compiler() -> None:
    """Check that this machine compiles C for Python, as Triton does when vLLM starts on a GPU; raises UserError if not."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or "gcc"
    command = [compiler, "-E", "-x", "c", "-I", sysconfig.get_path("include"), "-"]
    try:
        subprocess.run(command, input=b"#include <Python.h>", capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise UserError(
            f"vLLM on GPUs needs a C compiler and Python's headers, and {compiler} does not find Python.h on {socket.gethostname()}; "
            f"on Debian or Ubuntu: apt-get install gcc g++ python3.{sys.version_info.minor}-dev"
        ) from None


def scored_critique(answer: Completion) -> ScoredCritique:
    """Make a critique of an answer. Probabilities are rounded to 4 digits; further digits vary with the batch."""
    return ScoredCritique(answer.text, float(f"{answer.yes:.4g}"), float(f"{answer.no:.4g}"), asked=answer.asked)


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Split a sequence into slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
