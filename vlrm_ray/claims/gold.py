"""Measures claim extractors against annotated responses, whose claims are written in this notation:

[not] [maybe] object NOUN
[not] [maybe] attribute NOUN VALUE              also: state NOUN VALUE; a posture or activity is a state either way
[not] [maybe] count NOUN NUMBER                 or: count NOUN more|fewer|as_many NOUN
[not] [maybe] relation NOUN NAME [NOUN]
[not] [maybe] text NOUN "WORDS"
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from vlrm_ray.claims import Extractor
from vlrm_ray.claims.lexicon import load_lexicon
from vlrm_ray.errors import UserError, first_line
from vlrm_ray.types import Claim, ClaimType

_COMPARISONS = frozenset({"more", "fewer", "as_many"})
_IMAGE_RELATIONS = frozenset({"in_middle", "in_background", "in_foreground"})


class ClaimKey(NamedTuple):
    """The parts of a claim that are compared; claims with equal keys count as the same claim."""

    type: str
    subject: str
    value: str | None
    object: str | None
    negated: bool
    hedged: bool

    def __str__(self) -> str:
        value = f'"{self.value}"' if self.type == ClaimType.TEXT else self.value
        marks = ("not " if self.negated else "") + ("maybe " if self.hedged else "")
        return marks + " ".join(filter(None, (self.type, self.subject, value, self.object)))


@dataclass(frozen=True)
class AnnotatedResponse:
    """A response with its expected claims.

    Attributes:
        text: the response.
        question: the question it answers; may be empty.
        claims: the claims that an extractor should find.
        held_out: not used to develop the rules.
    """

    text: str
    question: str
    claims: frozenset[ClaimKey]
    held_out: bool = False


@dataclass
class Score:
    """Exact matches of an extractor.

    Attributes:
        hits: claims found as expected, by claim type.
        false: claims found but not expected, by claim type.
        missed: claims expected but not found, by claim type.
        failures: response, missed claims and false claims of each response with an error.
    """

    hits: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)

    def add(self, text: str, expected: frozenset[ClaimKey], found: frozenset[ClaimKey]) -> None:
        """Count the claims of one response."""
        self.hits.update(k.type for k in expected & found)
        self.false.update(k.type for k in found - expected)
        self.missed.update(k.type for k in expected - found)
        if expected != found:
            self.failures.append(
                (text, tuple(sorted(map(str, expected - found))), tuple(sorted(map(str, found - expected))))
            )

    def expected(self, types: Sequence[str] = tuple(ClaimType)) -> int:
        """Number of expected claims of some types."""
        return sum(self.hits[t] + self.missed[t] for t in types)

    def precision(self, types: Sequence[str] = tuple(ClaimType)) -> float:
        """Share of the claims found that were expected; 1 if none was found."""
        hits, false = sum(self.hits[t] for t in types), sum(self.false[t] for t in types)
        return hits / (hits + false) if hits + false else 1.0

    def recall(self, types: Sequence[str] = tuple(ClaimType)) -> float:
        """Share of the expected claims that were found; 1 if none was expected."""
        expected = self.expected(types)
        return sum(self.hits[t] for t in types) / expected if expected else 1.0

    def f1(self, types: Sequence[str] = tuple(ClaimType)) -> float:
        """Micro-averaged F1 over the claim types; 1 if there are neither expected nor found claims."""
        hits = sum(self.hits[t] for t in types)
        errors = sum(self.false[t] + self.missed[t] for t in types)
        return 2 * hits / (2 * hits + errors) if hits + errors else 1.0


def claim_key(claim: Claim) -> ClaimKey:
    """The key of a claim, without its span and the colors of its nouns."""
    other = claim.object.name if claim.object else None
    return ClaimKey(claim.type, claim.subject.name, claim.value, other, claim.negated, claim.hedged)


def measure(extractor: Extractor, responses: Sequence[AnnotatedResponse]) -> Score:
    """Run an extractor on annotated responses and count exact matches."""
    score = Score()
    found = extractor.claims_batch([(r.text, r.question) for r in responses])
    for response, extraction in zip(responses, found, strict=True):
        score.add(response.text, response.claims, frozenset(map(claim_key, extraction.claims)))
    return score


def load_annotations(path: str | Path) -> list[AnnotatedResponse]:
    """Read a YAML file of annotated responses.

    Each entry has `say` (the response), `claims` (in the notation above, separated by ";") and optionally `ask` (the
    question) and `held_out`.

    Raises:
        UserError: if the file cannot be read or an entry is invalid; the message quotes the entry.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not readable YAML: {first_line(error)}") from error
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "say" in e for e in entries):
        raise UserError(f"{path} must be a list of entries with `say` and `claims`")
    return [_annotated_response(entry, path) for entry in entries]


def _annotated_response(entry: dict[str, object], path: str | Path) -> AnnotatedResponse:
    """One entry of the file; raises UserError."""
    text = entry["say"]
    if not isinstance(text, str):
        raise UserError(f"{path}: `say: {text}` is {type(text).__name__}, expected a string; put it in quotes")
    try:
        keys = frozenset(parse_claim_key(part) for part in str(entry.get("claims") or "").split(";") if part.strip())
    except ValueError as error:
        raise UserError(f"{path}: claims of '{text[:60]}': {error}") from None
    return AnnotatedResponse(text, str(entry.get("ask", "")), keys, bool(entry.get("held_out", False)))


def parse_claim_key(notation: str) -> ClaimKey:
    """Parse one claim in the notation of this module; raises ValueError."""
    words = notation.split()
    negated, hedged = "not" in words[:1], "maybe" in words[:2]
    words = words[negated + hedged :]
    if not words or words[0] not in set(ClaimType) or len(words) < 2:
        raise ValueError(
            f"'{notation.strip()}' is not a claim; write a claim type ({', '.join(ClaimType)}), then a noun"
        )
    claim_type, rest = ClaimType(words[0]), words[1:]
    subject, value, other = _split_parts(claim_type, rest)
    lexicon = load_lexicon()
    if claim_type in (ClaimType.ATTRIBUTE, ClaimType.STATE) and value:
        value = lexicon.attribute(value)
        if value in lexicon.states:  # "attribute dog sitting" is a state
            claim_type = ClaimType.STATE
    other = lexicon.canonical(other) if other else None
    return ClaimKey(claim_type, lexicon.canonical(subject), value, other, negated, hedged)


def _split_parts(claim_type: ClaimType, words: list[str]) -> tuple[str, str | None, str | None]:
    """Subject, value and object from the words after the claim type; each may have several words."""
    line = " ".join(words)
    if claim_type is ClaimType.OBJECT:
        return line, None, None
    if '"' in line:
        subject, _, value = line.partition('"')
        return subject.strip(), value.removesuffix('"'), None
    values = frozenset[str]()
    if claim_type is ClaimType.COUNT:
        values = _COMPARISONS
    elif claim_type is ClaimType.RELATION:
        values = _relation_names()
    value_index = next((i for i, w in enumerate(words) if w in values and i), None)
    if value_index is not None:
        return " ".join(words[:value_index]), words[value_index], " ".join(words[value_index + 1 :]) or None
    if claim_type is ClaimType.RELATION or len(words) < 2:
        raise ValueError(f"'{claim_type} {line}' has no value")
    last_two = load_lexicon().entries.get(" ".join(words[-2:]).lower())
    size = 2 if len(words) > 2 and last_two is not None and last_two.attribute else 1
    return " ".join(words[:-size]), " ".join(words[-size:]), None


def _relation_names() -> frozenset[str]:
    """Canonical names of all relations."""
    entries = load_lexicon().entries.values()
    return frozenset(e.value for e in entries if e.kind in ("relation", "relation_verb")) | _IMAGE_RELATIONS
