"""The lexicon: a table from phrases as written to their meaning, built from `lexicon.yaml` and the function words."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vlrm_ray.claims.function_words import FUNCTION_WORDS, TokenKind
from vlrm_ray.types import ClaimType

LEXICON, PLURALS = (Path(__file__).with_name(name) for name in ("lexicon.yaml", "plurals.json"))
"""Words of this package's lexicon, and the plurals of its nouns."""


class Entry(NamedTuple):
    """The meaning of a phrase. One phrase may be a noun and an attribute ("orange").

    Attributes:
        kind: part of speech.
        value: depends on `kind`, for example the number, the canonical relation or the kind of hedge.
        noun: canonical singular noun; empty if the phrase is no noun.
        plural: the phrase is the noun's plural.
        attribute: canonical attribute; empty if the phrase is none. For a `relation_verb`, "finite" or "participle".
    """

    kind: TokenKind
    value: str = ""
    noun: str = ""
    plural: bool = False
    attribute: str = ""


UNKNOWN = Entry("word")
_SINGULAR_ARTICLES = frozenset({"a", "an"})
_ANIMATE_KINDS = ("person", "animal")


MAX_SENTENCES = 50_000
"""Sentences whose words are kept looked up; responses to one prompt repeat many."""


@dataclass
class Lexicon:
    """Entries by phrase. Phrases are in lower case, with single spaces between words.

    Attributes:
        entries: the meaning of each phrase.
        longest: first word of each phrase, with the number of words of the longest phrase that starts with it.
        colors: canonical names of colors.
        pairs: nouns without a singular ("scissors"); "a pair of" them is one.
        animate: nouns that name people or animals.
        people: those of them that name people.
        states: canonical names of postures and activities.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)
    colors: frozenset[str] = frozenset()
    pairs: frozenset[str] = frozenset()
    animate: frozenset[str] = frozenset()
    people: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    _phrases: dict[tuple[str, ...], list[tuple[int, int, Entry]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def add(self, phrase: str, entry: Entry) -> None:
        """Add a phrase. A phrase that is already known keeps its meaning and gains what it lacks."""
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

    def phrases(self, words: tuple[str, ...]) -> list[tuple[int, int, Entry]]:
        """Look up the words of a sentence. Of several phrases that start with the same word, the longest wins.

        Args:
            words: the words in lower case, "" for a piece that has its meaning already, such as a mark.

        Returns:
            Index of the first word, number of words and meaning of each phrase, in order. The meaning of a word that is
            not in the lexicon, and of "", is `UNKNOWN`.
        """
        found = self._phrases.get(words)
        if found is None:
            if len(self._phrases) >= MAX_SENTENCES:
                self._phrases.clear()
            found = self._phrases[words] = self._find_phrases(words)
        return found

    def _find_phrases(self, words: tuple[str, ...]) -> list[tuple[int, int, Entry]]:
        found: list[tuple[int, int, Entry]] = []
        entries, longest, i, count = self.entries, self.longest, 0, len(words)
        while i < count:
            word, size = words[i], 1
            entry, longer = entries.get(word, UNKNOWN), longest.get(word, 1)
            while longer > 1:
                if i + longer <= count and (phrase := entries.get(" ".join(words[i : i + longer]))) is not None:
                    if phrase.plural and self._follows_article(words, i):
                        longer -= 1  # "an umbrella stands" is no umbrella stand
                        continue
                    entry, size = phrase, longer
                    break
                longer -= 1
            found.append((i, size, entry))
            i += size
        return found

    def _follows_article(self, words: tuple[str, ...], i: int) -> bool:
        """Whether "a" or "an" stands before word `i`, possibly with attributes between them."""
        i -= 1
        while i > 0 and (words[i] == "and" or self.entries.get(words[i], UNKNOWN).attribute):
            i -= 1
        return i >= 0 and words[i] in _SINGULAR_ARTICLES

    def canonical(self, noun: str) -> str:
        """The canonical form of a singular noun; the noun itself if it is unknown."""
        entry = self.entries.get(noun.lower())
        return entry.noun if entry and entry.noun and not entry.plural else noun

    def is_modifier(self, word: str) -> bool:
        """Whether a word, in lower case, is a determiner or an attribute."""
        entry = self.entries.get(word)
        return entry is not None and (entry.kind == "determiner" or bool(entry.attribute))

    def attribute_type(self, value: str) -> ClaimType:
        """Type of the claim that something has a canonical attribute or is in a state."""
        return ClaimType.STATE if value in self.states else ClaimType.ATTRIBUTE

    def attribute(self, word: str) -> str:
        """The canonical form of an attribute; the word itself if it is unknown."""
        entry = self.entries.get(word.lower())
        return entry.attribute if entry and entry.attribute else word


@lru_cache(maxsize=4)
def load_lexicon(path: Path | None = None) -> Lexicon:
    """Read a lexicon file, by default the one of this package."""
    content: dict[str, Any] = yaml.safe_load((path or LEXICON).read_text("utf-8"))
    lexicon = Lexicon(
        colors=frozenset(content["colors"]), pairs=frozenset(content["pairs"]), states=frozenset(content["states"])
    )
    for phrase, (kind, value) in FUNCTION_WORDS.items():
        lexicon.add(phrase, Entry(kind, value))
    for section in ("hedges", "relations", "links", "states"):
        for phrase, entry in _section_entries(section, content[section]):
            lexicon.add(phrase, entry)
    for section in ("colors", "attributes"):
        for canonical, synonyms in content[section].items():
            for phrase in (canonical, *synonyms):
                lexicon.add(phrase, Entry("content", attribute=canonical))
    for canonical, phrase in _nouns(content):
        for form, plural in _forms(phrase):
            lexicon.add(form, Entry("content", noun=canonical, plural=plural))
    for phrase in content["unseen"]:
        for form, _ in _forms(phrase):
            lexicon.add(form, Entry("uncheckable"))
    for phrase in content["plural_objects"]:
        lexicon.entries[plural_of(phrase)] = Entry("content", noun=phrase, plural=True)
    for phrase in content["amounts"]:
        for form, _ in _forms(phrase):
            lexicon.add(f"{form} of", Entry("amount"))
    for phrase in content["vague"]:
        lexicon.add(phrase, Entry("vague"))
    lexicon.animate = frozenset(noun for kind in _ANIMATE_KINDS for noun in _with_kinds(kind, content["kinds"]))
    lexicon.people = frozenset(_with_kinds("person", content["kinds"]))
    return lexicon


def _with_kinds(noun: str, kinds: dict[str, list[str]]) -> Iterator[str]:
    """A noun and all narrower ones of the section `kinds`."""
    yield noun
    for narrower in kinds.get(noun, ()):
        yield from _with_kinds(narrower, kinds)


def _section_entries(section: str, groups: dict[str, list[str]]) -> Iterator[tuple[str, Entry]]:
    """Entries of a section that lists phrases by canonical name."""
    for canonical, phrases in groups.items():
        for phrase in dict.fromkeys((*phrases, *((canonical,) if section in ("links", "states") else ()))):
            form = "participle" if phrase.endswith(("ing", "ed", "asleep")) else "finite"
            if section == "hedges":
                yield phrase, Entry("hedge", canonical)
            elif section == "relations":
                yield phrase, Entry("relation", canonical)
            elif section == "links":
                yield phrase, Entry("relation_verb", canonical, attribute=form)
            else:
                yield phrase, Entry("activity", form, attribute=canonical)


def _nouns(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Canonical noun and phrase, for each singular noun of the file."""
    for canonical, synonyms in content["objects"].items():
        for phrase in (canonical, *synonyms):
            yield canonical, phrase
    for narrow in content["kinds"].values():
        yield from ((phrase, phrase) for phrase in narrow)
    yield from ((phrase, phrase) for phrase in content["things"])


def _forms(phrase: str) -> Iterator[tuple[str, bool]]:
    """Singular and plural of a noun phrase, each with whether it is the plural."""
    yield phrase, False
    plural = plural_of(phrase)
    if plural != phrase:
        yield plural, True


@cache
def _inflect_engine() -> Any:
    """The rules of English plurals. Their import takes seconds, which only unlisted words should cost."""
    import inflect

    return inflect.engine()


@cache
def _listed_plurals() -> dict[str, str]:
    """Plurals of the nouns in this package's lexicon, by `jobs/assets/plurals.py`; they spare the import of inflect."""
    plurals: dict[str, str] = json.loads(PLURALS.read_text("utf-8"))
    return plurals


def plural_of(phrase: str) -> str:
    """Plural of a singular noun phrase."""
    return _listed_plurals().get(phrase) or inflected_plural(phrase)


def inflected_plural(phrase: str) -> str:
    """Plural of a singular noun phrase by the rules of inflect."""
    return str(_inflect_engine().plural_noun(phrase) or phrase)


def counted_nouns(path: Path = LEXICON) -> list[str]:
    """The noun phrases of a lexicon file that have a plural."""
    content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    others = (*content["unseen"], *content["plural_objects"], *content["amounts"])
    return sorted({*(phrase for _, phrase in _nouns(content)), *others})


@lru_cache(maxsize=20_000)
def singular_of(word: str) -> tuple[str, bool]:
    """Singular of a noun that is not in the lexicon, and whether `word` was a plural."""
    if word.endswith(("ss", "us", "is")) or len(word) < 3:
        return word, False
    singular = _inflect_engine().singular_noun(word)
    return (str(singular), True) if singular else (word, False)
