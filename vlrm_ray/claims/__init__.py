"""Extracts atomic, typed claims from free text. Three extractors share one interface: by rules, by a dependency parse, and by
a language model.

How the rules turn a response into claims:

1. `tokens` splits the text into sentences of tokens and looks each phrase up in the `lexicon`, which gives it a token
   kind. `lexicon.yaml` holds nouns, amounts ("a group of"), colors and other attributes, postures and activities, verbs and
   prepositions that relate objects, hedges, and words that no claim is made about. `function_words` holds the rest:
   articles, numbers, negations, pronouns and the like.
2. `reader` walks through a sentence and calls the handler of each token's kind (`handlers/`). Handlers share a
   `reader_state`: the current `clause`, the noun phrases mentioned so far, and the claims found.
3. `noun_phrases` parses noun phrases ("the two red circles"); each one adds existence, attribute and count claims.
4. Handlers of verbs, prepositions, quotations and pronouns relate noun phrases within the `clause`, with its negation and
   hedges, and add attribute, relation and text claims to the `claim_collector`.
5. `questions` parses the question in the same way, so that "yes" asserts what was asked, and "it" refers to the noun asked
   about.

`rules` is the rule-based extractor built from these steps. `parse` uses the lexicon and the noun phrases too, but takes the
structure of a sentence from spaCy's parse. `llm` prompts a language model. `gold` measures an extractor against annotated
responses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.types import Claim

ExtractorKind = Literal["rule", "parse", "llm"]
EXTRACTOR_KINDS: tuple[ExtractorKind, ...] = ("rule", "parse", "llm")
GenerateFunction = Callable[[Sequence[Request], Sampling], list[list[Completion]]]
"""The `generate` method of an engine, in this process or in an actor."""


@dataclass(frozen=True)
class Extraction:
    """What an extractor found in a response.

    Attributes:
        claims: the claims of the response, in the order of the text and without duplicates.
        complete: whether all of the response was read. What it claims elsewhere is unknown if not.
    """

    claims: tuple[Claim, ...] = ()
    complete: bool = True


class Extractor(Protocol):
    """Finds the claims of responses."""

    def claims(self, response: str, question: str = "") -> tuple[Claim, ...]:
        """The claims of a response to a question, in the order of the text and without duplicates."""
        ...

    def claims_batch(self, responses: Sequence[tuple[str, str]]) -> list[Extraction]:
        """The claims of each (response, question) pair; an engine gets all of them as one batch."""
        ...


def make_extractor(kind: ExtractorKind, generate: GenerateFunction | None = None) -> Extractor:
    """Create an extractor.

    Args:
        kind: "rule", "parse" or "llm".
        generate: for "llm", the `generate` method of an engine that supports JSON schemas.

    Raises:
        UserError: if `kind` is "llm" and `generate` is None.
    """
    if kind == "rule":
        from vlrm_ray.claims.rules import RuleExtractor

        return RuleExtractor()
    if kind == "parse":
        from vlrm_ray.claims.parse.extractor import ParseExtractor

        return ParseExtractor()
    if generate is None:
        raise UserError(
            "the llm extractor needs an engine that supports JSON schemas; use the rule extractor without one"
        )
    from vlrm_ray.claims.llm import LlmExtractor

    return LlmExtractor(generate)
