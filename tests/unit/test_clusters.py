"""Intervals of items in clusters: as many independent items as there are clusters, if all items of a cluster are alike."""

import random

import pytest

from tests.unit.test_evaluators import FALSE, TRUE
from vlrm_ray.engines import Completion, Request
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.benchmarks import compare
from vlrm_ray.evaluation.clusters import balanced_accuracy, clustered_share, ece, repeated
from vlrm_ray.evaluation.gains import Gain, gain_between
from vlrm_ray.evaluation.held_out import ACCURACY, HeldOutPair, HeldOutPairs
from vlrm_ray.evaluation.pairs import stored
from vlrm_ray.preferences.critique import COMPACT
from vlrm_ray.scenes import pope


def copies(values: list[bool], number: int) -> tuple[list[bool], list[int]]:
    """Each value several times, as one cluster."""
    return [v for v in values for _ in range(number)], [c for c in range(len(values)) for _ in range(number)]


def width(metric: metrics.Metric) -> float:
    return metric.high - metric.low


def test_items_that_are_alike_in_each_cluster_say_as_much_as_one_item() -> None:
    values = [i % 4 > 0 for i in range(60)]
    one, many = metrics.share(values), clustered_share(*copies(values, 50))
    assert (many.value, many.n) == (0.75, 3000)
    assert width(many) == pytest.approx(width(one), rel=0.15)
    assert width(metrics.share(copies(values, 50)[0])) < 0.2 * width(many)


def test_clusters_of_one_item_have_the_interval_of_independent_items() -> None:
    values = [i % 4 > 0 for i in range(400)]
    assert clustered_share(*copies(values, 1)) == clustered_share(values, None) == metrics.share(values)
    assert repeated(range(3)) is repeated([]) is None
    assert repeated("abb") == [0, 1, 1]


@pytest.mark.parametrize("clusters", [1, 5, 200])
def test_a_share_of_one_is_as_certain_as_its_number_of_clusters_allows(clusters: int) -> None:
    found, expected = clustered_share(*copies([True] * clusters, 40)), metrics.share([True] * clusters)
    assert (found.low, found.high) == (pytest.approx(expected.low), 1.0)


def test_large_clusters_count_for_the_effective_number_of_items() -> None:
    """A cluster of 90 and ten of one item say as much as 100² / (90² + 10) = 1.23 independent items."""
    found = clustered_share([True] * 100, [0] * 90 + list(range(1, 11)))
    assert metrics.share([True]).low < found.low < metrics.share([True] * 2).low


def test_the_interval_holds_where_clusters_differ() -> None:
    """In 200 draws of 50 clusters that are right with 60 to 100 %, at least 90 % of the intervals include the truth of 80 %."""
    rng, inside, independent = random.Random(0), 0, 0
    for _ in range(200):
        rates = [rng.choice((0.6, 1.0)) for _ in range(50)]
        hits = [rng.random() < rate for rate in rates for _ in range(30)]
        found, plain = clustered_share(hits, [c for c in range(50) for _ in range(30)]), metrics.share(hits)
        inside, independent = inside + (found.low <= 0.8 <= found.high), independent + (plain.low <= 0.8 <= plain.high)
    assert inside >= 180 > 150 > independent


def test_the_calibration_error_draws_clusters_too() -> None:
    rng = random.Random(1)
    confidences = [rng.uniform(0.5, 1) for _ in range(60) for _ in range(20)]
    right = [value for _ in range(60) for value in [rng.random() < 0.7] * 20]
    found = ece(confidences, right, [c for c in range(60) for _ in range(20)])
    independent = ece(confidences, right)
    assert (found.value, found.n) == (pytest.approx(independent.value), 1200)
    assert found.low <= found.value <= found.high
    assert width(found) > 1.5 * width(independent)


def test_no_or_few_clusters_give_no_interval_of_the_calibration_error() -> None:
    assert clustered_share([], []) == ece([], [], []) == metrics.Metric(0.0, 0, 0.0, 1.0)
    few = ece([0.9] * 190, [True] * 190, [i % 19 for i in range(190)])
    assert (few.value, few.low, few.high) == (pytest.approx(0.1), 0.0, 1.0)


def test_balanced_accuracy_by_clusters() -> None:
    """Of each pair the chosen response is judged rightly in three of four images, whatever its number of pairs."""
    rewards = [reward for i in range(60) for reward in [0.9 if i % 4 else 0.1, 0.1] * 5]
    right, images = [True, False] * 300, [i for i in range(60) for _ in range(10)]
    found, independent = balanced_accuracy(rewards, right, images), balanced_accuracy(rewards, right)
    assert (found.value, found.n) == (independent.value, independent.n) == (0.875, 600)
    assert width(found) > 1.8 * width(independent)


# --- two results of the same items ------------------------------------------------------------------


def two_models(rng: random.Random, images: int, each: int) -> tuple[list[bool], list[bool], list[int]]:
    """Outcomes of two equally good models, each of which is good at images of its own; and the image of each item."""
    good = [[rng.choice((0.5, 1.0)) for _ in range(images)] for _ in range(2)]
    a, b = ([rng.random() < rate for rate in rates for _ in range(each)] for rates in good)
    return a, b, [image for image in range(images) for _ in range(each)]


def gain(a: list[bool], b: list[bool], clusters: list[int] | None) -> Gain:
    results = [
        {"metrics": {"m": clustered_share(hits, clusters).as_json()}, **stored("m", hits, clusters)} for hits in (a, b)
    ]
    return gain_between("m", *results)


def test_equal_models_rarely_differ_where_images_have_several_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 60 draws at most one in ten intervals leaves 0 out. Were the items independent, it would be about one in four."""
    monkeypatch.setattr(compare, "_RESAMPLES", 400)
    rng = random.Random(0)
    wrong, independent = {"compare": 0, "p": 0, "gain": 0}, {"compare": 0, "p": 0, "gain": 0}
    for _ in range(60):
        a, b, images = two_models(rng, 60, 6)
        for counts, clusters in ((wrong, images), (independent, None)):
            found = compare.difference(a, b, range(len(a)) if clusters is None else clusters)
            counts["compare"] += not found.low <= 0 <= found.high
            counts["p"] += found.p < 0.05
            change = gain(a, b, clusters)
            counts["gain"] += not change.low <= 0 <= change.high
    assert max(wrong.values()) <= 6
    assert min(independent.values()) >= 9


def test_the_p_value_of_images_by_hand() -> None:
    """Differences of the images 2, 1, 1: of eight choices of signs two are as far from 0 as 4, and none farther."""
    found = compare.difference([False] * 6, [True, True, True, False, True, False], [0, 0, 1, 1, 2, 2])
    assert (found.n, found.clusters, found.p) == (6, 3, pytest.approx(2 / 8))
    assert (found.low, found.high) == (-1.0, 1.0), "three images are too few for an interval"


def test_the_correlation_of_independent_items_is_phi() -> None:
    a, b, _ = two_models(random.Random(3), 100, 1)
    assert metrics.phi(a, b, range(100)) == pytest.approx(metrics.phi(a, b))
    assert metrics.phi(a, a, [i // 2 for i in range(100)]) == pytest.approx(1.0)
    assert metrics.phi([True, False] * 50, b, [i // 2 for i in range(100)]) == 0.0, "each image is half right"


# --- what is measured by clusters -------------------------------------------------------------------


def sees_some(requests: list[Request]) -> list[Completion]:
    """A judge that knows the false response in three of four images."""
    return [
        Completion("Judgement: Yes", *((0.1, 0.8) if FALSE in r.text and int(r.image or 0) % 4 else (0.7, 0.2)))
        for r in requests
    ]


def held_out(images: int, each: int) -> HeldOutPairs:
    pairs = [
        HeldOutPair(f"{i}-{k}", str(i), f"sha256-{i}", f"What is at {k}?", TRUE, FALSE)
        for i in range(images)
        for k in range(each)
    ]
    return HeldOutPairs(pairs, COMPACT)


def test_held_out_pairs_of_one_image_are_not_independent() -> None:
    one, several = (held_out(60, each).evaluate(sees_some) for each in (1, 9))
    for name in (ACCURACY, "held_out_balanced_accuracy", "held_out_ece_uncalibrated"):
        assert several.metrics[name].value == pytest.approx(one.metrics[name].value)
        assert width(several.metrics[name]) == pytest.approx(width(one.metrics[name]), rel=0.25)
    assert one.metrics[ACCURACY] == metrics.share([i % 4 > 0 for i in range(60)])
    assert "clusters" not in one.details
    assert several.details["clusters"] == {ACCURACY: [image for image in range(60) for _ in range(9)]}


def test_questions_about_one_scene_are_not_independent() -> None:
    """Of POPE's scenes every second one is judged rightly, with all of its questions."""
    questions = pope.make_questions(pope.scenes(60))
    known = {q.scene.seed: index % 2 > 0 for index, q in enumerate({q.scene.seed: q for q in questions}.values())}
    found = pope.measure(questions, [q.present is known[q.scene.seed] for q in questions])
    for name in ("pope_random_accuracy", "pope_popular_accuracy"):
        assert found[name].n > 300
        assert width(found[name]) > 0.8 * width(metrics.share(list(known.values())))
