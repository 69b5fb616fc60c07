"""Best-of-n selection: the reward model picks one of the policy's own responses to each prompt.

The metric is the share of false claims in the picked responses, compared with that of a random pick and of a pick by
the reward model without the image. Ground truth decides which claims are false.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.engines import Completion, Request, Sampling, scored_critique
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.ids import seed_of
from vlrm_ray.preferences.critique import CritiqueFormat
from vlrm_ray.scenes.facts import KINDS
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.images import store_image
from vlrm_ray.scenes.language import ROUND_KINDS, any_exchange
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import Verdict

FIRST_SEED = 90_000_000
VOTES = (1, 2, 4, 8)
"""Values of K for which the mean reward of K critiques picks a response."""
Generate = Callable[[list[Request], Sampling], list[list[Completion]]]


@dataclass(frozen=True)
class SampledResponses:
    """A prompt with n responses of the policy.

    Attributes:
        question: the question.
        image: path or URI of the image.
        texts: the responses.
        false: number of claims in each response that ground truth contradicts.
        claims: number of all claims in each response.
    """

    question: str
    image: str
    texts: tuple[str, ...]
    false: tuple[int, ...]
    claims: tuple[int, ...]


def sample_responses(
    prompts: int, n: int, generate: Generate, max_tokens: int, store: Ledger
) -> list[SampledResponses]:
    """Sample `n` responses of the policy to each of `prompts` questions about scenes that no other stage uses.

    Args:
        prompts: number of questions.
        n: responses to each question.
        generate: the policy.
        max_tokens: maximum length of a response.
        store: stores the images.
    """
    scenes = [UNBIASED_WORLD.sample(FIRST_SEED + i) for i in range(prompts)]
    questions = [any_exchange(s, random.Random(f"best-of-{i}"), ROUND_KINDS).question for i, s in enumerate(scenes)]
    images = [store_image(scene, store) for scene in scenes]
    requests = [
        Request(question, image, seed=seed_of("best-of", question, i))
        for i, (question, image) in enumerate(zip(questions, images, strict=True))
    ]
    completions = generate(requests, Sampling(max_tokens, 1.0, n=n, judgement="none"))
    extractor, verifier = RuleExtractor(), Verifier(Calibrations(exhaustive=KINDS))
    sampled = []
    for scene, question, image, answers in zip(scenes, questions, images, completions, strict=True):
        texts = tuple(answer.text for answer in answers)
        verdicts = [
            [verifier.check(c, true_evidence(scene)).finding.verdict for c in extractor.claims(t, question)]
            for t in texts
        ]
        false = tuple(v.count(Verdict.CONTRADICTED) for v in verdicts)
        sampled.append(SampledResponses(question, image, texts, false, tuple(map(len, verdicts))))
    return sampled


def rewards(
    prompts: Sequence[SampledResponses],
    critique_format: CritiqueFormat,
    criticise: Generate,
    k: int,
    max_tokens: int,
    *,
    blind: bool,
) -> list[np.ndarray]:
    """Rewards of each prompt's responses, one for each of `k` sampled critiques.

    The sampling seeds are derived from the prompt's index, so they do not depend on where the images are stored.

    Args:
        prompts: the prompts with their responses.
        critique_format: format of the critiques.
        criticise: the reward model.
        k: critiques of each response.
        max_tokens: maximum length of a critique.
        blind: leave out the image.

    Returns:
        For each prompt a float array of shape (responses, k) with values in [0, 1].
    """
    requests = [
        Request(critique_format.prompt(p.question, text), None if blind else p.image, seed=seed_of("vote", index, text))
        for index, p in enumerate(prompts)
        for text in p.texts
    ]
    answers = iter(criticise(requests, Sampling(max_tokens, 0.8, n=k, judgement="ask")))
    return [np.array([[scored_critique(a).reward for a in next(answers)] for _ in p.texts]) for p in prompts]


def false_claim_share(prompts: Sequence[SampledResponses], picks: Sequence[int]) -> float:
    """False claims as a share of all claims in the picked responses; `picks` has a response's index per prompt."""
    claims = sum(p.claims[pick] for p, pick in zip(prompts, picks, strict=True))
    return sum(p.false[pick] for p, pick in zip(prompts, picks, strict=True)) / max(1, claims)


def random_false_claim_share(prompts: Sequence[SampledResponses]) -> float:
    """Mean number of false claims over the mean number of claims, for uniformly random picks."""
    claims = sum(sum(p.claims) / len(p.claims) for p in prompts)
    return sum(sum(p.false) / len(p.false) for p in prompts) / max(1e-9, claims)


def best_of(
    prompts: Sequence[SampledResponses], sighted: Sequence[np.ndarray], blind: Sequence[np.ndarray]
) -> Mapping[str, object]:
    """Shares of false claims for a random pick, the pick without the image, and the picks by K critiques.

    Args:
        prompts: the prompts with their responses.
        sighted: `rewards` with the image, of shape (responses, max(VOTES)) per prompt.
        blind: `rewards` without the image.
    """
    return {
        "prompts": len(prompts),
        "random": random_false_claim_share(prompts),
        "blind": false_claim_share(prompts, [int(r.mean(1).argmax()) for r in blind]),
        "votes": {str(k): false_claim_share(prompts, [int(r[:, :k].mean(1).argmax()) for r in sighted]) for k in VOTES},
    }
