"""What a question asks: the claims that a bare yes or no decides, and what an answer speaks of."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.phrases import Phrase, PhraseReader
from vlrm_ray.claims.reader import Reader
from vlrm_ray.claims.tokens import Token, sentences
from vlrm_ray.types import Claim, ClaimType


class Asked(NamedTuple):
    """A question.

    Attributes:
        claims: what "yes" asserts and "no" denies, without what the question supposes.
        about: the thing that an answer without a subject speaks of.
        reads: it asks for words that are written.
        either: it names alternatives ("a dog or a cat"): "no" denies each, "yes" decides none.
    """

    claims: tuple[Claim, ...] = ()
    about: tuple[Phrase, ...] = ()
    reads: bool = False
    either: bool = False

    def answered(self, *, yes: bool) -> tuple[Claim, ...]:
        """The claims that a bare yes or no makes; "no" to several at once leaves open which one fails."""
        if len(self.claims) == 1 or yes != self.either:
            return tuple(c if yes else replace(c, negated=not c.negated) for c in self.claims)
        return ()


def asked(question: str, words: Lexicon, phrases: PhraseReader) -> Asked:
    """Understand a question, or the last one of several."""
    found = [s for s in sentences(question, words) if len(s) > 1]
    return of_sentence(found[-1], words, phrases) if found else Asked()


def of_sentence(tokens: Sequence[Token], words: Lexicon, phrases: PhraseReader) -> Asked:
    """Understand a sentence that asks: read it as if it stated."""
    label = next((i + 1 for i, t in enumerate(tokens[:3]) if t.entry.kind == "colon"), 0)
    tokens = tokens[label:]
    if not tokens:
        return Asked()
    decides = tokens[0].entry.kind == "be" or tokens[0].text.lower() in (
        "does",
        "do",
        "did",
        "can",
        "could",
        "has",
        "have",
    )
    reader = Reader(words, phrases)
    reader.sentence(_as_statement(tokens, phrases) if tokens[0].entry.kind == "be" else tokens)
    claims = reader.found.listed()
    special = [c for c in claims if c.type is not ClaimType.OBJECT]
    covered = {n.name for c in special for n in (c.subject, c.object) if n is not None}
    if len(claims) > 1:
        covered |= {m.name for m in reader.mentions if m.definite}
    wanted = tuple(c for c in claims if c.type is not ClaimType.OBJECT or c.subject.name not in covered)
    reads = any(t.entry.kind in ("says", "written") for t in tokens)
    either = any(t.entry.kind == "or" for t in tokens)
    return Asked(wanted if decides else (), tuple(reader.mentions[:1]), reads and not decides, either)


def _as_statement(tokens: Sequence[Token], phrases: PhraseReader) -> list[Token]:
    """ "Is the cat black?" as "the cat is black"."""
    if tokens[1].entry.kind in ("there", "pronoun"):
        subject = 2
    else:
        phrase = phrases.read(tokens, 1)
        subject = phrase.after if phrase is not None else 1
    return [*tokens[1:subject], tokens[0], *tokens[subject:]]
