"""From a response's free text to atomic, typed claims: two extractors behind one interface."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.types import Claim

Kind = Literal["rule", "llm"]
KINDS: tuple[Kind, ...] = ("rule", "llm")
GenerateVerb = Callable[[Sequence[Request], Sampling], list[list[Completion]]]
"""The verb `generate` of an engine, wherever that engine runs."""


class Extractor(Protocol):
    """Finds the claims of responses to questions."""

    def claims(self, response: str, question: str = "") -> tuple[Claim, ...]:
        """Claims in the order in which they stand in the response; the same claim is listed once."""
        ...

    def many(self, responses: Sequence[tuple[str, str]]) -> list[tuple[Claim, ...]]:
        """Claims of (response, question) pairs: one batch for an engine."""
        ...


def extractor(kind: Kind, generate: GenerateVerb | None = None) -> Extractor:
    """The extractor of a kind; `llm` needs the `generate` verb of an engine that serves JSON schemas."""
    if kind == "rule":
        from vlrm_ray.claims.rules import RuleExtractor

        return RuleExtractor()
    if generate is None:
        raise UserError("the llm extractor needs an engine; use the rule extractor where there is none")
    from vlrm_ray.claims.llm import LlmExtractor

    return LlmExtractor(generate)
