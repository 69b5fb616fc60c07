"""Claims against evidence: supported, contradicted or unverifiable. Pure matching, no model.

What may be relied on, and how many of a kind there are at least and at most, `assessed.py` says from
the experts' calibration. A claim is supported where both bounds agree with it, contradicted where
neither can; a claim that nobody can check stays `unverifiable` and never decides a pair.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from rapidfuzz.distance import Levenshtein

from vlrm_ray.config import Experts, is_checkpoint
from vlrm_ray.experts.calibration import DetectorCalibration, ReaderCalibration, check_expert, load
from vlrm_ray.experts.evidence import PALETTE, holds
from vlrm_ray.experts.fingerprints import detector_fingerprint, reader_fingerprint
from vlrm_ray.experts.geometry import relation
from vlrm_ray.experts.reliability import CERTAIN, CROWD, AssessedEvidence, Calibrations, Count
from vlrm_ray.types import CheckedClaim, Claim, ClaimType, Evidence, Finding, Noun, Verdict

_OPPOSITE = {Verdict.SUPPORTED: Verdict.CONTRADICTED, Verdict.CONTRADICTED: Verdict.SUPPORTED}


@dataclass(frozen=True)
class Verifier:
    """Gives verdicts, trusting the experts as far as their calibration goes."""

    calibrations: Calibrations
    _latest: list[AssessedEvidence] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def from_config(cls, experts: Experts) -> "Verifier":
        """A verifier with the calibrations stored beside the configured experts.

        Raises UserError for one that was measured with another model or other settings.
        """
        detector, reader = experts.detector, experts.reader
        objects = load(detector.model, DetectorCalibration)
        if objects and is_checkpoint(detector.model):
            check_expert(objects, detector_fingerprint(detector), "experts.detector")
        words = load(reader.recognition_model, ReaderCalibration) if reader.recognition_model else None
        if words:
            check_expert(words, reader_fingerprint(reader), "experts.reader")
        return cls(Calibrations(objects, words, frozenset(detector.exhaustive)))

    def check(self, claim: Claim, evidence: Evidence) -> CheckedClaim:
        """One claim with its verdict; a denied claim gets the opposite one."""
        return CheckedClaim(claim, judge(claim, self._assess(evidence)))

    def check_all(self, claims: Sequence[Claim], evidence: Evidence) -> tuple[CheckedClaim, ...]:
        """Claims with their verdicts."""
        assessed = self._assess(evidence)
        return tuple(CheckedClaim(claim, judge(claim, assessed)) for claim in claims)

    def _assess(self, evidence: Evidence) -> AssessedEvidence:
        """Candidates come image by image: what is sure of the latest one is known already."""
        if not self._latest or self._latest[0].evidence != evidence:
            self._latest[:] = [AssessedEvidence(evidence, self.calibrations)]
        return self._latest[0]


def judge(claim: Claim, assessed: AssessedEvidence) -> Finding:
    """The verdict on one claim."""
    if claim.hedged:
        return _open("hedged")
    finding = _RULES[claim.type](claim, assessed)
    if not claim.negated:
        return finding
    return replace(finding, verdict=_OPPOSITE.get(finding.verdict, finding.verdict))


def _object(claim: Claim, assessed: AssessedEvidence) -> Finding:
    return _exists(claim.subject, assessed, ())


def _attribute(claim: Claim, assessed: AssessedEvidence) -> Finding:
    if claim.value not in PALETTE:
        return _open("unknown_attribute")
    painted = Noun(claim.subject.name, tuple(dict.fromkeys((*claim.subject.attributes, claim.value))))
    return _exists(painted, assessed, assessed.count(claim.subject).certain)


def _exists(noun: Noun, assessed: AssessedEvidence, instead: tuple[int, ...]) -> Finding:
    """Whether at least one is there; `instead` is the evidence of what is there in its place."""
    count = assessed.count(noun)
    if count.certain:
        certain = max(assessed.certain[i] for i in count.certain)
        return Finding(Verdict.SUPPORTED, _rounded(certain * _color(noun, assessed)), count.certain)
    if count.most == 0:
        return Finding(
            Verdict.CONTRADICTED, _closed(noun, assessed, instead), instead, reason="" if instead else "not_detected"
        )
    return _open(count.why)


def _counted(claim: Claim, assessed: AssessedEvidence) -> Finding:
    one = assessed.count(claim.subject)
    if claim.object is not None:
        two = assessed.count(claim.object)
        holds_, fails = _compared(claim.value or "", one, two)
    elif (claim.value or "").isdecimal():
        two, number = Count((), 0), int(claim.value or "")
        holds_, fails = one.least == one.most == number, number < one.least or number > one.most
    else:
        return _open("no_number")
    if max(one.least, two.least) >= CROWD:
        return _open("crowd")
    if not holds_ and not fails:
        return _open(one.why or two.why or "unknown_comparison")
    seen = one.certain + two.certain
    nouns = [claim.subject, *([claim.object] if claim.object else [])]
    confidence = min(_closed(noun, assessed, seen) for noun in nouns)
    return Finding(Verdict.SUPPORTED if holds_ else Verdict.CONTRADICTED, confidence, seen)


def _compared(how: str, one: Count, two: Count) -> tuple[bool, bool]:
    """Whether a comparison holds for certain, and whether it fails for certain."""
    more, not_more = one.least > two.most, one.most <= two.least
    fewer, not_fewer = one.most < two.least, one.least >= two.most
    equal = one.least == one.most == two.least == two.most
    table = {"more": (more, not_more), "fewer": (fewer, not_fewer), "as_many": (equal, more or fewer)}
    return table.get(how, (False, False))


def _relation(claim: Claim, assessed: AssessedEvidence) -> Finding:
    if claim.object is None or claim.value is None:
        return _open("no_object")
    ones, twos = assessed.count(claim.subject), assessed.count(claim.object)
    evidence = assessed.evidence
    answers = {
        (i, j): relation(claim.value, evidence.objects[i].box, evidence.objects[j].box, evidence.width, evidence.height)
        for i in ones.certain
        for j in twos.certain
        if i != j
    }
    if not answers:
        return _open(ones.why or twos.why or "not_detected")
    holding = [pair for pair, answer in answers.items() if answer == "holds"]
    if holding:
        best = max(holding, key=lambda pair: min(assessed.certain[i] for i in pair))
        return Finding(Verdict.SUPPORTED, _rounded(min(assessed.certain[i] for i in best)), best)
    if any(answer == "unclear" for answer in answers.values()):
        return _open("close_to_a_tie")
    if ones.most > ones.least or twos.most > twos.least:
        return _open(ones.why or twos.why)
    seen = tuple(dict.fromkeys(i for pair in answers for i in pair))
    return Finding(Verdict.CONTRADICTED, _rounded(min(assessed.certain[i] for i in seen)), seen)


def _text(claim: Claim, assessed: AssessedEvidence) -> Finding:
    wanted, words = _tokens(claim.value or ""), assessed.evidence.words
    carriers = [assessed.evidence.objects[i] for i in assessed.count(Noun(claim.subject.name)).certain]
    read = [i for i, word in enumerate(words) if not carriers or any(holds(thing, word) for thing in carriers)]
    if not wanted or not read:
        return _open("nothing_read")
    confidence = _rounded(min(assessed.calibrations.is_word(words[i]) for i in read))
    if confidence < CERTAIN or (
        not carriers and any(holds(d.seen, words[i]) for d in assessed.uncertain for i in read)
    ):
        return _open("read_uncertainly")
    tokens = {i: _tokens(words[i].text) for i in read}
    likeness = {_likeness(token, [t for found in tokens.values() for t in found]) for token in wanted}
    if likeness == {"same"}:
        said = tuple(i for i, found in tokens.items() if any(_likeness(token, found) == "same" for token in wanted))
        return Finding(Verdict.SUPPORTED, confidence, words=said)
    if likeness != {"other"}:
        return _open("read_uncertainly")
    if any(not any(holds(thing, words[i]) for i in read) for thing in carriers):
        return _open("not_all_read")
    if assessed.uncertain or not assessed.in_distribution:
        return _open("something_is_doubtful" if assessed.uncertain else "image_unlike_calibration")
    return Finding(Verdict.CONTRADICTED, confidence, words=tuple(read))


def _likeness(token: str, others: Sequence[str]) -> str:
    """ "same", "near" or "other" as the nearest word is, by edit distance with a threshold per length.

    Up to seven letters only equal words are the same, since one letter makes another word (STOP,
    SHOP); from eight on, one slip in five letters is forgiven. One letter in four is near.
    """
    distance = min((Levenshtein.distance(token, other) for other in others), default=len(token))
    slips = len(token) // 5 if len(token) >= 8 else 0
    return "same" if distance <= slips else "near" if distance <= max(1, len(token) // 4) else "other"


_RULES: dict[ClaimType, Callable[[Claim, AssessedEvidence], Finding]] = {
    ClaimType.OBJECT: _object,
    ClaimType.ATTRIBUTE: _attribute,
    ClaimType.COUNT: _counted,
    ClaimType.RELATION: _relation,
    ClaimType.TEXT: _text,
}


def _closed(noun: Noun, assessed: AssessedEvidence, seen: tuple[int, ...]) -> float:
    """Confidence that nothing was missed and that what was seen is right."""
    certain = min((assessed.certain[i] for i in seen), default=1.0)
    return _rounded(min(certain, assessed.calibrations.recall(noun.name)) * _color(noun, assessed))


def _color(noun: Noun, assessed: AssessedEvidence) -> float:
    return assessed.calibrations.color if noun.attributes else 1.0


def _open(reason: str) -> Finding:
    return Finding(Verdict.UNVERIFIABLE, reason=reason)


def _rounded(value: float) -> float:
    return round(value, 4)


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", text.casefold()))
