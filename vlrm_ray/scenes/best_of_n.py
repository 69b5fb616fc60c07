"""What a reward model is for: choosing the best of the policy's own responses."""

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
from vlrm_ray.scenes.language import ROUND_KINDS, any_exchange
from vlrm_ray.scenes.pictures import store_picture
from vlrm_ray.scenes.world import OPEN
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import Verdict

FIRST_SEED = 90_000_000
VOTES = (1, 2, 4, 8)
"""Numbers of critiques whose mean is the reward, for the curve."""
Generate = Callable[[list[Request], Sampling], list[list[Completion]]]


@dataclass(frozen=True)
class SampledResponses:
    """One prompt with its responses; `false` and `claims` count those that ground truth contradicts, and all."""

    question: str
    image: str
    texts: tuple[str, ...]
    false: tuple[int, ...]
    claims: tuple[int, ...]


def options(prompts: int, n: int, respond: Generate, max_tokens: int, store: Ledger) -> list[SampledResponses]:
    """`n` responses of the policy to each of `prompts` questions about scenes that no stage has seen."""
    scenes = [OPEN.sample(FIRST_SEED + i) for i in range(prompts)]
    asked = [any_exchange(s, random.Random(f"best-of-{i}"), ROUND_KINDS).question for i, s in enumerate(scenes)]
    images = [store_picture(scene, store) for scene in scenes]
    requests = [Request(q, image, seed=seed_of("best-of", q, i)) for i, (q, image) in enumerate(zip(asked, images, strict=True))]  # fmt: skip
    extractor, verifier = RuleExtractor(), Verifier(Calibrations(exhaustive=KINDS))
    found = []
    for scene, question, image, answers in zip(scenes, asked, images, respond(requests, Sampling(max_tokens, 1.0, n=n)), strict=True):  # fmt: skip
        texts = tuple(answer.text for answer in answers)
        verdicts = [
            [verifier.check(c, true_evidence(scene)).finding.verdict for c in extractor.claims(t, question)]
            for t in texts
        ]
        false = tuple(v.count(Verdict.CONTRADICTED) for v in verdicts)
        found.append(SampledResponses(question, image, texts, false, tuple(map(len, verdicts))))
    return found


def rewards(
    asked: Sequence[SampledResponses],
    wording: CritiqueFormat,
    criticise: Generate,
    k: int,
    max_tokens: int,
    *,
    blind: bool,
) -> list[np.ndarray]:
    """Rewards (responses, k) of each prompt's responses, one for each of k sampled critiques.

    Seeds follow from the prompt's number, so that another folder's pictures draw the same critiques.
    """
    requests = [
        Request(wording.prompt(o.question, text), None if blind else o.image, seed=seed_of("vote", number, text))
        for number, o in enumerate(asked)
        for text in o.texts
    ]
    answers = iter(criticise(requests, Sampling(max_tokens, 0.8, n=k)))
    return [np.array([[scored_critique(a).reward for a in next(answers)] for _ in o.texts]) for o in asked]


def false_share(asked: Sequence[SampledResponses], picks: Sequence[int]) -> float:
    """Share of contradicted claims among all claims of the picked responses."""
    claims = sum(o.claims[p] for o, p in zip(asked, picks, strict=True))
    return sum(o.false[p] for o, p in zip(asked, picks, strict=True)) / max(1, claims)


def random_share(asked: Sequence[SampledResponses]) -> float:
    """What a random pick gives on average over all picks."""
    claims = sum(sum(o.claims) / len(o.claims) for o in asked)
    return sum(sum(o.false) / len(o.false) for o in asked) / max(1e-9, claims)


def best_of(
    asked: Sequence[SampledResponses], sighted: Sequence[np.ndarray], blind: Sequence[np.ndarray]
) -> Mapping[str, object]:
    """Shares of false claims: of a random pick, the image-blind pick, and the pick by a mean of K critiques."""
    return {
        "prompts": len(asked),
        "random": random_share(asked),
        "blind": false_share(asked, [int(r.mean(1).argmax()) for r in blind]),
        "votes": {str(k): false_share(asked, [int(r[:, :k].mean(1).argmax()) for r in sighted]) for k in VOTES},
    }
