"""How a judge is asked about an item, and what its words decide.

`pointwise`: each answer is judged by itself with the critique wording that the reward model was
trained on; its reward is the mean over K critiques, the higher one wins, equal ones are a tie. The
other answer is never seen, so the order of the two cannot matter.

`pairwise`: both answers are shown and the judge says which is better; of K texts the majority wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vlrm_ray.engines import Completion, Request, Sampling, scored_critique
from vlrm_ray.evaluation.benchmarks.items import Item, Judgement, Status
from vlrm_ray.evaluation.benchmarks.vl_rewardbench import VERDICT
from vlrm_ray.ids import seed_of
from vlrm_ray.preferences.critique import CritiqueFormat, parse

POINTWISE, PAIRWISE = "pointwise", "pairwise"
COMPARISON = (
    "Two answers were given to a question about the image. Decide which of them is better: true to "
    "the image, complete, clear and to the point.\n\nQuestion: {question}\n\nAnswer 1: {one}\n\n"
    "Answer 2: {two}\n\nFirst compare what each answer says with what the image shows. Then end with "
    "one line, 'Overall Judgment: Answer 1 is better.' or 'Overall Judgment: Answer 2 is better.'"
)
"""The pairwise wording; its last line is what VL-RewardBench's scorer looks for."""


@dataclass(frozen=True)
class RefusedRequest:
    """A request that the engine would not take, and why."""

    reason: str


Answer = list[Completion] | RefusedRequest
"""K completions of one request, or why there are none."""


@dataclass(frozen=True)
class JudgeSettings:
    """How a judge is asked.

    Attributes:
        pairwise: both answers at once.
        wording: of critiques; a pairwise judge has its own.
        sampling: how critiques or comparisons are drawn, and how many.
        label_mass: smallest p(Yes) + p(No) at a judgement that counts.
    """

    pairwise: bool
    wording: CritiqueFormat
    sampling: Sampling
    label_mass: float

    @classmethod
    def create(
        cls, judge: str, wording: CritiqueFormat, k: int, max_tokens: int, temperature: float, label_mass: float
    ) -> "JudgeSettings":
        """One critique is the likeliest one; several are drawn."""
        sampling = Sampling(max_tokens, temperature if k > 1 else 0.0, n=k)
        return cls(judge == PAIRWISE, wording, sampling, label_mass)


def requests(item: Item, first: int, manner: JudgeSettings, image: str | None) -> list[Request]:
    """One request for each answer, that of `first` leading; or one for both."""
    question, order = clean(item.question), (first, 1 - first)
    shown = [clean(item.answers[index]) for index in order]
    if manner.pairwise:
        text = COMPARISON.format(question=question, one=shown[0], two=shown[1])
        return [Request(text, image, seed=seed_of("bench", item.key, first))]
    return [
        Request(manner.wording.prompt(question, answer), image, seed=seed_of("bench", item.key, index))
        for answer, index in zip(shown, order, strict=True)
    ]


def clean(text: str) -> str:
    """A text that any tokenizer takes: without lone surrogates, and without the data's `<image>` marks."""
    return text.encode("utf-8", "replace").decode().replace("<image>\n", "").replace("<image>", "")


def decide(item: Item, first: int, manner: JudgeSettings, answers: Sequence[Answer]) -> Judgement:
    """What the answers to `requests` say about an item."""
    for answer in answers:
        if isinstance(answer, RefusedRequest):
            return Judgement(item.key, first, Status.QUARANTINED, reason=answer.reason)
    groups = [answer for answer in answers if not isinstance(answer, RefusedRequest)]
    texts = tuple(completion.text for group in groups for completion in group)
    rewards = _votes(texts) if manner.pairwise else _means(groups, manner.label_mass)
    if rewards is None:
        return Judgement(item.key, first, Status.UNPARSED, texts=texts)
    ordered = rewards if first == 0 else (rewards[1], rewards[0])
    if ordered[0] == ordered[1]:
        return Judgement(item.key, first, Status.TIE, None, ordered, texts=texts)
    return Judgement(item.key, first, Status.DECIDED, int(ordered[1] > ordered[0]), ordered, texts=texts)


def _means(groups: Sequence[Sequence[Completion]], label_mass: float) -> tuple[float, float] | None:
    """Mean reward of each answer over its readable critiques; None where one answer has none."""
    means = []
    for group in groups:
        critiques = [scored_critique(completion) for completion in group]
        rewards = [j.reward for j in critiques if parse(j.text).judgement is not None and j.label_mass >= label_mass]
        if not rewards:
            return None
        means.append(sum(rewards) / len(rewards))
    return means[0], means[1]


def _votes(texts: Sequence[str]) -> tuple[float, float] | None:
    """Shares of the votes for the answer shown first and second; None without any."""
    found = [match[1] for text in texts if (match := VERDICT.search(text.replace("\n", "").replace("*", "")))]
    one, two = found.count("1"), found.count("2")
    return (one / (one + two), two / (one + two)) if one + two else None
