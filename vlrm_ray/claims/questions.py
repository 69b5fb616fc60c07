"""Parses a question: the claims that a bare "yes" or "no" decides, and the topic of an answer without a subject."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.noun_phrases import NounPhrase, parse_noun_phrase
from vlrm_ray.claims.reader import ResponseReader
from vlrm_ray.claims.tokens import Token, sentences
from vlrm_ray.types import Claim, ClaimType

_AUXILIARIES = frozenset({"does", "do", "did", "can", "could", "has", "have"})
"""First words of a yes-no question, besides the forms of "be"."""


class ParsedQuestion(NamedTuple):
    """What a question means for its answer.

    Attributes:
        claims: claims that "yes" asserts and "no" denies, without what the question presupposes.
        topic: noun phrases that an answer without a subject describes.
        asks_for_text: the answer is written text.
        has_alternatives: the question names alternatives ("a dog or a cat"): "no" denies each, "yes" decides none.
    """

    claims: tuple[Claim, ...] = ()
    topic: tuple[NounPhrase, ...] = ()
    asks_for_text: bool = False
    has_alternatives: bool = False

    def answered(self, *, yes: bool) -> tuple[Claim, ...]:
        """The claims of a bare "yes" or "no". A "no" to several claims at once does not tell which one is false."""
        if len(self.claims) == 1 or yes != self.has_alternatives:
            return tuple(c if yes else replace(c, negated=not c.negated) for c in self.claims)
        return ()


def parse_question(question: str, lexicon: Lexicon) -> ParsedQuestion:
    """Parse a question; if it has several sentences, the last one."""
    non_empty = [s for s in sentences(question, lexicon) if len(s) > 1]
    return parse_question_sentence(non_empty[-1], lexicon) if non_empty else ParsedQuestion()


def parse_question_sentence(tokens: Sequence[Token], lexicon: Lexicon) -> ParsedQuestion:
    """Parse one sentence as a question, by reading it as if it were a statement."""
    label_end = next((i + 1 for i, t in enumerate(tokens[:3]) if t.entry.kind == "colon"), 0)
    tokens = tokens[label_end:]
    if not tokens:
        return ParsedQuestion()
    starts_with_be = tokens[0].entry.kind == "be"
    is_yes_no = starts_with_be or tokens[0].text.lower() in _AUXILIARIES
    reader = ResponseReader(lexicon)
    reader.read_sentence(_as_statement(tokens, lexicon) if starts_with_be else tokens)
    claims, mentions = reader.state.claims.unique(), reader.state.mentions
    specific = [c for c in claims if c.type is not ClaimType.OBJECT]
    presupposed = {n.name for c in specific for n in (c.subject, c.object) if n is not None}
    if len(claims) > 1:
        presupposed |= {m.name for m in mentions if m.definite}
    decided = tuple(c for c in claims if c.type is not ClaimType.OBJECT or c.subject.name not in presupposed)
    names_text = any(t.entry.kind in ("text_verb", "text_noun") for t in tokens)
    has_alternatives = any(t.entry.kind == "or" for t in tokens)
    return ParsedQuestion(
        decided if is_yes_no else (), tuple(mentions[:1]), names_text and not is_yes_no, has_alternatives
    )


def _as_statement(tokens: Sequence[Token], lexicon: Lexicon) -> list[Token]:
    """ "Is the cat black?" as "the cat is black"."""
    if tokens[1].entry.kind in ("there", "pronoun"):
        subject_end = 2
    else:
        phrase = parse_noun_phrase(tokens, 1, lexicon)
        subject_end = phrase.next_index if phrase is not None else 1
    return [*tokens[1:subject_end], tokens[0], *tokens[subject_end:]]
