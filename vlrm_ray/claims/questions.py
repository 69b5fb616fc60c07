"""Parses a question: the claims that a bare "yes" or "no" decides, and the topic of an answer without a subject."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from vlrm_ray.claims import scope
from vlrm_ray.claims.claim_collector import decided_claims
from vlrm_ray.claims.function_words import IMAGE_NOUNS
from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.noun_phrases import NounPhrase, parse_noun_phrase
from vlrm_ray.claims.reader import ResponseReader
from vlrm_ray.claims.tokens import Token, look_up, split_pieces
from vlrm_ray.types import Claim, ClaimType

_AUXILIARIES = frozenset({"does", "do", "did", "can", "could", "has", "have"})
"""First words of a yes-no question, besides the forms of "be"."""


_NAMING = frozenset((
    "brand", "brands", "logo", "sport", "sports", "game", "company", "make", "model", "name", "title", "team", "airline", "missing", "absent", "movie",
    "character", "language", "holiday", "mascot", "symbol",
))  # fmt: skip
"""Words of a question whose answer names something that need not be in the image: "what brand is the laptop?"."""
_NOT = frozenset({"not", "isn't", "aren't"})
_QUALITIES = frozenset({"color", "colour", "colors", "colours", "material", "size", "shape", "pattern"})
_WHO = frozenset({"who", "what"})
_TEXTS = frozenset({"number", "word", "text", "letter"})
"""Nouns of a question that name the text that it asks for, not what carries it."""


class ParsedQuestion(NamedTuple):
    """What a question means for its answer.

    Attributes:
        claims: claims that "yes" asserts, without what the question presupposes.
        deniable: those of them that "no" denies.
        topic: noun phrases that an answer without a subject describes.
        asks_for_text: the answer is written text.
        asks_for_name: what the answer names need not be in the image, as a brand or a sport.
        has_alternatives: the question names alternatives ("a dog or a cat"): "no" denies each, "yes" decides none.
        restricts: it asks only for some objects ("who is on the couch?"): "nobody" does not deny that there are others.
    """

    claims: tuple[Claim, ...] = ()
    deniable: tuple[Claim, ...] = ()
    topic: tuple[NounPhrase, ...] = ()
    asks_for_text: bool = False
    asks_for_name: bool = False
    has_alternatives: bool = False
    restricts: bool = False

    def answered(self, *, yes: bool) -> tuple[Claim, ...]:
        """The claims of a bare "yes" or "no". A "no" to several claims at once does not tell which one is false."""
        if len(self.claims) == 1 or yes != self.has_alternatives:
            return self.claims if yes else tuple(replace(c, negated=not c.negated) for c in self.deniable)
        return ()


def parse_question(question: str, lexicon: Lexicon) -> ParsedQuestion:
    """Parse a question; if it has several sentences, the last one."""
    *_, last = [None, *(pieces for pieces in split_pieces(question) if len(pieces) > 1)]
    return parse_question_sentence(last, lexicon) if last else ParsedQuestion()


def parse_question_sentence(pieces: Sequence[Token], lexicon: Lexicon) -> ParsedQuestion:
    """Parse one sentence as a question, by reading it as if it were a statement."""
    label_end = next((i + 1 for i, p in enumerate(pieces[:3]) if p.entry.kind == "colon"), 0)
    body = pieces[label_end:-1]
    is_plain = not body or not (
        scope.asks_yes_no(body[0]) or any(p.entry.kind == "comma" or p.text.lower() == "many" for p in body)
    )
    question = scope.Question(list(body)) if is_plain else scope.analyze_question(body, lexicon)
    if not question.pieces:
        return ParsedQuestion()
    tokens = look_up([*question.pieces, pieces[-1]], lexicon)
    starts_with_be = tokens[0].entry.kind == "be"
    is_yes_no = starts_with_be or question.is_statement or tokens[0].text.lower() in _AUXILIARIES
    reader = ResponseReader(lexicon)
    statement = _as_statement(tokens, lexicon) if starts_with_be else tokens
    reader.read_sentence(statement)
    claims = reader.state.claims.unique()
    mentions = reader.state.mentions
    decided = decided_claims(claims, [m.name for m in mentions if m.definite] if len(claims) > 1 else ())
    if not is_yes_no or question.is_open:
        decided = ()
    if not question.is_exact:
        decided = tuple(c for c in decided if c.type is not ClaimType.COUNT)
    deniable = decided if question.is_deniable else tuple(c for c in decided if c.type is ClaimType.RELATION)
    names_text = any(t.entry.kind in ("text_verb", "text_noun") for t in tokens)
    names_text = names_text and tokens[0].text.lower() not in ("how", "how many")
    words = {t.text.lower() for t in tokens}
    if not _QUALITIES.isdisjoint(words):
        if names_text:  # "what color is the text on the bus?"
            mentions, names_text = [], False
        owners = [m for m in mentions if statement[m.next_index].entry.kind == "genitive"]
        mentions = [m for m in mentions if m not in owners] or mentions  # "what color is the dog's collar?"
    if names_text:
        mentions = [m for m in mentions if m.name not in _TEXTS] or mentions
    topic = tuple(m if question.is_exact else replace(m, partial=True) for m in mentions[:1])
    has_alternatives = any(t.entry.kind == "or" for t in tokens)
    is_absent = not (_NOT.isdisjoint(words) or IMAGE_NOUNS.isdisjoint(words))  # "what is not in the picture?"
    asks_for_text, asks_for_name = (
        names_text and not is_yes_no,
        not is_yes_no and (is_absent or not _NAMING.isdisjoint(words)),
    )
    asks_who = not _WHO.isdisjoint(words) and _QUALITIES.isdisjoint(words)
    restricts = asks_who or any(c.type is ClaimType.RELATION for c in claims)
    return ParsedQuestion(decided, deniable, topic, asks_for_text, asks_for_name, has_alternatives, restricts)


def _as_statement(tokens: Sequence[Token], lexicon: Lexicon) -> list[Token]:
    """ "Is the cat black?" as "the cat is black"."""
    if tokens[1].entry.kind in ("there", "pronoun"):
        subject_end = 2
    else:
        phrase = parse_noun_phrase(tokens, 1, lexicon)
        subject_end = phrase.next_index if phrase is not None else 1
    return [*tokens[1:subject_end], tokens[0], *tokens[subject_end:]]
