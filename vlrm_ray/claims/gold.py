"""Sentences with their claims in a notation that people write, and extractors measured against them.

[not] [maybe] object NOUN
[not] [maybe] attribute NOUN VALUE
[not] [maybe] count NOUN NUMBER                 or: count NOUN more|fewer|as_many NOUN
[not] [maybe] relation NOUN NAME [NOUN]
[not] [maybe] text NOUN "WORDS"
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from vlrm_ray.claims import Extractor, lexicon
from vlrm_ray.errors import UserError
from vlrm_ray.types import Claim, ClaimType

_COMPARISONS = frozenset({"more", "fewer", "as_many"})
_PLACES = frozenset({"in_middle", "in_background", "in_foreground"})


class Key(NamedTuple):
    """What two claims must share to be the same claim."""

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
class Sentence:
    """A response with the claims that a careful reader finds in it."""

    text: str
    question: str
    claims: frozenset[Key]
    held_out: bool = False


@dataclass
class Score:
    """Hits, false claims and missed ones of each claim type, and every failure."""

    hits: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)

    def add(self, text: str, expected: frozenset[Key], found: frozenset[Key]) -> None:
        """Count one response."""
        self.hits.update(k.type for k in expected & found)
        self.false.update(k.type for k in found - expected)
        self.missed.update(k.type for k in expected - found)
        if expected != found:
            self.failures.append(
                (text, tuple(sorted(map(str, expected - found))), tuple(sorted(map(str, found - expected))))
            )

    def f1(self, types: Iterable[str] = tuple(ClaimType)) -> float:
        """Micro F1 over the types; 1 where there was nothing to find and nothing was found."""
        hits, wrong = (sum(c[t] for c in cs for t in types) for cs in ((self.hits,), (self.false, self.missed)))
        return 2 * hits / (2 * hits + wrong) if hits + wrong else 1.0


def key(claim: Claim) -> Key:
    """The claim without its place, and without what picks its subject out."""
    other = claim.object.name if claim.object else None
    return Key(claim.type, claim.subject.name, claim.value, other, claim.negated, claim.hedged)


def measure(extractor: Extractor, sentences: Sequence[Sentence]) -> Score:
    """Exact matches of an extractor."""
    score = Score()
    found = extractor.many([(s.text, s.question) for s in sentences])
    for sentence, claims in zip(sentences, found, strict=True):
        score.add(sentence.text, sentence.claims, frozenset(map(key, claims)))
    return score


def load(path: str | Path) -> list[Sentence]:
    """Read a file of sentences; raises UserError that names the line to mend."""
    try:
        entries = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not readable YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "say" in e for e in entries):
        raise UserError(f"{path} must be a list of entries with `say` and `claims`")
    return [_sentence(entry, path) for entry in entries]


def _sentence(entry: dict[str, object], path: str | Path) -> Sentence:
    text = entry["say"]
    if not isinstance(text, str):
        raise UserError(f"{path}: `say: {text}` is not text to YAML; put it in quotes")
    try:
        claims = frozenset(parse(part) for part in str(entry.get("claims") or "").split(";") if part.strip())
    except ValueError as error:
        raise UserError(f"{path}: '{text[:60]}': {error}") from None
    return Sentence(text, str(entry.get("ask", "")), claims, bool(entry.get("held_out", False)))


def parse(notation: str) -> Key:
    """One claim in the notation above; raises ValueError."""
    words = notation.split()
    negated, hedged = "not" in words[:1], "maybe" in words[:2]
    words = words[negated + hedged :]
    if not words or words[0] not in set(ClaimType) or len(words) < 2:
        raise ValueError(f"'{notation.strip()}' is no claim; begin with {', '.join(ClaimType)}")
    kind, rest = ClaimType(words[0]), words[1:]
    subject, value, other = _parts(kind, rest)
    known = lexicon.load()
    if kind is ClaimType.ATTRIBUTE and value:
        value = known.attribute(value)
    return Key(kind, known.canonical(subject), value, known.canonical(other) if other else None, negated, hedged)


def _parts(kind: ClaimType, words: list[str]) -> tuple[str, str | None, str | None]:
    """Subject, value and object; nouns may have several words."""
    line = " ".join(words)
    if kind is ClaimType.OBJECT:
        return line, None, None
    if '"' in line:
        subject, _, value = line.partition('"')
        return subject.strip(), value.removesuffix('"'), None
    middle = _COMPARISONS if kind is ClaimType.COUNT else _relations() if kind is ClaimType.RELATION else frozenset()
    cut = next((i for i, w in enumerate(words) if w in middle and i), None)
    if cut is not None:
        return " ".join(words[:cut]), words[cut], " ".join(words[cut + 1 :]) or None
    if kind is ClaimType.RELATION or len(words) < 2:
        raise ValueError(f"'{kind} {line}' has no value")
    last_two = " ".join(words[-2:])
    size = 2 if len(words) > 2 and lexicon.load().attribute(last_two) != last_two else 1
    size = (
        2
        if len(words) > 2 and last_two in lexicon.load().entries and lexicon.load().entries[last_two].attribute
        else size
    )
    return " ".join(words[:-size]), " ".join(words[-size:]), None


def _relations() -> frozenset[str]:
    return frozenset(e.value for e in lexicon.load().entries.values() if e.kind in ("relation", "link")) | _PLACES
