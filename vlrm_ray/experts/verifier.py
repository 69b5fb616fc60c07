"""The verifier: compares a claim with the evidence of its image and returns a verdict. No model runs here.

    Verifier.check(claim, evidence)
      1. AssessedEvidence (reliability.py): which detections are certain; for a noun, how many objects match it at
         least and at most
      2. judge(claim, assessed), which returns a `Finding`:
           by tables (measured_judge.py), if a calibration measured how often such claims are true: the probability at the
           strength of the claim's evidence decides
           by bounds (this module) otherwise: the rule for the claim's type decides
         docs/experts.md says why there are both
      3. a negated claim ("there is no dog") gets the opposite verdict
      4. a contradicted claim of a kind that is never supported, in whatever image, is marked (`NEVER_SUPPORTED`)

A rule by bounds returns `supported` if the claim is true for every count between the bounds, `contradicted` if it is false
for every such count, and `unverifiable` with a reason otherwise:

    type        supported                              contradicted
    object      at least 1 certain object              at most 0
    attribute   as object, for the noun with its color as object
    count       both bounds equal the number           the number is outside the bounds
                (comparisons: the bounds of two nouns are compared in the same way)
    relation    holds for a pair of certain objects    fails for all pairs of certain objects, and there are no others
    text        every word of the claim was read       no word of the claim resembles a word that was read, and
                                                       nothing in the image is uncertain

A hedged claim ("perhaps a dog"), an attribute that is not a color and a state ("sitting") are always unverifiable. The confidence of such a
finding is the smallest probability among the detections, words and recall values that it relies on, multiplied by the
probability that a named color is right if the claim names one.
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from rapidfuzz.distance import Levenshtein

from vlrm_ray.config import Experts, is_checkpoint
from vlrm_ray.errors import UserError
from vlrm_ray.experts.calibration import (
    DetectorCalibration,
    ReaderCalibration,
    calibration_file,
    check_expert,
    load_calibration,
)
from vlrm_ray.experts.evidence import PALETTE, contains_word
from vlrm_ray.experts.fingerprints import detector_fingerprint, reader_fingerprint
from vlrm_ray.experts.geometry import spatial_relation
from vlrm_ray.experts.hierarchy import noun_hierarchy
from vlrm_ray.experts.reliability import (
    DETECTOR_UNCALIBRATED,
    MIN_PROBABILITY,
    READER_UNCALIBRATED,
    AssessedEvidence,
    Calibrations,
    CountBounds,
)
from vlrm_ray.experts.strengths import MOST_COUNTED
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.types import NEVER_SUPPORTED, CheckedClaim, Claim, ClaimType, Evidence, Finding, Noun, Verdict

_OPPOSITE = {Verdict.SUPPORTED: Verdict.CONTRADICTED, Verdict.CONTRADICTED: Verdict.SUPPORTED}


@dataclass(frozen=True)
class Verifier:
    """Checks claims against evidence, using the experts' calibrations to decide what is reliable."""

    calibrations: Calibrations
    _latest: list[AssessedEvidence] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def from_config(cls, experts: Experts) -> "Verifier":
        """Verifier with the calibrations stored beside the configured models.

        Raises:
            UserError: a calibration was measured with another model or other settings, or the file that
                `experts.detector.calibration` names does not exist.
        """
        detector, reader = experts.detector, experts.reader
        detector_calibration = load_calibration(detector.model, DetectorCalibration, detector.calibration)
        if detector.calibration and detector_calibration is None:
            file = redacted(calibration_file(detector.model, detector.calibration))
            raise UserError(
                f"experts.detector.calibration: there is no file {file} on node {socket.gethostname()}; correct the path (every "
                "node reads it), measure it with `python jobs/evaluate.py calibrate`, or leave the key empty"
            )
        expected = detector_fingerprint(detector) if detector_calibration else ""
        if detector_calibration and expected:
            check_expert(detector_calibration, expected, "experts.detector")
        reader_calibration = (
            load_calibration(reader.recognition_model, ReaderCalibration) if reader.recognition_model else None
        )
        if reader_calibration:
            check_expert(reader_calibration, reader_fingerprint(reader), "experts.reader")
        input_side = detector.image_size if is_checkpoint(detector.model) else 0
        calibrations = Calibrations(
            detector_calibration,
            reader_calibration,
            frozenset(detector.exhaustive),
            input_side,
            experts.uncalibrated == "allow",
            frozenset(detector.classes),
        )
        return cls(calibrations)

    def check(self, claim: Claim, evidence: Evidence) -> CheckedClaim:
        """Check one claim."""
        return CheckedClaim(claim, judge(claim, self._assess(evidence)))

    def check_all(self, claims: Sequence[Claim], evidence: Evidence) -> tuple[CheckedClaim, ...]:
        """Check several claims about one image.

        Findings are remembered as long as the evidence is, because candidates of an image often claim the same.
        """
        assessed, checked = self._assess(evidence), []
        for claim in claims:
            finding = assessed.findings.get(claim.content)
            if finding is None:
                finding = assessed.findings[claim.content] = judge(claim, assessed)
            checked.append(CheckedClaim(claim, finding))
        return tuple(checked)

    def certain(self, evidence: Evidence) -> Evidence:
        """The evidence without detections and words that may be wrong: what the writer of a critique is told.

        A detection is told if the verdict that there is such an object rests on it.
        """
        assessed = self._assess(evidence)
        there_is = [judge(Claim(ClaimType.OBJECT, Noun(name)), assessed) for name in {o.name for o in evidence.objects}]
        told = {i for finding in there_is if finding.verdict is Verdict.SUPPORTED for i in finding.objects}
        objects = tuple(detection for i, detection in enumerate(evidence.objects) if i in told)
        words = tuple(w for w in evidence.words if self.calibrations.word_probability(w) >= MIN_PROBABILITY)
        return replace(evidence, objects=objects, words=words)

    def _assess(self, evidence: Evidence) -> AssessedEvidence:
        """Assess the evidence; the latest result is reused, because the candidates of an image come in succession.

        Other threads may replace the latest result at any time, so it is read once.
        """
        for latest in self._latest[:]:
            if latest.evidence == evidence:
                return latest
        assessed = AssessedEvidence(evidence, self.calibrations)
        self._latest[:] = [assessed]
        return assessed


def judge(claim: Claim, assessed: AssessedEvidence) -> Finding:
    """Verdict on one claim: by measured tables if there are any for it, else by bounds; inverted if it is negated."""
    if claim.hedged:
        return _unverifiable("hedged")
    measured = _judge_by_tables(claim, assessed)
    finding = measured or _judge_by_bounds(claim, assessed)
    if claim.negated:
        finding = replace(finding, verdict=_OPPOSITE.get(finding.verdict, finding.verdict))
    if finding.verdict is Verdict.CONTRADICTED and not _is_ever_supported(claim, assessed, measured is not None):
        return replace(finding, reason=NEVER_SUPPORTED)
    return finding


def _is_ever_supported(claim: Claim, assessed: AssessedEvidence, by_tables: bool) -> bool:
    """Whether a contradicted claim would be supported in an image that shows what it says.

    By bounds, an object of the noun must be one that the detector reports, or, for a denial and a number, one that it does not miss.
    """
    if claim.type is ClaimType.TEXT:
        return True
    if by_tables:
        measured = assessed.measured
        return measured.is_ever_contradicted(claim) if claim.negated else measured.is_ever_supported(claim)
    bounded = all(assessed.calibrations.bounding_classes(noun.name) for noun in claim.nouns)
    return bounded and (claim.negated or all(_is_reported(noun, assessed.calibrations) for noun in claim.nouns))


def _is_reported(noun: Noun, calibrations: Calibrations) -> bool:
    """Whether a detection may show for certain what a noun describes: not a "man", if the detector knows persons only."""
    calibrated = calibrations.detector.classes if calibrations.detector else ()
    classes = {*calibrations.exhaustive, *calibrations.classes, *calibrated}
    visible = len(noun.attributes) <= 1 and all(word in PALETTE for word in noun.attributes)
    return visible and any(noun_hierarchy().includes(noun.name, name) for name in classes)


def _judge_by_tables(claim: Claim, assessed: AssessedEvidence) -> Finding | None:
    """Verdict by how often such claims were true on labelled images; None if that was not measured."""
    return assessed.measured.judge(claim)


def _judge_by_bounds(claim: Claim, assessed: AssessedEvidence) -> Finding:
    """Verdict by what is certain in the image, with the rule of the claim's type."""
    return _RULES[claim.type](claim, assessed)


def _judge_object(claim: Claim, assessed: AssessedEvidence) -> Finding:
    return _judge_existence(claim.subject, assessed, ())


def _judge_attribute(claim: Claim, assessed: AssessedEvidence) -> Finding:
    """Existence of an object with the claimed color."""
    if claim.value not in PALETTE:
        return _unverifiable("unknown_attribute")
    colored = Noun(claim.subject.name, tuple(dict.fromkeys((*claim.subject.attributes, claim.value))))
    return _judge_existence(colored, assessed, assessed.count_bounds(claim.subject).certain)


def _judge_existence(noun: Noun, assessed: AssessedEvidence, counterexamples: tuple[int, ...]) -> Finding:
    """Whether at least one object matches a noun; `counterexamples` are cited as evidence if none does."""
    bounds = assessed.count_bounds(noun)
    if bounds.certain:
        probability = max(assessed.certain[i] for i in bounds.certain)
        return Finding(Verdict.SUPPORTED, _round(probability * _color_probability(noun, assessed)), bounds.certain)
    if bounds.most == 0:
        return Finding(
            Verdict.CONTRADICTED,
            _completeness(noun, assessed, counterexamples),
            counterexamples,
            reason="" if counterexamples else "not_detected",
        )
    return _unverifiable(bounds.reason)


def _judge_count(claim: Claim, assessed: AssessedEvidence) -> Finding:
    """A number of objects ("2"), or a comparison of two nouns ("more", "fewer", "as_many")."""
    subject = assessed.count_bounds(claim.subject)
    if claim.object is not None:
        other = assessed.count_bounds(claim.object)
        is_true, is_false = _compare(claim.value or "", subject, other)
    elif (claim.value or "").isdecimal():
        other, number = CountBounds((), 0), int(claim.value or "")
        is_true, is_false = subject.least == subject.most == number, number < subject.least or number > subject.most
    else:
        return _unverifiable("no_number")
    if max(subject.least, other.least) >= MOST_COUNTED:
        return _unverifiable("crowd")
    if not is_true and not is_false:
        return _unverifiable(subject.reason or other.reason or "unknown_comparison")
    cited = subject.certain + other.certain
    confidence = min(_completeness(noun, assessed, cited) for noun in claim.nouns)
    return Finding(Verdict.SUPPORTED if is_true else Verdict.CONTRADICTED, confidence, cited)


def _compare(comparison: str, a: CountBounds, b: CountBounds) -> tuple[bool, bool]:
    """Whether a comparison of two counts is certainly true, and whether it is certainly false."""
    more, not_more = a.least > b.most, a.most <= b.least
    fewer, not_fewer = a.most < b.least, a.least >= b.most
    equal = a.least == a.most == b.least == b.most
    table = {"more": (more, not_more), "fewer": (fewer, not_fewer), "as_many": (equal, more or fewer)}
    return table.get(comparison, (False, False))


def _judge_relation(claim: Claim, assessed: AssessedEvidence) -> Finding:
    """A spatial relation: true if it holds for one pair of objects, false if it fails for all of them."""
    if claim.object is None or claim.value is None:
        return _unverifiable("no_object")
    subjects, others = assessed.count_bounds(claim.subject), assessed.count_bounds(claim.object)
    objects, size = assessed.evidence.objects, (assessed.evidence.width, assessed.evidence.height)
    answers = {
        (i, j): spatial_relation(claim.value, objects[i].box, objects[j].box, *size)
        for i in subjects.certain
        for j in others.certain
        if i != j
    }
    if not answers:
        return _unverifiable(subjects.reason or others.reason or "not_detected")
    holding = [pair for pair, answer in answers.items() if answer == "holds"]
    if holding:
        best = max(holding, key=lambda pair: min(assessed.certain[i] for i in pair))
        return Finding(Verdict.SUPPORTED, _round(min(assessed.certain[i] for i in best)), best)
    if any(answer == "unclear" for answer in answers.values()):
        return _unverifiable("close_to_a_tie")
    if subjects.most > subjects.least or others.most > others.least:
        return _unverifiable(subjects.reason or others.reason)
    cited = tuple(dict.fromkeys(i for pair in answers for i in pair))
    return Finding(Verdict.CONTRADICTED, _round(min(assessed.certain[i] for i in cited)), cited)


def _judge_text(claim: Claim, assessed: AssessedEvidence) -> Finding:
    """Text on the subject ("the sign says STOP"), or anywhere in the image if no such object is certain."""
    if not assessed.calibrations.trusts_reader:
        return _unverifiable(READER_UNCALIBRATED)
    claimed, words = _tokens(claim.value or ""), assessed.evidence.words
    carriers = [assessed.evidence.objects[i] for i in assessed.count_bounds(Noun(claim.subject.name)).certain]
    read = [i for i, word in enumerate(words) if not carriers or any(contains_word(o, word) for o in carriers)]
    if not claimed or not read:
        return _unverifiable("nothing_read")
    confidence = _round(min(assessed.calibrations.word_probability(words[i]) for i in read))
    if confidence < MIN_PROBABILITY or (
        not carriers and any(contains_word(u.detection, words[i]) for u in assessed.uncertain for i in read)
    ):
        return _unverifiable("read_uncertainly")
    read_tokens = {i: _tokens(words[i].text) for i in read}
    all_tokens = [token for tokens in read_tokens.values() for token in tokens]
    matches = {_match(token, all_tokens) for token in claimed}
    if matches == {"same"}:
        cited = tuple(i for i, tokens in read_tokens.items() if any(_match(t, tokens) == "same" for t in claimed))
        return Finding(Verdict.SUPPORTED, confidence, words=cited)
    if matches != {"other"}:
        return _unverifiable("read_uncertainly")
    if any(not any(contains_word(o, words[i]) for i in read) for o in carriers):
        return _unverifiable("not_all_read")
    if not assessed.calibrations.trusts_detector:
        return _unverifiable(DETECTOR_UNCALIBRATED)
    if assessed.uncertain or not assessed.in_distribution:
        return _unverifiable("something_is_doubtful" if assessed.uncertain else assessed.unlike_calibration)
    return Finding(Verdict.CONTRADICTED, confidence, words=tuple(read))


def _match(token: str, others: Sequence[str]) -> str:
    """How well a token matches the nearest of several others by edit distance: "same", "near" or "other".

    Tokens of up to 7 characters are "same" only if they are equal, because one letter makes another word (STOP, SHOP);
    from 8 characters on, one edit per 5 characters is allowed. One edit per 4 characters, and at least one, is "near".
    """
    distance = min((Levenshtein.distance(token, other) for other in others), default=len(token))
    edits = len(token) // 5 if len(token) >= 8 else 0
    return "same" if distance <= edits else "near" if distance <= max(1, len(token) // 4) else "other"


def _judge_state(claim: Claim, assessed: AssessedEvidence) -> Finding:
    """Postures and activities ("sitting", "parked"): no expert checks them."""
    return _unverifiable("state")


_RULES: dict[ClaimType, Callable[[Claim, AssessedEvidence], Finding]] = {
    ClaimType.OBJECT: _judge_object,
    ClaimType.ATTRIBUTE: _judge_attribute,
    ClaimType.COUNT: _judge_count,
    ClaimType.RELATION: _judge_relation,
    ClaimType.TEXT: _judge_text,
    ClaimType.STATE: _judge_state,
}


def _completeness(noun: Noun, assessed: AssessedEvidence, cited: tuple[int, ...]) -> float:
    """Confidence that no object of a noun was missed and that the cited objects are right."""
    probability = min((assessed.certain[i] for i in cited), default=1.0)
    return _round(min(probability, assessed.recall(noun)) * _color_probability(noun, assessed))


def _color_probability(noun: Noun, assessed: AssessedEvidence) -> float:
    return assessed.calibrations.color_probability if noun.attributes else 1.0


def _unverifiable(reason: str) -> Finding:
    return Finding(Verdict.UNVERIFIABLE, reason=reason)


def _round(value: float) -> float:
    return round(value, 4)


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[str, ...]:
    """Words of a text in lower case, without punctuation."""
    return tuple(re.findall(r"[^\W_]+", text.casefold()))
