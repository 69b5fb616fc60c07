"""What a reader knows while it reads, and how it says what it has found."""

from collections.abc import Sequence
from dataclasses import replace

from vlrm_ray.claims.clause import Clause, Found, Front, Link
from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.phrases import Phrase, PhraseReader
from vlrm_ray.claims.tokens import Token
from vlrm_ray.types import ClaimType, Noun


def around(*parts: tuple[int, int]) -> tuple[int, int]:
    """The span that holds all parts; what was named in the question alone has no place in the response."""
    known = [part for part in parts if part[0] >= 0]
    return min(start for start, _ in known), max(end for _, end in known)


class Saying:
    """State of a reader: the sentence, the clause, what was mentioned, what was found."""

    def __init__(self, words: Lexicon, phrases: PhraseReader) -> None:
        self.words, self.phrases, self.found = words, phrases, Found()
        self.mentions: list[Phrase] = []
        self.clause = Clause()
        self.tokens: Sequence[Token] = ()
        self.contrasts = False

    def _renew(self) -> None:
        """Begin a clause: nothing is denied or hedged any more."""
        self._finish()
        self.clause = Clause()

    def _finish(self) -> None:
        words = self.clause.words
        if words is not None:
            self.found.say(ClaimType.TEXT, Noun("text"), (words.start, words.end), words.text)

    def _relate(self, link: Link, phrase: Phrase) -> None:
        if not link.holders:
            if link.value:
                self.clause.fronts.append(Front(link.value, phrase, link.start, link.end, link.hedged))
            self.clause.near, self.clause.via = [phrase], "relation"
            return
        for holder in link.holders:
            if holder.negated or holder is phrase or (phrase.negated and not link.negated):
                continue
            self._say_relation(holder, link, phrase)
        if phrase.negated or link.negated:
            phrase.negated = phrase.negated or not phrase.definite
        self.clause.near = [phrase]
        self.clause.via = "link" if self.clause.via == "link" else "relation"

    def _say_relation(self, holder: Phrase, link: Link | Front, phrase: Phrase | None) -> None:
        """`phrase` is None where the relation is to the picture; `link` then spans the words for the place."""
        span = around(
            (holder.start, holder.end), (link.start, link.end), *([(phrase.start, phrase.end)] if phrase else [])
        )
        self.found.say(
            ClaimType.RELATION, holder.noun, span, link.value, phrase.noun if phrase else None,
            negated=isinstance(link, Link) and link.negated, hedged=link.hedged,
        )  # fmt: skip

    def _say_attribute(self, holders: Sequence[Phrase], value: str, start: int, end: int) -> None:
        for holder in holders:
            if not holder.negated:
                self.found.say(
                    ClaimType.ATTRIBUTE, Noun(holder.name), around((holder.start, holder.end), (start, end)), value,
                    negated=self.clause.denied, hedged=bool(self.clause.hedge),
                )  # fmt: skip

    def _say_words(self, holders: Sequence[Phrase], text: str, start: int, end: int) -> None:
        for holder in holders[-1:]:
            span = around((holder.start, holder.end), (start, end))
            if not holder.name:  # "it says": on something that was not named
                holder = Phrase("text", start, end)
            self.found.say(
                ClaimType.TEXT, Noun(holder.name), span, text,
                negated=self.clause.denied or holder.negated, hedged=bool(self.clause.hedge),
            )  # fmt: skip

    def _apply_fronts(self, phrase: Phrase) -> None:
        clause = self.clause
        for front in clause.fronts:
            if not phrase.negated:
                self._say_relation(phrase, replace(front, hedged=front.hedged or bool(clause.hedge)), front.phrase)
        for value, start, end in clause.waiting:
            self._say_attribute([phrase], value, start, end)
        clause.waiting = []

    def _animate(self, phrase: Phrase) -> bool:
        """Whether a phrase may name a person or an animal; unknown nouns may."""
        entry = self.words.entries.get(phrase.name)
        return phrase.name in self.words.animate or entry is None
