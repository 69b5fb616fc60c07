"""What is known while reading a clause, and the claims that have been found."""

from dataclasses import dataclass, field
from typing import Literal

from vlrm_ray.claims.phrases import Phrase
from vlrm_ray.types import Claim, ClaimType, Noun

Joint = Literal["", "and", "or", "but", "comma"]
Via = Literal["", "be", "verb", "of", "with", "relation", "link"]


@dataclass(slots=True)
class Link:
    """A relation that waits for its second noun; without holders it waits for its first one too."""

    value: str
    holders: list[Phrase]
    start: int
    end: int
    negated: bool = False
    hedged: bool = False

    @property
    def denies(self) -> bool:
        """Whether it says nothing of its second noun: "is not wearing a hat", "nobody is wearing a hat"."""
        return self.negated or (bool(self.holders) and all(h.negated and h.name for h in self.holders))


@dataclass(slots=True)
class Front:
    """A place named before the thing that is there: "On the table is ..." or "On the left, ..."."""

    value: str
    phrase: Phrase | None
    start: int
    end: int
    hedged: bool


@dataclass(slots=True)
class Words:
    """Words read on something that has not been named yet."""

    text: str
    start: int
    end: int


@dataclass(slots=True)
class Clause:
    """State of a clause.

    Attributes:
        root: its subjects.
        near: the last named things; what follows directly is said of them.
        via: what led to `near`.
        verb: a verb was read, so the subjects are complete.
        there: "there is": what follows is its subject.
        joint: conjunction or comma just read.
        link: a relation that waits for its second noun; `last` is the one before.
        denied: a "not" is in force; hedge: "adverbs" or "verbs" are.
        asked: the subject is that of the question, until the answer names another one.
    """

    root: list[Phrase] = field(default_factory=list)
    near: list[Phrase] = field(default_factory=list)
    via: Via = ""
    verb: bool = False
    there: bool = False
    listed: bool = False
    joint: Joint = ""
    link: Link | None = None
    last: Link | None = None
    fronts: list[Front] = field(default_factory=list)
    waiting: list[tuple[str, int, int]] = field(default_factory=list)
    words: Words | None = None
    denied: bool = False
    hedge: str = ""
    asked: bool = False
    without: bool = False

    def holders(self) -> list[Phrase]:
        """What a relation or place that comes now is said of."""
        if self.joint in ("and", "or", "but") and self.last:
            return self.last.holders
        if self.joint and self.root:
            return self.root
        if self.via == "be" or (self.there and len(self.near) == 2 and not self.listed):
            return self.near
        return self.near[-1:]

    def doers(self, *, finite: bool) -> list[Phrase]:
        """What a posture or an action that comes now is said of."""
        if self.via == "be":
            return self.near
        if finite or self.joint or self.via in ("with", "link", "of"):
            return self.root or self.near[-1:]
        return self.near[-1:]


@dataclass(slots=True)
class Found:
    """The claims of a response, each listed once."""

    claims: list[Claim] = field(default_factory=list)

    def say(
        self, kind: ClaimType, subject: Noun, span: tuple[int, int], value: str | None = None, other: Noun | None = None,
        *, negated: bool = False, hedged: bool = False,
    ) -> None:  # fmt: skip
        """Record a claim."""
        self.claims.append(Claim(kind, subject, value, other, negated, hedged, span))

    def presence(self, phrase: Phrase) -> None:
        """What a noun phrase says by itself: that there is one, how it looks, how many there are."""
        span, thing, hedged = (phrase.start, phrase.end), Noun(phrase.name), phrase.hedged
        if phrase.negated:
            self._absence(phrase)
            return
        self.say(ClaimType.OBJECT, thing, span, hedged=hedged)
        for value in phrase.attributes:
            self.say(ClaimType.ATTRIBUTE, thing, span, value, hedged=hedged)
        if phrase.number is not None:
            self.say(ClaimType.COUNT, phrase.noun, span, str(phrase.number), hedged=hedged or phrase.approximate)
        if phrase.words:
            self.say(ClaimType.TEXT, thing, span, phrase.words, hedged=hedged)

    def _absence(self, phrase: Phrase) -> None:
        """ "No red circle" denies that a circle is red, "not two circles" the number, "no circle" all."""
        span, hedged = (phrase.start, phrase.end), phrase.hedged
        if phrase.number is not None and phrase.number > 1:
            self.say(ClaimType.COUNT, phrase.noun, span, str(phrase.number), negated=True, hedged=hedged)
        elif not phrase.attributes:
            self.say(ClaimType.OBJECT, phrase.noun, span, negated=True, hedged=hedged)
        else:
            *others, value = sorted(phrase.attributes, key=lambda a: a not in phrase.colors)
            if len(others) == len([a for a in others if a in phrase.colors]):
                thing = Noun(phrase.name, tuple(others))
                self.say(ClaimType.ATTRIBUTE, thing, span, value, negated=True, hedged=hedged)

    def listed(self) -> tuple[Claim, ...]:
        """Each claim once, in the order of the text; what a thing says comes before that it is there."""
        once: dict[tuple[object, ...], Claim] = {}
        for c in sorted(self.claims, key=lambda c: (c.span[0], c.type is not ClaimType.TEXT, c.span[1])):
            once.setdefault((c.type, c.subject, c.value, c.object, c.negated, c.hedged), c)
        return tuple(once.values())
