"""The vocabulary as types. Plain data: no torch, no ray, no vllm."""

from dataclasses import dataclass, field
from enum import StrEnum

YES, NO = "Yes", "No"
"""The two judgements, as a reward model writes them."""


class ClaimType(StrEnum):
    """What kind of thing a claim says."""

    OBJECT = "object"
    ATTRIBUTE = "attribute"
    COUNT = "count"
    RELATION = "relation"
    TEXT = "text"


class Verdict(StrEnum):
    """What the experts say about a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNVERIFIABLE = "unverifiable"


class ImageCondition(StrEnum):
    """How a candidate was made."""

    FULL = "full"
    IMAGE_FREE = "image_free"
    IMAGE_DEGRADED = "image_degraded"


@dataclass(frozen=True)
class PromptRef:
    """A question about an image, by the image's URI; the image has not been opened yet."""

    image: str
    question: str


@dataclass(frozen=True)
class Prompt:
    """A question about an image; `sha256` is that of the image file's bytes."""

    prompt_id: str
    image: str
    sha256: str
    question: str


@dataclass(frozen=True)
class Noun:
    """A singular noun with the attributes that pick out which one is meant: "the red circle"."""

    name: str
    attributes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((*self.attributes, self.name))


@dataclass(frozen=True)
class Claim:
    """One atomic, checkable statement of a response.

    Attributes:
        type: kind of claim.
        subject: what it is about.
        value: the attribute, the number ("2", or "more", "fewer", "as_many" beside an object),
            the relation ("left_of", ...) or the words read; None for existence.
        object: the other noun of a relation or comparison.
        negated: the response denies it ("there is no dog").
        hedged: the response leaves it open ("perhaps a dog").
        span: start and end in the response, in characters.
    """

    type: ClaimType
    subject: Noun
    value: str | None = None
    object: Noun | None = None
    negated: bool = False
    hedged: bool = False
    span: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Detection:
    """One detected object: box in pixels (x0, y0, x1, y1), its colour ("" if none is certain).

    `rival` is another class that the detector sees in the same place ("" if none).
    """

    name: str
    box: tuple[float, float, float, float]
    score: float
    color: str = ""
    rival: str = ""


@dataclass(frozen=True)
class Word:
    """One read text with its box in pixels and the reader's confidence."""

    text: str
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Quality:
    """What an image is like, to be compared with the images that experts were calibrated on.

    Attributes:
        blur: 0 (sharp) to 1 (blurred).
        unexplained: share of the image that stands out from its surroundings and is in no box.
    """

    blur: float = 0.0
    unexplained: float = 0.0


@dataclass(frozen=True)
class Detections:
    """What the detector saw in one image of `width` x `height` pixels.

    `faint` are the boxes below the configured confidence: they support nothing, and absence is not
    claimed in spite of them.
    """

    width: int
    height: int
    objects: tuple[Detection, ...] = ()
    faint: tuple[Detection, ...] = ()
    quality: Quality = Quality()


@dataclass(frozen=True)
class Evidence:
    """What the experts saw in one image of `width` x `height` pixels; see `Detections`."""

    width: int
    height: int
    objects: tuple[Detection, ...] = ()
    words: tuple[Word, ...] = ()
    faint: tuple[Detection, ...] = ()
    quality: Quality = Quality()


@dataclass(frozen=True)
class Finding:
    """The verdict on one claim, with the indices of the evidence it rests on and a confidence."""

    verdict: Verdict
    confidence: float = 0.0
    objects: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class CheckedClaim:
    """A claim and what was found about it."""

    claim: Claim
    finding: Finding


@dataclass(frozen=True)
class Candidate:
    """One response of the policy, and once verified, its claims with their verdicts.

    `reward` is the reward model's own, where a run labels by that instead of by experts.
    """

    candidate_id: str
    text: str
    condition: ImageCondition
    claims: tuple[CheckedClaim, ...] = ()
    reward: float | None = None

    def count(self, verdict: Verdict) -> int:
        """How many claims have the verdict."""
        return sum(c.finding.verdict is verdict for c in self.claims)

    @property
    def contradicted(self) -> bool:
        """Whether an expert contradicts any claim."""
        return self.count(Verdict.CONTRADICTED) > 0


@dataclass(frozen=True)
class ScoredCritique:
    """A critique with the reward at its judgement token.

    `yes` and `no` are the probabilities of the two words there; 0 where no judgement was reached.
    """

    text: str
    yes: float
    no: float

    @property
    def label_mass(self) -> float:
        """p(Yes) + p(No) at the judgement token."""
        return self.yes + self.no

    @property
    def reward(self) -> float:
        """p(Yes) / (p(Yes) + p(No)); 0.5, the value that says nothing, without label mass."""
        return self.yes / self.label_mass if self.label_mass > 0 else 0.5


@dataclass(frozen=True)
class Pair:
    """Chosen and rejected candidate of one prompt, with the critiques written for each."""

    pair_id: str
    chosen: Candidate
    rejected: Candidate
    chosen_critiques: tuple[ScoredCritique, ...] = ()
    rejected_critiques: tuple[ScoredCritique, ...] = ()


@dataclass(frozen=True)
class SelectedPair:
    """A pair as training sees it: one critique for each side, and what separates them."""

    pair_id: str
    chosen: str
    rejected: str
    chosen_critique: str
    rejected_critique: str
    chosen_reward: float
    rejected_reward: float

    @property
    def margin(self) -> float:
        """reward(chosen, critique+) - reward(rejected, critique-)."""
        return self.chosen_reward - self.rejected_reward


@dataclass
class RowCounts:
    """Where the rows of a stage went: rows in = kept + dropped + quarantined, by reason."""

    rows_in: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)

    def check(self, stage: str) -> None:
        """Raise if a row was lost or doubled."""
        gone = sum(self.dropped.values()) + sum(self.quarantined.values())
        if self.rows_in != self.kept + gone:
            raise AssertionError(f"{stage}: {self.rows_in} rows in, but {self.kept} kept and {gone} gone")

    def add(self, other: "RowCounts") -> None:
        """Count another part's rows in."""
        self.rows_in += other.rows_in
        self.kept += other.kept
        for mine, theirs in ((self.dropped, other.dropped), (self.quarantined, other.quarantined)):
            for reason, count in theirs.items():
                mine[reason] = mine.get(reason, 0) + count

    def as_json(self) -> dict[str, object]:
        """As a stage's result and `report.json` hold it."""
        return {"in": self.rows_in, "kept": self.kept, "dropped": self.dropped, "quarantined": self.quarantined}
