"""Prompts to a judge about an item, and the decision from its outputs.

A `pointwise` judge writes K critiques of each answer on its own, in the critique format that the reward model was
trained on. The reward of an answer is the mean over its critiques; the higher reward wins, equal rewards are a tie. With
K > 1 the mean is over calibrated rewards if the model has a calibration, as in scoring; with K = 1 it would change no
order. The judge never sees the other answer, so the order of the two has no effect.

A `pairwise` judge sees both answers and generates K texts that say which one is better; the majority wins.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vlrm_ray.engines import Completion, Request, Sampling, scored_critique
from vlrm_ray.evaluation.benchmarks.items import Item, Judgement, Status
from vlrm_ray.evaluation.benchmarks.vl_rewardbench import VERDICT
from vlrm_ray.ids import seed_of
from vlrm_ray.preferences.critique import CritiqueFormat
from vlrm_ray.preferences.selection import usable_critiques
from vlrm_ray.reward.scoring import clean_text, mean_reward

POINTWISE, PAIRWISE = "pointwise", "pairwise"
COMPARISON = (
    "Two answers were given to a question about the image. Decide which of them is better: true to "
    "the image, complete, clear and to the point.\n\nQuestion: {question}\n\nAnswer 1: {one}\n\n"
    "Answer 2: {two}\n\nFirst compare what each answer says with what the image shows. Then end with "
    "one line, 'Overall Judgment: Answer 1 is better.' or 'Overall Judgment: Answer 2 is better.'"
)
"""The prompt of a pairwise judge. VL-RewardBench's scorer looks for the last line that it asks for."""


JudgeOutput = list[Completion]
"""The K completions of a request; those of a request that the engine refused have only the reason, in `refused`."""


_OTHER_VERDICT = re.compile(
    r"\b(?:judge?ment|verdict|conclusion|therefore)\b[^\w\n]{0,8}\s*(?:is\s+)?(?:that\s+)?(?:answer|response)?\s*\[{0,2}([12])\]{0,2}"
    r"(?=\s+is\s+(?:\w+\s+){0,2}better\b|\s*[.!\"']*\s*(?:\n|$))",
    re.IGNORECASE,
)
"""Verdicts that the official pattern does not read: "Overall Judgement: Answer 1 is better", "Verdict: 2"."""


@dataclass(frozen=True)
class JudgeSettings:
    """How a judge is prompted and sampled.

    Attributes:
        pairwise: whether one prompt holds both answers.
        critique_format: format of the critiques of a pointwise judge; a pairwise judge uses `COMPARISON` instead.
        sampling: sampling parameters, with the number of critiques or comparisons K as `n`.
        label_mass: smallest p(Yes) + p(No) at the judgement token for a critique to count.
        calibration: temperature of the rewards before they are averaged; None leaves them as they are.
        blind: whether the images are left out.
    """

    pairwise: bool
    critique_format: CritiqueFormat
    sampling: Sampling
    label_mass: float
    calibration: float | None = None
    blind: bool = False

    @classmethod
    def create(
        cls,
        judge: str,
        critique_format: CritiqueFormat,
        k: int,
        max_tokens: int,
        temperature: float,
        label_mass: float,
        calibration: float | None = None,
        *,
        blind: bool = False,
    ) -> "JudgeSettings":
        """Settings of a judge `pointwise` or `pairwise`; a single critique (k = 1) is decoded greedily.

        A pointwise judge is asked for a judgement where its critique has none.
        """
        pairwise = judge == PAIRWISE
        sampling = Sampling(max_tokens, temperature if k > 1 else 0.0, n=k, judgement="none" if pairwise else "ask")
        return cls(pairwise, critique_format, sampling, label_mass, calibration, blind)


def build_requests(item: Item, first: int, settings: JudgeSettings, image: str | None) -> list[Request]:
    """Requests for an item in one order: one per answer, or one for both answers of a pairwise judge.

    Args:
        item: the item to judge.
        first: index of the answer that comes first.
        settings: how the judge is prompted.
        image: URI of the image, None for a question without one; a blind judge does not get it.
    """
    question, order = clean_text(item.question), (first, 1 - first)
    answers = [clean_text(item.answers[index]) for index in order]
    image = None if settings.blind else image
    if settings.pairwise:
        text = COMPARISON.format(question=question, one=answers[0], two=answers[1])
        return [Request(text, image, seed=seed_of("bench", item.key, first))]
    return [
        Request(settings.critique_format.prompt(question, answer), image, seed=seed_of("bench", item.key, index))
        for answer, index in zip(answers, order, strict=True)
    ]


def decide(item: Item, first: int, settings: JudgeSettings, outputs: Sequence[JudgeOutput]) -> Judgement:
    """The judgement of an item from the judge's outputs, which are in the order of `build_requests`."""
    for group in outputs:
        if group[0].refused:
            return Judgement(item.key, first, Status.QUARANTINED, reason=group[0].refused)
    texts = tuple(completion.text for group in outputs for completion in group)
    rewards = _vote_shares(texts) if settings.pairwise else _mean_rewards(outputs, settings)
    if rewards is None:
        return Judgement(item.key, first, Status.UNPARSED, texts=texts)
    ordered = rewards if first == 0 else (rewards[1], rewards[0])
    if ordered[0] == ordered[1]:
        return Judgement(item.key, first, Status.TIE, None, ordered, texts=texts)
    return Judgement(item.key, first, Status.DECIDED, int(ordered[1] > ordered[0]), ordered, texts=texts)


def _mean_rewards(groups: Sequence[Sequence[Completion]], settings: JudgeSettings) -> tuple[float, float] | None:
    """Mean reward of each answer over its readable critiques; None if an answer has no readable critique."""
    means = []
    for group in groups:
        usable, _ = usable_critiques([scored_critique(completion) for completion in group], settings.label_mass)
        if not usable:
            return None
        means.append(mean_reward(usable, settings.calibration))
    return means[0], means[1]


def _vote_shares(texts: Sequence[str]) -> tuple[float, float] | None:
    """Share of the votes for the answer shown first and for the other one; None without a readable vote."""
    votes = [_vote(text.replace("*", "")) for text in texts]
    first, second = votes.count("1"), votes.count("2")
    return (first / (first + second), second / (first + second)) if first + second else None


def _vote(text: str) -> str:
    """Number of the answer that a comparison prefers: by the official pattern, else by `_OTHER_VERDICT`; or ""."""
    if match := VERDICT.search(text.replace("\n", "")):
        return match[1]
    numbers = _OTHER_VERDICT.findall(text)
    return str(numbers[-1]) if numbers else ""
