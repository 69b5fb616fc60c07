"""Claim extractors against the claims that generated statements are known to make."""

import random

from vlrm_ray.claims import Extractor
from vlrm_ray.claims.gold import Score, Sentence, key, measure
from vlrm_ray.scenes.language import ROUND_KINDS, any_exchange
from vlrm_ray.scenes.world import TEST


def statements(scenes: int, seed: int) -> list[Sentence]:
    """A true or a false statement about each of `scenes` fresh scenes, of all kinds, with its claims."""
    said = []
    for index in range(scenes):
        rng = random.Random(f"claims-{seed}-{index}")
        exchange = any_exchange(TEST.sample(rng.getrandbits(48)), rng, ROUND_KINDS)
        statement = exchange.right if rng.random() < 0.5 else exchange.wrong
        said.append(Sentence(statement.text, exchange.question, frozenset(map(key, statement.claims))))
    return said


def extractor_score(extractor: Extractor, scenes: int, seed: int) -> Score:
    """Exact matches of an extractor, by claim type."""
    return measure(extractor, statements(scenes, seed))


def extractor_f1(extractor: Extractor, scenes: int, seed: int) -> float:
    """Micro exact-match F1 of an extractor on statements about `scenes` fresh scenes."""
    return extractor_score(extractor, scenes, seed).f1()
