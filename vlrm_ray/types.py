"""Data types shared by all stages. Plain dataclasses; this module imports no torch, ray or vllm."""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

YES, NO = "Yes", "No"
"""The two judgements that a critique ends with."""


class ClaimType(StrEnum):
    """Kind of a claim. `STATE` is a posture or activity ("sitting", "parked"): no expert checks it, so it decides nothing."""

    OBJECT = "object"
    ATTRIBUTE = "attribute"
    COUNT = "count"
    RELATION = "relation"
    TEXT = "text"
    STATE = "state"


CHECKED_TYPES = tuple(kind for kind in ClaimType if kind is not ClaimType.STATE)
"""The kinds of claims that experts check."""


class Verdict(StrEnum):
    """Result of checking a claim against the evidence."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNVERIFIABLE = "unverifiable"


class ImageCondition(StrEnum):
    """How a response was made: by the policy with the image, without it or with a degraded copy; or given by the user."""

    FULL = "full"
    IMAGE_FREE = "image_free"
    IMAGE_DEGRADED = "image_degraded"
    GIVEN = "given"


@dataclass(frozen=True)
class GivenResponse:
    """A response that the user's data have for a prompt.

    Attributes:
        text: the response; "" if it cannot be used.
        source: where it comes from, in the words of the data: the name of a model, "chosen", "rejected"; "" if unknown.
        problem: why it cannot be used; "" if it can.
    """

    text: str
    source: str = ""
    problem: str = ""


@dataclass(frozen=True)
class PromptRef:
    """A question about an image that has not been opened yet.

    Attributes:
        image: URI or local path of the image file.
        question: the question.
        problem: why the prompt cannot be used; "" if it can.
        responses: the responses that the user's data have for it.
    """

    image: str
    question: str
    problem: str = ""
    responses: tuple[GivenResponse, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A question about an image that was read successfully.

    Attributes:
        prompt_id: id derived from the image, the question, the round and the run's seed.
        image: URI or local path of the image file.
        sha256: sha256 of the image file.
        question: the question.
    """

    prompt_id: str
    image: str
    sha256: str
    question: str


@dataclass(frozen=True)
class Noun:
    """A singular noun with its attributes: "red circle" has the name "circle" and the attributes ("red",)."""

    name: str
    attributes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((*self.attributes, self.name))


@dataclass(frozen=True)
class Claim:
    """One atomic, checkable statement of a response.

    Attributes:
        type: kind of the claim.
        subject: the noun that the claim is about.
        value: depends on the type. object: None. attribute and state: the attribute or state. count: the number ("2"), or "more", "fewer"
            or "as_many" for a comparison with `object`. relation: the relation ("left_of"). text: the words.
        object: the other noun of a relation or comparison.
        negated: whether the response denies it ("there is no dog").
        hedged: whether the response is unsure about it ("perhaps a dog").
        span: start and end of the statement in the response, in characters.
    """

    type: ClaimType
    subject: Noun
    value: str | None = None
    object: Noun | None = None
    negated: bool = False
    hedged: bool = False
    span: tuple[int, int] = (0, 0)

    @property
    def content(self) -> tuple[Hashable, ...]:
        """What it states: the claim without its span."""
        return self.type, self.subject, self.value, self.object, self.negated, self.hedged

    @property
    def nouns(self) -> tuple["Noun", ...]:
        """The nouns that it is about, one or two."""
        return (self.subject, self.object) if self.object else (self.subject,)


@dataclass(frozen=True)
class Shade:
    """One of the main colors of an object.

    Attributes:
        light: lightness L* of CIELAB, 0 to 100.
        a: a* of CIELAB, from green (negative) to red.
        b: b* of CIELAB, from blue (negative) to yellow.
        share: share of the object's pixels, 0 to 1.
    """

    light: float
    a: float
    b: float
    share: float


@dataclass(frozen=True)
class Detection:
    """One detected object.

    Attributes:
        name: class of the object.
        box: corners in pixels: x0, y0, x1, y1.
        score: the detector's confidence, 0 to 1.
        color: color name; "" if it is uncertain.
        rival: another class that was detected in the same place; "" if there is none.
        shades: main colors of the object's own pixels; empty for faint detections.
    """

    name: str
    box: tuple[float, float, float, float]
    score: float
    color: str = ""
    rival: str = ""
    shades: tuple[Shade, ...] = ()


@dataclass(frozen=True)
class Word:
    """One text that OCR read.

    Attributes:
        text: the text; it may have several words.
        box: corners in pixels: x0, y0, x1, y1.
        score: the OCR reader's confidence, 0 to 1.
    """

    text: str
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Quality:
    """Quality of an image, to compare with the images that the detector was calibrated on.

    Attributes:
        blur: 0 (sharp) to 1 (blurred).
        unexplained: share of the pixels that differ from their surroundings and are in no box.
    """

    blur: float = 0.0
    unexplained: float = 0.0


@dataclass(frozen=True)
class Detections:
    """Output of the detector for one image.

    Attributes:
        width: image width in pixels.
        height: image height in pixels.
        objects: detections at or above the configured confidence.
        faint: detections below it. They support no claim, but they prevent an object from being called absent.
        quality: quality of the image.
    """

    width: int
    height: int
    objects: tuple[Detection, ...] = ()
    faint: tuple[Detection, ...] = ()
    quality: Quality = Quality()


@dataclass(frozen=True)
class Evidence:
    """Output of the detector and the OCR reader for one image.

    Attributes:
        width: image width in pixels.
        height: image height in pixels.
        objects: detections at or above the configured confidence.
        words: texts that OCR read.
        faint: detections below the configured confidence; see `Detections`.
        quality: quality of the image.
    """

    width: int
    height: int
    objects: tuple[Detection, ...] = ()
    words: tuple[Word, ...] = ()
    faint: tuple[Detection, ...] = ()
    quality: Quality = Quality()


NEVER_SUPPORTED = "never_supported"
"""Reason of a contradicted claim where no claim like it is ever supported: "there is no dog", and any number of dogs, if the detector
may miss dogs. Pairing does not use such verdicts: they would always speak against the same words."""


@dataclass(frozen=True)
class Finding:
    """Verdict on one claim.

    Attributes:
        verdict: the verdict.
        confidence: estimated probability that the verdict is right; 0 if unverifiable.
        objects: indices in `Evidence.objects` of the detections that the verdict relies on.
        words: indices in `Evidence.words` of the texts that the verdict relies on.
        reason: why the claim is unverifiable; of a contradicted one `NEVER_SUPPORTED`, or "not_detected" if the verdict relies on the
            absence of objects; else "".
    """

    verdict: Verdict
    confidence: float = 0.0
    objects: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class CheckedClaim:
    """A claim with its verdict."""

    claim: Claim
    finding: Finding


@dataclass(frozen=True)
class Candidate:
    """One response, by the policy or given by the user.

    Attributes:
        candidate_id: id derived from the prompt, the response's index, and the generation settings or the given text.
        text: the response.
        condition: what the policy saw of the image, or that the response was given.
        claims: claims of the response with their verdicts; empty before verification.
        reward: score by the reward model, in runs with `pairing.labels: self`; else None.
        fully_read: whether the claims are all that it makes; False if the extractor could not read some part of it.
    """

    candidate_id: str
    text: str
    condition: ImageCondition
    claims: tuple[CheckedClaim, ...] = ()
    reward: float | None = None
    fully_read: bool = True

    def count(self, verdict: Verdict) -> int:
        """Number of claims with a verdict."""
        return sum(c.finding.verdict is verdict for c in self.claims)

    @property
    def contradicted(self) -> bool:
        """Whether any claim is contradicted."""
        return self.count(Verdict.CONTRADICTED) > 0


@dataclass(frozen=True)
class ScoredCritique:
    """A critique with the probabilities at its judgement token.

    Attributes:
        text: the critique.
        yes: probability of "Yes" at the judgement token; 0 if the critique has no judgement.
        no: probability of "No" at the judgement token; 0 if the critique has no judgement.
        writer: who wrote it, if that differs among critiques: "base" or "newest"; "own" if without evidence.
        false_statements: how many of its statements the experts' evidence contradicts; None if they were not checked.
        asked: whether its writer was asked for the judgement, having written none: it was cut off, mostly.
    """

    text: str
    yes: float
    no: float
    writer: str = ""
    false_statements: int | None = None
    asked: bool = False

    @property
    def label_mass(self) -> float:
        """p(Yes) + p(No) at the judgement token."""
        return self.yes + self.no

    @property
    def reward(self) -> float:
        """p(Yes) / (p(Yes) + p(No)); 0.5 if the label mass is 0."""
        return self.yes / self.label_mass if self.label_mass > 0 else 0.5


@dataclass(frozen=True)
class Pair:
    """Chosen and rejected candidate of one prompt, with the critiques of each.

    Attributes:
        pair_id: id of the pair.
        chosen: the chosen candidate.
        rejected: the rejected candidate.
        chosen_critiques: critiques of the chosen candidate, written from the experts' evidence.
        rejected_critiques: those of the rejected candidate.
        unaided: the newest version's critique of each, without evidence; empty if it was not asked.
    """

    pair_id: str
    chosen: Candidate
    rejected: Candidate
    chosen_critiques: tuple[ScoredCritique, ...] = ()
    rejected_critiques: tuple[ScoredCritique, ...] = ()
    unaided: tuple[ScoredCritique, ...] = ()

    def options(self, side: int) -> tuple[ScoredCritique, ...]:
        """The critiques that can be learned of the chosen (0) or the rejected (1) candidate, the unaided one last."""
        return ((self.chosen_critiques, self.rejected_critiques)[side]) + self.unaided[side : side + 1]


@dataclass(frozen=True)
class SelectedPair:
    """A pair as it is used for training, with the critique of each side that is learned; None if only the other side is."""

    pair: Pair
    chosen: ScoredCritique | None
    rejected: ScoredCritique | None

    @property
    def margin(self) -> float | None:
        """reward(chosen, critique+) - reward(rejected, critique-); None if only one side is learned."""
        return self.chosen.reward - self.rejected.reward if self.chosen and self.rejected else None
