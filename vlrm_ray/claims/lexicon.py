"""The word lists of `lexicon.yaml` as patterns and lookups."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import inflect
import yaml

NUMBERS = {
    "no": 0, "zero": 0, "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6,
    "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "dozen": 12, "single": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Lexicon:
    """Lookups from a word as written (lower case) to its canonical form, and patterns for the words."""

    nouns: dict[str, str]
    plurals: frozenset[str]
    colors: dict[str, str]
    relations: dict[str, str]
    hedges: frozenset[str]

    @property
    def noun(self) -> str:
        """Pattern of any noun, longest first."""
        return _any(self.nouns)

    @property
    def color(self) -> str:
        """Pattern of any colour."""
        return _any(self.colors)

    @property
    def relation(self) -> str:
        """Pattern of any relation."""
        return _any(self.relations)


@lru_cache(maxsize=4)
def load(path: Path | None = None) -> Lexicon:
    """Read a lexicon file; the package's own without a path."""
    content = yaml.safe_load((path or Path(__file__).with_name("lexicon.yaml")).read_text())
    engine = inflect.engine()
    nouns: dict[str, str] = {}
    plurals: set[str] = set()
    for canonical, synonyms in content["objects"].items():
        for word in (canonical, *synonyms):
            many = str(engine.plural_noun(word) or word)
            nouns.setdefault(many, canonical)
            nouns[word] = canonical
            if many != word:
                plurals.add(many)
    return Lexicon(
        nouns=nouns,
        plurals=frozenset(plurals | {"people", "cattle"}),
        colors=_flat(content["colors"]),
        relations=_flat(content["relations"]),
        hedges=frozenset(content["hedges"]),
    )


def _flat(groups: dict[str, list[str]]) -> dict[str, str]:
    words = {word: canonical for canonical, synonyms in groups.items() for word in synonyms}
    return words | {c: c for c in groups if "_" not in c}


def _any(words: dict[str, str]) -> str:
    return "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))
