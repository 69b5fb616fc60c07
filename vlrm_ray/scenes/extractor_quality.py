"""Measures claim extractors on generated statements about scenes, whose claims are known."""

import random

from vlrm_ray.claims import Extractor
from vlrm_ray.claims.gold import AnnotatedResponse, Score, claim_key, measure
from vlrm_ray.scenes.language import ROUND_KINDS, any_exchange
from vlrm_ray.scenes.world import TEST_WORLD


def statements(scenes: int, seed: int) -> list[AnnotatedResponse]:
    """One statement per scene, true or false at random, with its question and claims; the same seed gives the same ones."""
    annotated = []
    for index in range(scenes):
        rng = random.Random(f"claims-{seed}-{index}")
        exchange = any_exchange(TEST_WORLD.sample(rng.getrandbits(48)), rng, ROUND_KINDS)
        statement = exchange.right if rng.random() < 0.5 else exchange.wrong
        claims = frozenset(map(claim_key, statement.claims))
        annotated.append(AnnotatedResponse(statement.text, exchange.question, claims))
    return annotated


def extractor_score(extractor: Extractor, scenes: int, seed: int) -> Score:
    """Exact matches of an extractor on statements about `scenes` scenes."""
    return measure(extractor, statements(scenes, seed))


def extractor_f1(extractor: Extractor, scenes: int, seed: int) -> float:
    """Micro-averaged F1 of an extractor on statements about `scenes` scenes."""
    return extractor_score(extractor, scenes, seed).f1()
