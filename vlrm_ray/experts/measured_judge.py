"""Verdicts from measured probabilities: the strength of a claim's evidence is looked up in the tables of a calibration.

A claim is supported or contradicted if the table's bounds allow it; see `claim_tables.py`. The confidence of the finding is the
measured probability itself, not its bound: of all findings with confidence .98, 98 % should be right.

A claim about a noun that was not measured is left to the rules of `verifier.py`.
"""

from dataclasses import dataclass, field, replace

from vlrm_ray.experts.claim_tables import SEEN_IMAGES, ClaimTable, DetectorClaims, ReaderClaims, broader_group
from vlrm_ray.experts.colors import region_of
from vlrm_ray.experts.strengths import MOST_COUNTED, ClassesOf, Strengths
from vlrm_ray.experts.text_matching import tallest, text_strength
from vlrm_ray.types import Claim, ClaimType, Evidence, Finding, Noun, Verdict

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
        may_support: whether a strong claim is supported: not for a "man" that the detector sees as a "person".
        may_contradict: whether a weak claim is contradicted: not for a "vehicle" of a kind that the detector does not know.
        reason: why the claim is open if the table does not decide it.
    """

    strength: float = 0.0
    table: ClaimTable | None = None
    objects: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    weak: tuple[int, ...] = ()
    may_support: bool = True
    may_contradict: bool = True
    reason: str = "too_weak_evidence"

    def finding(self, stated: float) -> Finding:
        """The verdict, if it is right with a stated probability."""
        if self.table is None:
            return Finding(Verdict.UNVERIFIABLE, reason=self.reason)
        probability = self.table.probability(self.strength)
        if self.may_support and self.table.supports(self.strength, stated):
            return Finding(Verdict.SUPPORTED, round(probability, 4), self.objects or self.weak, self.words)
        if self.may_contradict and self.table.contradicts(self.strength, stated):
            reason = "" if self.objects or self.words else "not_detected"
            return Finding(Verdict.CONTRADICTED, round(1 - probability, 4), self.objects, self.words, reason)
        return Finding(Verdict.UNVERIFIABLE, reason=self.reason)


@dataclass
class MeasuredJudge:
    """Decides the claims about one image whose nouns were measured.

    Attributes:
        evidence: the evidence of the image.
        objects: tables of the detector; None leaves claims about objects to other rules.
        texts: tables of the reader; None leaves claims about text to other rules.
        image_problem: why nothing may be concluded from what was not detected; "" if it may.
        too_small: whether the image is so small that nothing may be concluded from what was detected either.
    """

    evidence: Evidence
    objects: DetectorClaims | None
    texts: ReaderClaims | None
    image_problem: str = ""
    too_small: bool = False
    strengths: Strengths = field(init=False)

    def __post_init__(self) -> None:
        self.strengths = Strengths(self.evidence, self.objects or DetectorClaims(1.0))

    def judge(self, claim: Claim) -> Finding | None:
        """Verdict on a claim as if it were not negated; None if its nouns were not measured."""
        if claim.type is ClaimType.TEXT:
            return self._text(claim).finding(self.texts.stated) if self.texts else None
        nouns = [claim.subject, *([claim.object] if claim.object else [])]
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
        if self.image_problem:
            answer = replace(answer, may_contradict=False, reason=self.image_problem)
            answer = replace(answer, may_support=answer.may_support and not self.too_small)
        return answer.finding(self.objects.stated)

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
        if len(classes.names) > 1:
            own = known.broader.get(broader_group(len(classes.names)))
        else:
            own = known.objects.get(next(iter(classes.names)))
        table = known.rivalled if rivalled else own or known.any_object
        limited = self._limited(Answer(strength, table, self.strengths.shown(Noun(noun.name))), classes, known)
        return replace(limited, weak=self.strengths.strongest(Noun(noun.name)))

    def _colored(self, name: str, color: str, known: DetectorClaims) -> Answer:
        """An object with a color; if there is no object, as for an object of any color."""
        exists = self._existence(Noun(name), known)
        strength = self.strengths.color(Noun(name), color) if region_of(color) else None
        if strength is None:
            open_because = "too_weak_evidence" if region_of(color) else "unknown_attribute"
            return replace(exists, may_support=False, reason=open_because)
        return self._limited(Answer(strength, known.colors, exists.objects), self.strengths.classes(name), known)

    def _limited(self, answer: Answer, classes: ClassesOf, known: DetectorClaims) -> Answer:
        """The answer without the verdicts that a broader, narrower or rarely seen noun does not allow."""
        support = classes.kind != "narrower"
        contradict = classes.kind != "broader" or classes.covered
        if not answer.objects and not _seen(classes, known):
            contradict = False
        return replace(
            answer, may_support=support, may_contradict=contradict, reason=_reason(classes, support and contradict)
        )

    def _count(self, claim: Claim, known: DetectorClaims) -> Answer:
        numbers = self.strengths.numbers(claim.subject)
        cited = self.strengths.shown(claim.subject)
        if claim.object is not None:
            others = self.strengths.numbers(claim.object)
            compare = _COMPARISONS.get(claim.value or "")
            kinds = {self.strengths.classes(noun.name).kind for noun in (claim.subject, claim.object)}
            if compare is None or kinds != {"same"}:
                return Answer(reason="unknown_comparison" if compare is None else "detector_may_miss_it")
            strength = sum(x * y for i, x in enumerate(numbers) for j, y in enumerate(others) if compare(i, j))
            return Answer(strength, known.counts, cited + self.strengths.shown(claim.object))
        if not (claim.value or "").isdecimal():
            return Answer(reason="no_number")
        number = int(claim.value or "")
        if number >= MOST_COUNTED:
            return Answer(reason="crowd")
        classes = self.strengths.classes(claim.subject.name)
        # of a narrower noun there may be fewer objects than boxes, of a broader one more
        possible = {"narrower": numbers[number:], "broader": numbers[: number + 1]}.get(
            classes.kind, numbers[number : number + 1]
        )
        exact = classes.kind == "same" or (classes.kind == "broader" and classes.covered)
        # the number is judged by a table of all classes: it says nothing against what the boxes and their class say
        boxes = sum(box.index is not None for box in self.strengths.boxes(claim.subject))
        exists = self._existence(claim.subject, known).finding(known.stated).verdict is Verdict.SUPPORTED
        strength = numbers[number] if exact else sum(possible)
        return Answer(
            strength,
            known.counts,
            cited,
            may_support=exact and exists and number >= boxes,
            may_contradict=bool(cited) or _seen(classes, known),
            reason=_reason(classes, exact),
        )

    def _relation(self, claim: Claim, known: DetectorClaims) -> Answer:
        if claim.object is None or claim.value is None:
            return Answer(reason="no_object")
        strength = self.strengths.relation(claim.value, claim.subject, claim.object)
        if strength is None:
            return Answer(reason="not_detected")
        if abs(strength - 0.5) < TIE:
            return Answer(reason="close_to_a_tie")
        own = known.relations.get(claim.value)
        table = own if own and own.measured else known.relations.get("")
        kinds = {self.strengths.classes(noun.name).kind for noun in (claim.subject, claim.object)}
        cited = self.strengths.shown(claim.subject) + self.strengths.shown(claim.object)
        return Answer(
            strength, table, cited, may_support="narrower" not in kinds, may_contradict=kinds == {"same"}, reason="close_to_a_tie"
        )  # fmt: skip

    def _text(self, claim: Claim) -> Answer:
        words = self.evidence.words
        if self.texts is None or not claim.value:
            return Answer(reason="nothing_read")
        strength, cited = text_strength(claim.value, words)
        reason = "read_uncertainly" if words else "nothing_read"
        table = self.texts.texts.get(tallest(words))
        return Answer(strength, table, words=cited or tuple(range(len(words))), reason=reason)


_COMPARISONS = {
    "more": lambda a, b: a > b,
    "fewer": lambda a, b: a < b,
    "as_many": lambda a, b: a == b,
}


def _seen(classes: ClassesOf, known: DetectorClaims) -> bool:
    """Whether objects of all classes of a noun were seen often enough to conclude that there is none."""
    return all(known.images[name] >= SEEN_IMAGES for name in classes.names)


def _reason(classes: ClassesOf, exact: bool) -> str:
    """Why a claim about a noun may stay open."""
    if classes.kind == "narrower":
        return f"detector_knows_only_{min(classes.names).replace(' ', '_')}"
    return "too_weak_evidence" if exact else "detector_may_miss_it"
