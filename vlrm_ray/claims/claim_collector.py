"""Collects the claims of one response."""

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.types import Claim, ClaimType, Noun


@dataclass(slots=True)
class ClaimCollector:
    """Collects the claims of a response.

    Attributes:
        lexicon: tells attributes from states.
        claims: the claims found so far, in the order found and possibly repeated.
        single: position and noun of phrases such as "a dog", each of which is one object.
        totals: start and end of the sentences that say what there is, so that their numbers are those of all.
        unnumbered: names of several objects of unknown number ("some elephants"); a number given elsewhere may be that of a few of them.
    """

    lexicon: Lexicon
    claims: list[Claim] = field(default_factory=list)
    single: list[tuple[int, Noun]] = field(default_factory=list)
    totals: list[tuple[int, int]] = field(default_factory=list)
    unnumbered: set[str] = field(default_factory=set)

    def add(
        self, claim_type: ClaimType, subject: Noun, span: tuple[int, int], value: str | None = None, other: Noun | None = None,
        *, negated: bool = False, hedged: bool = False,
    ) -> None:  # fmt: skip
        """Add a claim; `other` is the second noun of a relation or comparison."""
        self.claims.append(Claim(claim_type, subject, value, other, negated, hedged, span))

    def extend(self, claims: Iterable[Claim]) -> None:
        """Add finished claims."""
        self.claims.extend(claims)

    def add_presence(self, phrase: NounPhrase) -> None:
        """Add the claims of a noun phrase itself: existence, attributes, number and quoted text."""
        span, noun, hedged = (phrase.start, phrase.end), Noun(phrase.name), phrase.hedged
        if phrase.negated:
            self._add_absence(phrase)
            return
        if not (phrase.definite or phrase.plural or phrase.bare or hedged) and phrase.number is None:
            self.single.append((phrase.start, phrase.noun))
        self.add(ClaimType.OBJECT, noun, span, hedged=hedged)
        if phrase.plural and phrase.number is None and not phrase.definite:
            self.unnumbered.add(phrase.name)
        for value in phrase.attributes:
            self.add(self.lexicon.attribute_type(value), noun, span, value, hedged=hedged)
        if phrase.number is not None:
            self.add(ClaimType.COUNT, phrase.noun, span, str(phrase.number), hedged=hedged or phrase.approximate)
        if phrase.quoted_text:
            self.add(ClaimType.TEXT, noun, span, phrase.quoted_text, hedged=hedged)

    def _add_absence(self, phrase: NounPhrase) -> None:
        """Deny the count for "isn't one circle" and "not two circles", the attribute for "no red circle", existence for "no circle"."""
        span, hedged = (phrase.start, phrase.end), phrase.hedged
        if phrase.number is not None and not phrase.single:
            self.add(ClaimType.COUNT, phrase.noun, span, str(phrase.number), negated=True, hedged=hedged)
        elif not phrase.attributes:
            self.add(ClaimType.OBJECT, phrase.noun, span, negated=True, hedged=hedged)
        else:
            *others, value = sorted(phrase.attributes, key=lambda a: a not in phrase.colors)
            if all(a in phrase.colors for a in others):
                noun = Noun(phrase.name, tuple(others))
                self.add(self.lexicon.attribute_type(value), noun, span, value, negated=True, hedged=hedged)

    def unique(self) -> tuple[Claim, ...]:
        """Each claim once, in the order of the text; of claims that start together, written text comes first."""
        claims = consistent_counts(self.claims, self.single, self.totals)
        claims = [replace(c, hedged=True) if _is_count(c) and c.subject.name in self.unnumbered else c for c in claims]
        return unique_claims(sorted(claims, key=lambda c: (c.span[0], c.type is not ClaimType.TEXT, c.span[1])))


def consistent_counts(
    claims: Sequence[Claim], single: Sequence[tuple[int, Noun]] = (), totals: Sequence[tuple[int, int]] = ()
) -> list[Claim]:
    """The claims with counts left open that contradict each other: they count different objects of one name.

    "Two dogs are on the couch, and one dog is on the floor" tells no number of all dogs. Where the other counts sum to the largest
    one ("five birds: three birds on the wire and two birds on the roof"), that one counts all. So does one in a sentence that says
    what there is, if further sentences count fewer: "There are two dogs. A dog is brown."

    Args:
        claims: claims of a response.
        single: position and noun of each mention of one further object, such as "a dog".
        totals: start and end of the sentences that say what there is.
    """
    counts: dict[Noun, dict[int, int]] = {}
    for c in claims:
        if _is_count(c):
            counts.setdefault(c.subject, {})[c.span[0]] = int(str(c.value))  # a span is one mention
    total: dict[Noun, int] = {}
    for noun, by_start in counts.items():
        mentions = [*by_start.items(), *((start, 1) for start, n in single if n == noun and start not in by_start)]
        largest = max(number for _, number in mentions)
        first = min(start for start, number in mentions if number == largest)
        others = [number for _, number in mentions if number < largest]
        if others or (largest == 1 and len(mentions) > 1):  # "one cat", "another cat"
            ends = [end for begin, end in totals if begin <= first < end]
            is_total = (
                largest > 1 and bool(ends) and all(start > ends[0] for start, number in mentions if number < largest)
            )
            total[noun] = largest if is_total or sum(others) == largest else -1
    if not total:
        return list(claims)
    return [
        replace(c, hedged=True) if _is_count(c) and total.get(c.subject, int(str(c.value))) != int(str(c.value)) else c
        for c in claims
    ]


def _is_count(claim: Claim) -> bool:
    """Whether a claim states a number without leaving it open."""
    is_stated = claim.type is ClaimType.COUNT and claim.object is None and not (claim.negated or claim.hedged)
    return is_stated and (claim.value or "").isdigit()


def unique_claims(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """The first of the claims with the same content, in their order."""
    by_content: dict[tuple[Hashable, ...], Claim] = {}
    for claim in claims:
        by_content.setdefault(claim.content, claim)
    return tuple(by_content.values())


def decided_claims(claims: Sequence[Claim], presupposed: Collection[str] = ()) -> tuple[Claim, ...]:
    """The claims that "yes" asserts and "no" denies, of those that a statement makes.

    Args:
        claims: claims of the statement.
        presupposed: names of objects whose existence it takes for granted, besides those that it describes.
    """
    specific = [c for c in claims if c.type is not ClaimType.OBJECT]
    nouns = [n for c in specific for n in (c.subject, c.object) if n is not None]
    described = {n.name for n in nouns} | set(presupposed)
    identifying = {(n.name, attribute) for n in nouns for attribute in n.attributes}
    return tuple(
        c
        for c in claims
        if (c.type is not ClaimType.OBJECT or c.subject.name not in described)
        and (c.type is not ClaimType.ATTRIBUTE or (c.subject.name, c.value) not in identifying)
    )
