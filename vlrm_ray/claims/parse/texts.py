"""Written text in a parsed sentence: "the sign says STOP", "with the word OPEN on it", 'labelled "tea"'."""

from collections.abc import Iterator
from dataclasses import dataclass

from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.parse.clauses import Clauses
from vlrm_ray.claims.parse.nouns import NounFinder
from vlrm_ray.claims.parse.sentence import Sentence

_STEPPED_OVER = frozenset({"determiner", "text_noun", "colon", "skip", "approximate", "comma"})
_INTRODUCING = frozenset({"text", "word", "words", "letters", "phrase", "name", "slogan", "title", "number", "numbers", "message", "inscription", "caption", "writing", "lettering", "initials", "numerals"})  # fmt: skip
"""Nouns that name written text: "the slogan 'Open'"."""
_SHOWING = frozenset({"displays", "displaying", "shows", "showing", "has", "have", "having", "bears", "bearing", "features", "featuring", "carries", "spelling", "contains", "display", "reads", "says", "spells", "advertises", "flashes"})  # fmt: skip
_WRITTEN = frozenset({"written", "printed", "painted", "visible", "displayed", "inscribed", "engraved", "embroidered", "shown", "seen", "stenciled", "carved", "scrawled", "is", "are", "appears", "stamped", "spelled"})  # fmt: skip
_BEARING = frozenset({"with", "bearing", "displaying", "featuring", "showing", "having", "containing", "and", ","})
_MANNER = frozenset({"as", "out", "simply", "clearly", "in", "bold", "large", "big"})
_PLACES = frozenset({"on", "across", "above", "in", "at", "along", "over", "onto"})


CARRIERS = frozenset((
    "sign", "banner", "billboard", "poster", "label", "board", "shirt", "t-shirt", "jersey", "screen", "plate", "book", "cover", "placard", "plaque",
    "sticker", "logo", "flag", "menu", "chalkboard", "whiteboard", "blackboard", "awning", "magazine", "newspaper", "note", "card", "tag", "packet",
))  # fmt: skip
"""Last words of nouns that usually carry written text."""


@dataclass(frozen=True)
class WrittenText:
    """Written text: its content, its words in the sentence, and the words that introduce it ("says", "the word").

    Attributes:
        text: as written.
        first: index of its first word.
        last: index of its last word.
        trigger: index of the last word before it that introduces it; -1 for a quotation on its own.
    """

    text: str
    first: int
    last: int
    trigger: int = -1


def written_texts(s: Sentence) -> list[WrittenText]:
    """The written texts of a sentence: quotations, and words in capitals or digits after "says" or "the word"."""
    found: list[WrittenText] = []
    i = 0
    while i < len(s):
        kind = s.entry(i).kind
        starts = s.inside[i] == i and (kind in ("text_verb", "text_noun") or s.lower[i] in _INTRODUCING)
        if starts and (text := _text_at(s, s.phrase_end(i), s.phrase_end(i) - 1)):
            found.append(text)
            i = text.last + 1
        elif s.words[i].entry.kind == "quote":
            found.append(WrittenText(s.words[i].text.strip(" ,.;"), i, i))
            i += 1
        else:
            i += 1
    return found


def _text_at(s: Sentence, i: int, trigger: int) -> WrittenText | None:
    while (
        i < len(s)
        and (s.entry(i).kind in _STEPPED_OVER or s.lower[i] in _INTRODUCING or s.lower[i] in _MANNER)
        and s.words[i].entry.kind != "quote"
        and not _is_capital(s, i)
    ):
        if s.entry(i).kind == "text_noun" or s.lower[i] in _INTRODUCING:
            trigger = i
        i += 1
    if i < len(s) and s.words[i].entry.kind == "quote":
        return WrittenText(s.words[i].text.strip(" ,.;"), i, i, trigger)
    first = i
    while i < len(s) and (_is_capital(s, i) or s.words[i].text[0].isdigit()):
        i += 1
    if first == i:
        return None
    return WrittenText(" ".join(w.text for w in s.words[first:i]), first, i - 1, trigger)


def _is_capital(s: Sentence, i: int) -> bool:
    return s.words[i].text.isupper() and s.words[i].text not in ("I", "A")


class Carriers:
    """Finds what carries a written text."""

    def __init__(self, sentence: Sentence, nouns: NounFinder, clauses: Clauses) -> None:
        self.sentence, self.nouns, self.clauses = sentence, nouns, clauses

    def of(self, text: WrittenText) -> list[NounPhrase] | None:
        """The carrier; an empty list if nothing is named, None if the quotation is not written in the image."""
        s = self.sentence
        if text.trigger < 0:
            return self._of_quotation(text)
        if s.entry(text.trigger).kind == "text_verb" and s.lower[text.trigger] not in ("number", "name"):
            return self._of_verb(text.trigger)
        return self._of_noun(text)

    def _of_verb(self, verb: int) -> list[NounPhrase]:
        s = self.sentence
        before, opening = self._before(s.inside[verb]), s.inside[verb]
        if before is not None:
            near, follows = self._carrier_near(before), max(opening - 1, 0)
            is_passive = any(s.entry(c).kind == "be" for c in s.children(verb)) or s.entry(opening - 1).kind == "be"
            if s.lower[verb].endswith(("ing", "ed")) and not is_passive:
                return self.clauses.last_of(near)
            if near != before and (
                "that" in (s.lower[opening], s.lower[follows]) or "which" in (s.lower[opening], s.lower[follows])
            ):
                return self.clauses.last_of(near)
        if subjects := self.clauses.subjects(verb):
            return subjects[-1:]
        return self.clauses.last_of(before) if before is not None else []

    def _of_noun(self, text: WrittenText) -> list[NounPhrase]:
        s = self.sentence
        opening = self._opening(text)
        if opening > 0:
            word = opening - 1
            while (
                word > 0
                and s.entry(word).kind in ("determiner", "vague", "adverb", "content")
                and word not in self.nouns.at
            ):
                word -= 1
            if s.lower[word] in _BEARING and (before := self._before(word)) is not None:
                return self._climbed(before)
            if s.is_verb(word) and (subjects := self.clauses.subjects(word)):
                return subjects[-1:]
        if after := self._after(text):
            return after
        before = self._before(opening) if opening else None
        return self._climbed(before) if before is not None else []

    def _of_quotation(self, text: WrittenText) -> list[NounPhrase] | None:
        s, i = self.sentence, text.first
        if i + 1 < len(s) and any(self.nouns.first[h] <= i <= h for h in self.nouns.order):
            return None  # 'a "STOP" sign' is read with its noun phrase
        previous = i - 1
        while previous > 0 and (
            s.words[previous].entry.kind in ("comma", "colon") or s.lower[previous] in ("and", "as", "a", "an", "the")
        ):
            previous -= 1
        if previous >= 0 and s.words[previous].entry.kind == "quote":
            return None
        if previous == i - 1 and previous >= 0 and s.is_verb(previous) and s.lower[previous] not in _SHOWING:
            subjects = self.clauses.subjects(previous)
            return subjects[-1:] if subjects and not any(p.name in s.lexicon.animate for p in subjects) else None
        if previous >= 0 and s.lower[previous] in ("with", *_SHOWING) and previous == i - 1:
            if s.is_verb(previous) and (subjects := self.clauses.subjects(previous)):
                return subjects[-1:]
            if (before := self._before(previous)) is not None:
                return self.clauses.last_of(before)
        if after := self._after(text):
            return after
        if previous in self.nouns.at and (previous == i - 1 or s.entry(i - 1).kind in ("colon", "open_bracket")):
            return self.clauses.last_of(previous)
        return [] if self._is_written(text) else None

    def _is_written(self, text: WrittenText) -> bool:
        """Whether the text is said to be there: '"OPEN" is written in the picture'."""
        s, verb = self.sentence, text.last + 2
        return verb < len(s) and s.entry(verb - 1).kind == "be" and s.lower[verb] in _WRITTEN

    def _after(self, text: WrittenText) -> list[NounPhrase]:
        """The carrier named after the text: '"OPEN" is written on the door'."""
        s, at = self.sentence, text.last + 1
        while at < len(s) and (s.lower[at] in _WRITTEN or s.entry(at).kind in ("be", "adverb") or s.tags[at] == "RB"):
            at += 1
        if at < len(s) and s.lower[at] in _PLACES:
            head = self.nouns.starting_at(s.phrase_end(at))
            if head is not None and self.nouns.at[head].name:
                return self.clauses.last_of(head)
        return []

    def _opening(self, text: WrittenText) -> int:
        """First word of "the words" before a text."""
        s, i = self.sentence, text.trigger
        while i > 0 and (s.entry(i - 1).kind in ("determiner", "text_noun", "vague") or s.tags[i - 1] in ("JJ", "DT")):
            i -= 1
        return min(i, s.inside[i])

    def _before(self, i: int) -> int | None:
        """Head of the last noun phrase with a name before word `i`."""
        return next((h for h in reversed(self.nouns.order) if h < i and self.nouns.at[h].name), None)

    def _carrier_near(self, head: int) -> int:
        """The sign in "a sign above the entrance that says", where the noun right before the text is another one."""
        s, above = self.sentence, head
        for _ in range(2):
            if self.nouns.at[above].name.rpartition(" ")[2] in CARRIERS:
                return above
            if s.deps[above] != "pobj" or s.heads[s.heads[above]] not in self.nouns.at:
                return head
            above = s.heads[s.heads[above]]
        return above if self.nouns.at[above].name.rpartition(" ")[2] in CARRIERS else head

    def _climbed(self, head: int) -> list[NounPhrase]:
        """The thing whose part is named: "a sign on a pole with the word" stays with the pole, "a can of beer" is the can."""
        s = self.sentence
        if s.deps[head] == "pobj" and s.lower[s.heads[head]] == "of" and s.heads[s.heads[head]] in self.nouns.at:
            head = s.heads[s.heads[head]]
        return self.clauses.last_of(head)


def taken_words(texts: list[WrittenText], s: Sentence) -> Iterator[int]:
    """The words of written texts and of "the words" before them, which belong to no noun phrase; a quotation before its noun may."""
    for text in texts:
        if text.trigger >= 0 or s.words[text.first].entry.kind != "quote":
            yield from range(text.first, text.last + 1)
        if text.trigger >= 0 and s.entry(text.trigger).kind != "text_verb":
            yield from range(s.inside[text.trigger], s.phrase_end(text.trigger))
