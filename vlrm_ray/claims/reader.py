"""Reads a response token by token, as a person does: who is spoken of, and what is said of it.

Each kind of token has a method `_<kind>` that takes the index of the token and returns the index of
the next one. Between them they keep a `Clause`: its subjects, the things named last, and a relation
that waits for its second noun.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vlrm_ray.claims.clause import Clause, Link
from vlrm_ray.claims.grammar import Kind
from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.phrases import Phrase, PhraseReader
from vlrm_ray.claims.placing import Placing
from vlrm_ray.claims.tokens import Token

_SPOKEN = frozenset({"be", "link", "state", "verb", "says", "hedge"})


class Reader(Placing):
    """Reads one response; `about` is what an answer speaks of before it has named anything."""

    def __init__(self, words: Lexicon, phrases: PhraseReader, about: Sequence[Phrase] = ()) -> None:
        super().__init__(words, phrases)
        self.turn_to(about)
        self.steps: dict[Kind, Callable[[int], int]] = {
            "be": self._be, "not": self._not, "hedge": self._hedge, "state": self._state, "link": self._link,
            "verb": self._verb, "says": self._says, "written": self._written, "there": self._there,
            "pronoun": self._pronoun, "relative": self._relative, "relation": self._relation, "of": self._of,
            "preposition": self._preposition, "and": self._and, "or": self._and, "but": self._but, "comma": self._comma,
            "break": self._break, "colon": self._colon, "open": self._open, "close": self._comma, "quote": self._quote,
            "more": self._more, "none": self._none, "number": self._number, "skip": self._skip, "genitive": self._skip,
            "end": self._skip,
        }  # fmt: skip

    def turn_to(self, about: Sequence[Phrase]) -> None:
        """A question was asked: the next sentence may speak of its subject without naming it."""
        named = [replace(phrase, start=-1, end=-1) for phrase in about]
        self.mentions += named
        if named:
            self.clause = Clause(root=named, near=named, via="be", verb=True, asked=True)

    def sentence(self, tokens: Sequence[Token]) -> None:
        """Read a sentence; the first one may go on from the question."""
        self.tokens = tokens
        self.contrasts = any(t.text.lower() in ("other", "others", "the other", "another") for t in tokens)
        at, last = 0, len(tokens) - 1
        while at < last:
            at = self._place(at) or self.steps.get(tokens[at].entry.kind, self._noun)(at)
        self._finish()
        self.clause = Clause()

    def _be(self, at: int) -> int:
        self._predicate()
        self.clause.via = "be"
        if self.tokens[at].entry.value == "not":
            self.clause.denied = True
        return at + 1

    def _not(self, at: int) -> int:
        self.clause.denied = True
        return at + 1

    def _hedge(self, at: int) -> int:
        if self.tokens[at + 1].text.lower() == "that" or (self.clause.root and not self.clause.root[0].name):
            self._renew()  # "it seems that ..."
        self.clause.hedge = self.tokens[at].entry.value
        if self.clause.hedge == "verbs" and self.clause.root:
            self._predicate()
            self.clause.via = "be"
        return at + 1

    def _state(self, at: int) -> int:
        clause, token = self.clause, self.tokens[at]
        if token.entry.noun and clause.via in ("of", "with") and clause.near is not clause.root:
            return self._noun(at)
        finite = token.entry.value == "finite"
        doers = clause.doers(finite=finite)
        if not clause.root and (not doers or (finite and clause.fronts)):
            if self.tokens[at + 1].entry.kind in ("content", "word", "unseen") and not clause.fronts:
                return self._noun(at)  # "parked cars"
            clause.waiting.append((token.entry.attribute, token.start, token.end))
            clause.via, clause.there = "be", True
            return at + 1
        placed = token.text.lower() in ("sit", "sits")  # a vase that "sits" on a shelf has no posture
        sitting = [d for d in doers if not placed or self._animate(d)]
        self._say_attribute(sitting, token.entry.attribute, token.start, token.end)
        clause.near, clause.via, clause.joint, clause.link = doers, "be", "", None
        clause.verb = clause.verb or finite
        return at + 1

    def _link(self, at: int) -> int:
        clause, token = self.clause, self.tokens[at]
        finite = token.entry.attribute == "finite"
        doers = clause.doers(finite=finite)
        if token.entry.value == "holding":  # a shelf that "holds" books is no hand
            doers = [d for d in doers if self._animate(d)]
        clause.link = (
            Link(token.entry.value, list(doers), token.start, token.end, clause.denied, bool(clause.hedge))
            if doers
            else None
        )
        clause.via, clause.joint = "link", ""
        clause.verb = clause.verb or finite
        return at + 1

    def _there(self, at: int) -> int:
        if self.tokens[at + 1].entry.kind not in ("be", "hedge", "verb", "not"):
            return at + 1
        before = self.clause
        if before.root:
            self._renew()
            if before.hedge == "verbs" and not before.root[0].name:  # "it is unclear whether there is"
                self.clause.hedge = before.hedge
        self.clause.there, self.clause.joint = True, ""
        return at + 1

    def _pronoun(self, at: int) -> int:
        clause = self.clause
        pronoun = self.tokens[at].entry.value
        meant = self._meant(pronoun, clause.link.holders if clause.link else [])
        if clause.link is not None and meant:
            link, clause.link = clause.link, None
            for phrase in meant:
                if pronoun == "each other":
                    link.holders = link.holders[:1]
                self._relate(replace(link), replace(phrase, start=self.tokens[at].start, end=self.tokens[at].end))
            clause.last = link
        elif not clause.root or clause.joint or self.tokens[at + 1].entry.kind in _SPOKEN:
            self._renew()
            if not meant:  # someone who was not named: nothing can be said of them
                meant = [Phrase("", self.tokens[at].start, self.tokens[at].end, negated=True)]
            here = [replace(p, start=self.tokens[at].start, end=self.tokens[at].end) for p in meant]
            self.clause.root = self.clause.near = here
            self.clause.fronts, self.clause.hedge = clause.fronts, clause.hedge if not clause.root else ""
        return at + 1

    def _meant(self, pronoun: str, others: Sequence[Phrase]) -> list[Phrase]:
        """The last named thing that agrees: in number for "it" and "they", in life for "he" and "she".

        `others` are spoken of in the same breath and not meant.
        """
        if pronoun == "each other":
            return list(others[1:2])
        told = [p for p in reversed(self.mentions) if p.name not in {o.name for o in others}]
        for phrase in told:
            alive = phrase.name in self.words.animate
            if alive if pronoun == "person" else phrase.plural == (pronoun == "they"):
                return [phrase]
        return told[:1]

    def _relative(self, at: int) -> int:
        clause = self.clause
        if clause.near:
            clause.root, clause.joint = clause.near[-1:], ""
        return at + 1

    def _and(self, at: int) -> int:
        kind = self.tokens[at].entry.kind
        self.clause.joint = "or" if kind == "or" else "and"
        return at + 1

    def _but(self, at: int) -> int:
        clause = self.clause
        clause.joint, clause.denied, clause.hedge = "but", False, ""
        clause.near = clause.root or clause.near
        return at + 1

    def _comma(self, at: int) -> int:
        clause = self.clause
        clause.joint = clause.joint or "comma"
        if clause.hedge == "adverbs" and at and self.tokens[at - 1].entry.kind != "hedge":
            clause.hedge = ""
        return at + 1

    def _break(self, at: int) -> int:
        if self.tokens[at + 1].entry.kind in ("state", "link"):  # "while sitting": the same subject
            self.clause.joint = "and"
        else:
            self._renew()
        return at + 1

    def _colon(self, at: int) -> int:
        clause = self.clause
        clause.via, clause.joint, clause.link = ("be" if clause.near else ""), "", None
        return at + 1

    def _open(self, at: int) -> int:
        return self._colon(at)

    def _skip(self, at: int) -> int:
        return at + 1
