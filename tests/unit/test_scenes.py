"""The embedded world: same seed, same scene; true sentences hold and false ones do not."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.experts.evidence import describe_evidence
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.scenes import bench
from vlrm_ray.scenes.facts import stated
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.language import HALLUCINATION, KINDS, REASONING, exchange, seen
from vlrm_ray.scenes.render import SIZE, paint
from vlrm_ray.scenes.world import HELD_OUT, OPEN, PREJUDICED, SHAPES, TEST, USUAL_COLOR, described_by_prior
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import Verdict

VERIFIER, EXTRACTOR = Verifier(Calibrations(exhaustive=frozenset({*SHAPES, "sign"}))), RuleExtractor()


def test_a_seed_gives_one_scene_and_one_picture() -> None:
    one, two = (paint(OPEN.sample(7)) for _ in range(2))
    assert np.array_equal(np.asarray(one.image), np.asarray(two.image))
    assert one.image.size == (SIZE, SIZE)


def test_things_are_drawn_where_their_boxes_are() -> None:
    scene = OPEN.sample(3)
    for thing, (x0, y0, x1, y1) in zip(scene.things, paint(scene).boxes, strict=True):
        cell = SIZE / 3
        assert thing.col * cell < (x0 + x1) / 2 < (thing.col + 1) * cell
        assert thing.row * cell < (y0 + y1) / 2 < (thing.row + 1) * cell


def test_the_prejudiced_world_is_prejudiced_and_the_open_one_is_not() -> None:
    def usual(world: object) -> float:
        things = [t for i in range(400) for t in world.sample(i).shapes]  # type: ignore[attr-defined]
        return sum(t.color == USUAL_COLOR[t.shape] for t in things) / len(things)

    assert usual(PREJUDICED) > 0.75
    assert usual(OPEN) < 0.3


def test_held_out_combinations_appear_in_the_test_world_only() -> None:
    def shown(world: object) -> bool:
        return any((t.shape, t.color) in HELD_OUT for i in range(500) for t in world.sample(i).shapes)  # type: ignore[attr-defined]

    assert not shown(OPEN)
    assert not shown(PREJUDICED)
    assert shown(TEST)


@pytest.mark.parametrize("kind", KINDS)
def test_right_statements_hold_and_wrong_ones_do_not(kind: str) -> None:
    """The language, the extractor and the verifier agree about perfect evidence."""
    tried = 0
    for seed in range(60):
        scene = TEST.sample(seed)
        said = exchange(scene, random.Random(seed), kind)
        if said is None:
            continue
        tried += 1
        evidence = true_evidence(scene)
        verdicts = [
            {VERIFIER.check(c, evidence).finding.verdict for c in EXTRACTOR.claims(s.text, said.question)}
            for s in (said.right, said.wrong)
        ]
        assert said.right.true
        assert not said.wrong.true
        assert Verdict.CONTRADICTED not in verdicts[0], (seen(scene), said.right.text)
        assert Verdict.CONTRADICTED in verdicts[1], (seen(scene), said.wrong.text)
    assert tried >= 10


def test_bench_pairs_are_the_same_each_time_and_disjoint_between_splits(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    test, dev = bench.items("test", 20, ledger), bench.items("dev", 20, ledger)
    assert test == bench.items("test", 20, ledger)
    assert {i.image for i in test}.isdisjoint(i.image for i in dev)
    assert {i.kind for i in test if i.group == bench.REASONING_GROUP} == set(REASONING)
    assert all(abs(len(i.chosen) - len(i.rejected)) <= 12 for i in test)


def test_no_answer_of_the_bench_is_right_more_often_than_wrong() -> None:
    """Who only reads the answers can do no better than guess."""
    for group, kinds in ((bench.HALLUCINATION_GROUP, HALLUCINATION), (bench.REASONING_GROUP, REASONING)):
        lead: Counter[tuple[str, str, str]] = Counter()
        for _, said in bench.asked("dev", group, kinds, 400):
            right, wrong = said.slots
            lead[said.kind, right, wrong] += 1
            lead[said.kind, wrong, right] -= 1
        assert max(lead.values()) <= 1


def test_stated_facts_become_evidence_again() -> None:
    scene = next(s for s in map(OPEN.sample, range(100)) if s.sign and len(s.things) >= 3)
    assert describe_evidence(stated(seen(scene))) == seen(scene)
    assert stated("a dog, red circle somewhere").objects == ()


def test_a_careless_captioner_errs_at_the_sides_only() -> None:
    for seed in range(200):
        scene = OPEN.sample(seed)
        described = described_by_prior(scene, random.Random(seed), 1.0)
        for thing, said in zip(scene.things, described.things, strict=True):
            aside = thing.col != 1
            assert (said == thing) or aside
            if aside and thing.shape in SHAPES:
                assert said.color == USUAL_COLOR[thing.shape]
