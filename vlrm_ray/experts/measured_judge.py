"""Verdicts from measured probabilities: the strength of a claim's evidence is looked up in the tables of a calibration.

A claim is supported or contradicted if the table's bounds allow it; see `claim_tables.py`. The confidence of the finding is the
measured probability itself, not its bound: of all findings with confidence .98, 98 % should be right.

A claim about a noun that was not measured is left to the rules of `verifier.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vlrm_ray.experts.claim_tables import SEEN_OBJECTS, ClaimTable, DetectorClaims, ReaderClaims, broader_group
from vlrm_ray.experts.geometry import intersection_over_smaller
from vlrm_ray.experts.strengths import COMPARISONS, MOST_COUNTED, SIDES, Box, ClassesOf, Strengths
from vlrm_ray.experts.text_matching import tallest, text_strength
from vlrm_ray.types import Claim, ClaimType, Evidence, Finding, Noun, Verdict

ON_CARRIER = 0.5
"""A text is on an object if at least this share of it, or of the object, lies in the other."""
MAY_MISS = "detector_may_miss_it"
"""Reason of a claim of absence about a noun of which the detector may miss objects."""
TIE = 0.2
"""A relation whose strength is nearer to one half is too close to a tie: labels do not say whether it holds."""


@dataclass(frozen=True)
class Answer:
    """The strength of the evidence for a claim, and the table that it is looked up in.

    Attributes:
        strength: the strength.
        table: the table; None if the claim stays open.
        objects: indices of the objects that the strength rests on.
        words: indices of the words that it rests on.
        weak: objects that a supported claim rests on if it has no others.
        possible: the strength if everything is counted that may be an object; the claim is contradicted only if that is weak, too.
        given: probability of what the table takes for granted, such as the objects of a relation.
        against: other claims by their strengths and tables that exclude this one: it is contradicted if one of them is supported.
        may_support: whether a strong claim is supported: not for a "man" that the detector sees as a "person".
        may_contradict: whether a weak claim is contradicted: not for a "vehicle" of a kind that the detector does not know.
        reason: why the claim is open if the table does not decide it.
    """

    strength: float = 0.0
    table: ClaimTable | None = None
    objects: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    weak: tuple[int, ...] = ()
    possible: float | None = None
    given: float = 1.0
    against: tuple[tuple[float, ClaimTable], ...] | None = None
    may_support: bool = True
    may_contradict: bool = True
    reason: str = "too_weak_evidence"

    def finding(self, stated: float) -> Finding:
        """The verdict, if it is right with a stated probability."""
        if self.table is None:
            return Finding(Verdict.UNVERIFIABLE, reason=self.reason)
        probability = self.table.probability(self.strength) * self.given
        if self.may_support and probability >= stated and self.table.supports(self.strength, stated):
            return Finding(Verdict.SUPPORTED, round(probability, 4), self.objects or self.weak, self.words)
        probability = self._falsehood(self.table, stated)
        if self.may_contradict and probability >= stated:
            reason = "" if self.objects or self.words else "not_detected"
            return Finding(Verdict.CONTRADICTED, round(probability, 4), self.objects, self.words, reason)
        return Finding(Verdict.UNVERIFIABLE, reason=self.reason)

    def _falsehood(self, table: ClaimTable, stated: float) -> float:
        """Probability that the claim is false; 0 if that is not certain enough."""
        if self.against is not None:
            needed = 1 - (1 - stated) / max(1, len(self.against))  # each of them may be wrong
            return max((t.probability(s) for s, t in self.against if t.supports(s, needed)), default=0.0)
        possible = self.strength if self.possible is None else self.possible
        return (1 - table.probability(possible)) * self.given if table.contradicts(possible, stated) else 0.0


@dataclass
class MeasuredJudge:
    """Decides the claims about one image whose nouns were measured.

    Attributes:
        evidence: the evidence of the image.
        objects: tables of the detector; None leaves claims about objects to other rules.
        texts: tables of the reader; None leaves claims about text to other rules.
        image_problem: why nothing may be concluded from what was not detected; "" if it may.
        too_small: whether the image is so small that nothing may be concluded from what was detected either.
        doubtful: classes of which objects may have been missed, because OCR read text outside all objects.
    """

    evidence: Evidence
    objects: DetectorClaims | None
    texts: ReaderClaims | None
    image_problem: str = ""
    too_small: bool = False
    doubtful: frozenset[str] = frozenset()
    strengths: Strengths = field(init=False)

    def __post_init__(self) -> None:
        self.strengths = Strengths(self.evidence, self.objects or DetectorClaims(1.0))

    def judge(self, claim: Claim) -> Finding | None:
        """Verdict on a claim as if it were not negated; None if its nouns were not measured."""
        if claim.type is ClaimType.TEXT:
            return self._text(claim).finding(self.texts.stated) if self.texts else None
        nouns = claim.nouns
        if self.objects is None or any(self.strengths.classes(noun.name).kind == "unknown" for noun in nouns):
            return None
        rule = {
            ClaimType.OBJECT: self._object,
            ClaimType.ATTRIBUTE: self._attribute,
            ClaimType.COUNT: self._count,
            ClaimType.RELATION: self._relation,
        }.get(claim.type)
        if rule is None:
            return None
        answer = rule(claim, self.objects)
        problem = self.image_problem or self._doubt(nouns)
        if problem:
            # where objects may be missed, no number is known
            support = answer.may_support and not self.too_small and claim.type is not ClaimType.COUNT
            answer = replace(answer, may_support=support, may_contradict=False, reason=problem)
        return answer.finding(self.objects.stated)

    def is_ever_supported(self, claim: Claim) -> bool:
        """Whether claims like this, as if it were not negated, are supported in any image; its nouns must have been measured.

        They are not if the detector knows only broader classes, such as "person" for a "man", or if not even the strongest
        evidence is enough by the tables.
        """
        known = self.objects or DetectorClaims(1.0)
        classes = [self.strengths.classes(noun.name) for noun in claim.nouns]
        words = [(noun.name, word) for noun in claim.nouns for word in noun.attributes]
        if claim.type is ClaimType.ATTRIBUTE:
            words.append((claim.subject.name, claim.value or ""))
        tables = [_table(c, known) for c in classes] + [known.colors] * bool(words)
        if claim.type is ClaimType.COUNT:
            tables.append(known.comparisons if claim.object else known.counts)
        elif claim.type is ClaimType.RELATION:
            tables.append(_relation_table(claim.value, known))
        exact = claim.type is not ClaimType.COUNT or all(map(_is_exhausted, classes))
        shown = exact and all(c.kind != "narrower" for c in classes)
        colors = all(self.strengths.may_have_color(*word) for word in words)
        return shown and colors and all(table.supports(1.0, known.stated) for table in tables)

    def is_ever_contradicted(self, claim: Claim) -> bool:
        """Whether claims like this, as if it were not negated, are contradicted in any image; its nouns must have been measured.

        They are not where the absence of such objects is never concluded.
        """
        known = self.objects or DetectorClaims(1.0)
        if claim.type is ClaimType.COUNT:
            return True
        classes = [self.strengths.classes(noun.name) for noun in claim.nouns]
        if claim.type is ClaimType.RELATION:
            table = _relation_table(claim.value, known)
            return (
                bool(claim.object) and all(c.kind == "same" for c in classes) and table.contradicts(0.0, known.stated)
            )
        absence = all(_seen(c, known) and _table(c, known).contradicts(0.0, known.stated) for c in classes)
        if claim.type is ClaimType.ATTRIBUTE or claim.subject.attributes:
            absence = absence or known.colors.contradicts(0.0, known.stated)
        return absence and all(map(_is_exhausted, classes))

    def _doubt(self, nouns: Sequence[Noun]) -> str:
        missed = any(not self.doubtful.isdisjoint(self.strengths.classes(noun.name).names) for noun in nouns)
        return "experts_disagree" if missed else ""

    def _object(self, claim: Claim, known: DetectorClaims) -> Answer:
        attributes = claim.subject.attributes
        if len(attributes) == 1:
            return self._colored(claim.subject.name, attributes[0], known)
        answer = self._existence(claim.subject, known)
        return replace(answer, may_support=False, reason="unknown_attribute") if attributes else answer

    def _attribute(self, claim: Claim, known: DetectorClaims) -> Answer:
        others = [a for a in claim.subject.attributes if a != claim.value]
        answer = self._colored(claim.subject.name, claim.value or "", known)
        return replace(answer, may_support=False, may_contradict=False) if others else answer

    def _existence(self, noun: Noun, known: DetectorClaims) -> Answer:
        classes = self.strengths.classes(noun.name)
        strength, rivalled = self.strengths.object(noun.name)
        table = known.rivalled if rivalled else _table(classes, known)
        limited = self._limited(Answer(strength, table, self.strengths.shown(Noun(noun.name))), classes, known)
        reason = "too_weak_evidence" if strength and limited.reason == MAY_MISS else limited.reason
        return replace(limited, weak=self.strengths.strongest(Noun(noun.name)), reason=reason)

    def _certain(self, noun: Noun, known: DetectorClaims) -> tuple[list[Box], float]:
        """The boxes that each suffice to support an object of the noun, and the probability that the best one shows it."""
        exists = self._existence(Noun(noun.name), known)
        if exists.table is None:
            return [], 0.0
        boxes, best = [], 0.0
        for box in self.strengths.boxes(Noun(noun.name)):
            shares = [self.strengths.color([box], word) or 0.0 for word in noun.attributes]
            if exists.table.supports(box.score, known.stated) and all(
                known.colors.supports(share, known.stated) for share in shares
            ):
                boxes.append(box)
                probabilities = [known.colors.probability(share) for share in shares]
                best = max(best, math.prod([exists.table.probability(box.score), *probabilities]))
        return boxes, best

    def _colored(self, name: str, color: str, known: DetectorClaims) -> Answer:
        """An object with a color; if there is no object, as for an object of any color."""
        exists = self._existence(Noun(name), known)
        boxes, given = self._certain(Noun(name), known)
        strength = self.strengths.color(boxes, color)
        if strength is None or not self.strengths.may_have_color(name, color):
            is_color = self.strengths.may_have_color(name, color)
            return replace(exists, may_support=False, reason="too_weak_evidence" if is_color else "unknown_attribute")
        possible = self.strengths.color([*boxes, *self.strengths.possible(Noun(name))], color)
        return self._limited(
            Answer(
                strength,
                known.colors,
                exists.objects or exists.weak,
                possible=1.0 if possible is None else possible,
                given=given,
            ),
            self.strengths.classes(name),
            known,
        )

    def _limited(self, answer: Answer, classes: ClassesOf, known: DetectorClaims) -> Answer:
        """The answer without the verdicts that a broader, narrower or rarely seen noun does not allow."""
        support = classes.kind != "narrower"
        contradict = _is_exhausted(classes)
        if not answer.objects and not _seen(classes, known):
            contradict = False
        return replace(
            answer, may_support=support, may_contradict=contradict, reason=_reason(classes, support and contradict)
        )

    def _compared(self, claim: Claim, other: Noun, known: DetectorClaims) -> Answer:
        """Which of two classes has more objects."""
        nouns = (claim.subject, other)
        if (claim.value or "") not in COMPARISONS:
            return Answer(reason="unknown_comparison")
        if not all(self.strengths.colors_known(noun) for noun in nouns):
            return Answer(reason="unknown_attribute")
        classes = {noun: self.strengths.classes(noun.name) for noun in nouns}
        cited = {noun: self.strengths.shown(noun) for noun in nouns}
        if any(classes[n].kind != "same" or not (cited[n] or _seen(classes[n], known)) for n in nouns):
            return Answer(reason=MAY_MISS)
        strength = self.strengths.comparison(claim.value or "", *nouns)
        if strength is None:
            return Answer(reason="crowd")
        return Answer(strength, known.comparisons, cited[claim.subject] + cited[other])

    def _count(self, claim: Claim, known: DetectorClaims) -> Answer:
        if claim.object is not None:
            return self._compared(claim, claim.object, known)
        if not (claim.value or "").isdecimal():
            return Answer(reason="no_number")
        number = int(claim.value or "")
        if number >= MOST_COUNTED:
            return Answer(reason="crowd")
        classes, noun = self.strengths.classes(claim.subject.name), claim.subject
        colors_known = self.strengths.colors_known(noun)
        if not colors_known and classes.kind == "broader":
            return Answer(reason="unknown_attribute")
        if not colors_known:  # there are at most as many red cars as cars
            classes, noun = replace(classes, kind="narrower"), Noun(noun.name)
        numbers, cited = self.strengths.numbers(noun), self.strengths.shown(noun)
        more, fewer = (sum(numbers[number + 1 :]), known.more), (sum(numbers[:number]), known.fewer)
        exact = classes.kind == "same" or (classes.kind == "broader" and classes.covered)
        # the number is judged by a table of all classes: it says nothing against what the boxes and their class say
        boxes = sum(box.index is not None for box in self.strengths.boxes(noun))
        exists = self._existence(noun, known).finding(known.stated).verdict is Verdict.SUPPORTED
        # of a narrower noun there may be fewer objects than boxes, of a broader one more
        against = (more, fewer) if exact else (fewer,) if classes.kind == "narrower" else (more,)
        return Answer(
            numbers[number],
            known.counts,
            cited,
            against=against,
            may_support=exact and exists and number >= boxes,
            may_contradict=bool(cited) or _seen(classes, known),
            reason=_reason(classes, exact) if colors_known else "unknown_attribute",
        )

    def _relation(self, claim: Claim, known: DetectorClaims) -> Answer:
        """A relation of two objects that are supported, or of one to the image."""
        nouns = claim.nouns
        if claim.value is None or (claim.object is None and claim.value not in SIDES):
            return Answer(reason="no_object")
        if not all(self.strengths.colors_known(noun) for noun in nouns):
            return Answer(reason="unknown_attribute")
        certain = [self._certain(noun, known) for noun in nouns]
        boxes = [found for found, _ in certain]
        possible = [[*found, *self.strengths.possible(noun)] for found, noun in zip(boxes, nouns, strict=True)]
        if claim.object is None:
            whole = [self.strengths.whole_image()]
            boxes, possible = [*boxes, whole], [*possible, whole]
        strength, highest = (
            self.strengths.relation(claim.value, *boxes),
            self.strengths.relation(claim.value, *possible),
        )
        if strength is None or highest is None:
            return Answer(reason="not_detected")
        kinds = {self.strengths.classes(noun.name).kind for noun in nouns}
        return Answer(
            strength,
            _relation_table(claim.value, known),
            tuple(i for noun in nouns for i in self.strengths.shown(noun) or self.strengths.strongest(noun)),
            possible=highest,
            given=math.prod(probability for _, probability in certain),
            may_support="narrower" not in kinds and strength >= 0.5 + TIE,
            # "to the left" may be meant of another object
            may_contradict=kinds == {"same"} and claim.object is not None and highest <= 0.5 - TIE,
            reason="close_to_a_tie",
        )

    def _text(self, claim: Claim) -> Answer:
        words = self.evidence.words
        if self.texts is None or not claim.value:
            return Answer(reason="nothing_read")
        strength, cited = text_strength(claim.value, words)
        reason = "read_uncertainly" if words else "nothing_read"
        table = self.texts.texts.get(tallest(words))
        answer = Answer(strength, table, words=cited or tuple(range(len(words))), reason=reason)
        on_carrier = self._words_on(claim.subject.name)
        if on_carrier is None:
            return answer
        # a text that is elsewhere in the image may be on the carrier, too
        here, places = text_strength(claim.value, [words[i] for i in on_carrier])
        if table and table.supports(here, self.texts.stated):
            return replace(answer, strength=here, words=tuple(on_carrier[i] for i in places))
        return replace(answer, may_support=False, reason="read_elsewhere" if strength > here else reason)

    def _words_on(self, carrier: str) -> list[int] | None:
        """Indices of the words on the objects that a noun means; None if the detector does not know what it means."""
        classes = self.strengths.classes(carrier)
        if classes.kind == "unknown" or (classes.kind == "broader" and not classes.covered):
            return None
        shown = self.strengths.shown(Noun(carrier)) or self.strengths.strongest(Noun(carrier))
        boxes = [self.evidence.objects[i].box for i in shown]
        return [
            i
            for i, word in enumerate(self.evidence.words)
            if any(intersection_over_smaller(word.box, box) >= ON_CARRIER for box in boxes)
        ]


def _table(classes: ClassesOf, known: DetectorClaims) -> ClaimTable:
    """The table of the existence of an object of a noun."""
    if len(classes.names) > 1:
        own = known.broader.get(broader_group(len(classes.names)))
    else:
        own = known.objects.get(next(iter(classes.names)))
    return own or known.any_object


def _relation_table(name: str | None, known: DetectorClaims) -> ClaimTable:
    """The table of a relation, or that of all together if it was not measured enough."""
    own = known.relations.get(name or "")
    return own if own and own.measured else known.relations.get("", ClaimTable())


def _is_exhausted(classes: ClassesOf) -> bool:
    """Whether the detector's classes of a noun include all objects that it describes."""
    return classes.kind != "broader" or classes.covered


def _seen(classes: ClassesOf, known: DetectorClaims) -> bool:
    """Whether objects of all classes of a noun were seen often enough to conclude that there is none."""
    return all(known.seen.get(name, 0) >= SEEN_OBJECTS for name in classes.names)


def _reason(classes: ClassesOf, exact: bool) -> str:
    """Why a claim about a noun may stay open."""
    if classes.kind == "narrower":
        return knows_only(min(classes.names))
    return "too_weak_evidence" if exact else MAY_MISS


def knows_only(class_name: str) -> str:
    """Reason of a claim about a noun that describes some of a class's objects only: a "man", if the class is "person"."""
    return f"detector_knows_only_{class_name.replace(' ', '_')}"
