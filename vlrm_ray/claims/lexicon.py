"""The word lists of `lexicon.yaml` as one table from a phrase as written to what it means."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import inflect
import yaml

from vlrm_ray.claims.grammar import GRAMMAR, Kind

_INFLECT = inflect.engine()


class Entry(NamedTuple):
    """What a phrase can be: a part of speech with its value, and inside a noun phrase a noun or an attribute."""

    kind: Kind
    value: str = ""
    noun: str = ""
    plural: bool = False
    attribute: str = ""


UNKNOWN = Entry("word")
_ANIMATE = frozenset({"person", "animal"})


@dataclass
class Lexicon:
    """Phrases in lower case, words separated by single spaces.

    Attributes:
        entries: what each phrase is.
        longest: first word of each phrase to the number of words of the longest that starts so.
        animate: nouns of people and animals.
        broader: narrower noun to the kind it is one of ("puppy" to "dog").
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)
    broader: dict[str, str] = field(default_factory=dict)
    colors: frozenset[str] = frozenset()
    pairs: frozenset[str] = frozenset()
    animate: frozenset[str] = frozenset()

    def add(self, phrase: str, entry: Entry) -> None:
        """Add a phrase; one that is known keeps its part of speech and gains the other readings."""
        known = self.entries.get(phrase)
        if known is not None:
            entry = Entry(
                known.kind if known.kind != "content" else entry.kind,
                known.value or entry.value,
                known.noun or entry.noun,
                known.plural if known.noun else entry.plural,
                known.attribute or entry.attribute,
            )
        self.entries[phrase] = entry
        words = phrase.split(" ")
        self.longest[words[0]] = max(len(words), self.longest.get(words[0], 1))

    def kind_of(self, noun: str) -> str:
        """The broadest kind that a noun is known to be one of, itself if it is of none."""
        broad = self.broader_of(noun)
        return self.kind_of(broad) if broad else noun

    def broader_of(self, noun: str) -> str:
        """The next broader noun: "puppy" is a "dog", "passenger train" a "train"; empty if none is known."""
        if noun in self.broader:
            return self.broader[noun]
        head = noun.rpartition(" ")[2]
        known = self.entries.get(head)
        return known.noun if head != noun and noun not in self.entries and known and known.noun else ""

    def canonical(self, noun: str) -> str:
        """The canonical form of a singular noun, itself if it is not known."""
        entry = self.entries.get(noun.lower())
        return entry.noun if entry and entry.noun and not entry.plural else noun

    def attribute(self, word: str) -> str:
        """The canonical form of an attribute, itself if it is not known."""
        entry = self.entries.get(word.lower())
        return entry.attribute if entry and entry.attribute else word


@lru_cache(maxsize=4)
def load(path: Path | None = None) -> Lexicon:
    """Read a lexicon file; the package's own without a path."""
    content: dict[str, Any] = yaml.safe_load((path or Path(__file__).with_name("lexicon.yaml")).read_text("utf-8"))
    words = Lexicon(colors=frozenset(content["colors"]), pairs=frozenset(content["pairs"]))
    for phrase, (kind, value) in GRAMMAR.items():
        words.add(phrase, Entry(kind, value))
    for name in ("hedges", "relations", "links", "states"):
        for phrase, entry in _verbs_and_relations(name, content[name]):
            words.add(phrase, entry)
    for name in ("colors", "attributes"):
        for canonical, synonyms in content[name].items():
            for phrase in (canonical, *synonyms):
                words.add(phrase, Entry("content", attribute=canonical))
    for canonical, phrase in _nouns(content):
        for form, plural in _forms(phrase):
            words.add(form, Entry("content", noun=canonical, plural=plural))
    for phrase in content["unseen"]:
        for form, _ in _forms(phrase):
            words.add(form, Entry("unseen"))
    for phrase in content["amounts"]:
        for form, _ in _forms(phrase):
            words.add(f"{form} of", Entry("amount"))
    for phrase in content["vague"]:
        words.add(phrase, Entry("vague"))
    for broad, narrow in content["kinds"].items():
        words.broader.update(dict.fromkeys(narrow, broad))
    words.animate = frozenset(n for n in {*words.broader, *words.broader.values()} if words.kind_of(n) in _ANIMATE)
    return words


def _verbs_and_relations(name: str, groups: dict[str, list[str]]) -> Iterator[tuple[str, Entry]]:
    """Finite and other forms: `Entry.value` of a state is "finite" or "participle"."""
    for canonical, phrases in groups.items():
        for phrase in dict.fromkeys((*phrases, *((canonical,) if name in ("links", "states") else ()))):
            finite = "participle" if phrase.endswith(("ing", "ed", "asleep")) else "finite"
            if name == "hedges":
                yield phrase, Entry("hedge", canonical)
            elif name == "relations":
                yield phrase, Entry("relation", canonical)
            elif name == "links":
                yield phrase, Entry("link", canonical, attribute=finite)
            else:
                yield phrase, Entry("state", finite, attribute=canonical)


def _nouns(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for canonical, synonyms in content["objects"].items():
        for phrase in (canonical, *synonyms):
            yield canonical, phrase
    for narrow in content["kinds"].values():
        yield from ((phrase, phrase) for phrase in narrow)
    yield from ((phrase, phrase) for phrase in content["things"])


def _forms(phrase: str) -> Iterator[tuple[str, bool]]:
    yield phrase, False
    many = plural_of(phrase)
    if many != phrase:
        yield many, True


def plural_of(phrase: str) -> str:
    """Plural of a singular noun phrase."""
    return str(_INFLECT.plural_noun(phrase) or phrase)


@lru_cache(maxsize=20_000)
def singular_of(word: str) -> tuple[str, bool]:
    """Singular of a noun that the lexicon does not have, and whether it was a plural."""
    if word.endswith(("ss", "us", "is")) or len(word) < 3:
        return word, False
    one = _INFLECT.singular_noun(word)
    return (str(one), True) if one else (word, False)
