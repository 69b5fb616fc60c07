"""Intervals of items in clusters: as many independent items as there are clusters, if all items of a cluster are alike."""

import random

import pytest

from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.clusters import clustered_share, ece


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
    found, independent = clustered_share(*copies(values, 1)), metrics.share(values)
    assert found.low <= independent.low and found.high >= independent.high
    assert width(found) == pytest.approx(width(independent), rel=0.1)


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
