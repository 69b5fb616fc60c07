"""The embedded world is deterministic, its true statements are true and its false ones are false."""

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
from vlrm_ray.scenes.facts import parse_description
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.language import HALLUCINATION, KINDS, REASONING, describe_scene, make_exchange
from vlrm_ray.scenes.render import SIZE, paint
from vlrm_ray.scenes.world import (
    BIASED_WORLD,
    COUNTED_WORLD,
    HELD_OUT,
    PRIOR_COLOR,
    SHAPES,
    TEST_WORLD,
    UNBIASED_WORLD,
    World,
    described_by_prior,
)
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import Verdict

VERIFIER, EXTRACTOR = Verifier(Calibrations(exhaustive=frozenset({*SHAPES, "sign"}))), RuleExtractor()


def test_a_seed_gives_one_scene_and_one_image() -> None:
    first, second = (paint(UNBIASED_WORLD.sample(7)) for _ in range(2))
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image))
    assert first.image.size == (SIZE, SIZE)


def test_boxes_lie_in_the_cells_of_their_objects() -> None:
    scene = UNBIASED_WORLD.sample(3)
    for obj, (x0, y0, x1, y1) in zip(scene.objects, paint(scene).boxes, strict=True):
        cell = SIZE / 3
        assert obj.col * cell < (x0 + x1) / 2 < (obj.col + 1) * cell
        assert obj.row * cell < (y0 + y1) / 2 < (obj.row + 1) * cell


def test_only_the_biased_world_favours_the_colors_of_the_prior() -> None:
    def prior_share(world: World) -> float:
        shapes = [s for i in range(400) for s in world.sample(i).shapes]
        return sum(s.color == PRIOR_COLOR[s.shape] for s in shapes) / len(shapes)

    assert prior_share(BIASED_WORLD) > 0.75
    assert prior_share(UNBIASED_WORLD) < 0.3


def test_held_out_combinations_appear_in_the_test_world_only() -> None:
    def has_held_out(world: World) -> bool:
        return any((s.shape, s.color) in HELD_OUT for i in range(500) for s in world.sample(i).shapes)

    assert not has_held_out(UNBIASED_WORLD)
    assert not has_held_out(BIASED_WORLD)
    assert has_held_out(TEST_WORLD)


def test_the_world_to_count_in_has_more_shapes_of_one_kind() -> None:
    def with_several_alike(world: World) -> int:
        scenes = [world.sample(seed) for seed in range(400)]
        return sum(max(scene.count(shape) for shape in SHAPES) > 1 for scene in scenes)

    assert with_several_alike(COUNTED_WORLD) > 1.3 * with_several_alike(UNBIASED_WORLD)


@pytest.mark.parametrize("kind", KINDS)
def test_right_statements_are_true_and_wrong_ones_false(kind: str) -> None:
    """The language, the extractor and the verifier agree, given error-free evidence."""
    tested = 0
    for seed in range(60):
        scene = TEST_WORLD.sample(seed)
        exchange = make_exchange(scene, random.Random(seed), kind)
        if exchange is None:
            continue
        tested += 1
        evidence = true_evidence(scene)
        verdicts = [
            {VERIFIER.check(c, evidence).finding.verdict for c in EXTRACTOR.claims(s.text, exchange.question)}
            for s in (exchange.right, exchange.wrong)
        ]
        assert exchange.right.true
        assert not exchange.wrong.true
        assert Verdict.CONTRADICTED not in verdicts[0], (describe_scene(scene), exchange.right.text)
        assert Verdict.CONTRADICTED in verdicts[1], (describe_scene(scene), exchange.wrong.text)
    assert tested >= 10


def test_bench_pairs_are_the_same_each_time_and_disjoint_between_splits(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    test, dev = bench.items("test", 20, ledger), bench.items("dev", 20, ledger)
    assert test == bench.items("test", 20, ledger)
    assert {i.image for i in test}.isdisjoint(i.image for i in dev)
    assert {i.kind for i in test if i.group == bench.REASONING_GROUP} == set(REASONING)
    assert all(abs(len(i.chosen) - len(i.rejected)) <= 12 for i in test)


def test_no_answer_of_the_bench_is_right_more_often_than_wrong() -> None:
    """A text-only model cannot do better than chance."""
    for group, kinds in ((bench.HALLUCINATION_GROUP, HALLUCINATION), (bench.REASONING_GROUP, REASONING)):
        lead: Counter[tuple[str, str, str]] = Counter()
        for _, exchange in bench.exchanges("dev", group, kinds, 400):
            right, wrong = exchange.slots
            lead[exchange.kind, right, wrong] += 1
            lead[exchange.kind, wrong, right] -= 1
        assert max(lead.values()) <= 1


def test_a_description_can_be_parsed_back() -> None:
    scene = next(s for s in map(UNBIASED_WORLD.sample, range(100)) if s.sign and len(s.objects) >= 3)
    assert describe_evidence(parse_description(describe_scene(scene))) == describe_scene(scene)
    assert parse_description("a dog, red circle somewhere").objects == ()


def test_the_biased_captioner_errs_outside_the_middle_column_only() -> None:
    for seed in range(200):
        scene = UNBIASED_WORLD.sample(seed)
        described = described_by_prior(scene, random.Random(seed), 1.0)
        for original, biased in zip(scene.objects, described.objects, strict=True):
            aside = original.col != 1
            assert (biased == original) or aside
            if aside and original.shape in SHAPES:
                assert biased.color == PRIOR_COLOR[original.shape]
