"""What claims about a class are judged by: its own objects, those of all classes, and how many different ones there are."""

from dataclasses import replace
from statistics import NormalDist

import pytest
from scipy.stats import binomtest

from tests.unit.simulated_objects import CLASSES, C, S, U, box, finding, seen, simulated
from vlrm_ray.experts.claim_measurement import LabelledEvidence, measure_object_claims
from vlrm_ray.experts.claim_tables import ClaimTable, DetectorClaims
from vlrm_ray.experts.score_calibration import Proportion, wilson_bound
from vlrm_ray.types import Claim, ClaimType, Detection, Evidence, Noun


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (3, 7), (950, 1000), (0, 500), (500, 500)])
def test_bounds_are_those_of_wilsons_interval(hits: int, n: int) -> None:
    interval = binomtest(hits, n).proportion_ci(0.9, method="wilson")
    assert Proportion(hits, n).lower_bound == pytest.approx(interval.low, abs=1e-12)
    assert wilson_bound(hits, n, NormalDist().inv_cdf(0.95)) == pytest.approx(interval.high, abs=1e-12)
    assert Proportion().lower_bound == 0


def missed_share(table: ClaimTable) -> float:
    return table.true[0] / sum(table.true)


def test_a_class_is_judged_by_its_own_objects_and_with_a_fixed_weight_by_those_of_all_classes() -> None:
    """Of 10 cats, each in several images, the detector finds none; of other classes it misses hardly any object."""
    images = [image for image in simulated(0, 900, 0.004) if "cat" not in image.counts]
    cat = Evidence(240, 180, (Detection("cat", box(0, 0), 1.0),))
    hidden = LabelledEvidence.of(Evidence(240, 180), cat, CLASSES)
    false = LabelledEvidence.of(Evidence(240, 180, (Detection("cat", box(0, 0), 0.2),)), Evidence(240, 180), CLASSES)
    images += [replace(hidden, objects={"cat": frozenset({f"cat {i % 10}"})}) for i in range(70)] + [false]
    shares = {m: measure_object_claims(images, 0.95, m).objects for m in (1, 20, 10_000)}
    together = measure_object_claims(images, 0.95, 20).any_object
    pooled, number = missed_share(together), sum(together.true)
    assert pooled < 0.03 < number
    assert missed_share(shares[1]["cat"]) == pytest.approx((10 + pooled) / 11)
    assert missed_share(shares[20]["cat"]) == pytest.approx((10 + 20 * pooled) / 30)
    assert missed_share(shares[10_000]["cat"]) == pytest.approx((10 + number * pooled) / (10 + number))
    assert missed_share(shares[20]["dog"]) < 0.03
    assert sum(shares[20]["cat"].true) == pytest.approx(30)  # as many objects as there are, and those of the weight


def test_a_faint_box_supports_nothing_just_because_none_of_its_class_was_wrong() -> None:
    """Nothing in the labelled images looks like a cat. Of the other classes most faint boxes are wrong, though some are right."""
    images = simulated(0, 900, 0.0, noise=0.3)
    dog = Evidence(240, 180, (Detection("dog", box(0, 0), 1.0),))
    faint = LabelledEvidence.of(Evidence(240, 180, faint=(Detection("dog", box(0, 0), 0.12),)), dog, CLASSES)
    clean = [
        replace(
            image,
            detected=replace(
                image.detected, faint=tuple(d for d in image.detected.faint if d.name != "cat" or d.score < 0.06)
            ),
        )
        for image in [*images, *[faint] * 60]
        if "cat" not in image.counts
    ]
    claims = measure_object_claims(clean, 0.9, 20)
    assert claims.objects["cat"].true[13] > 0.3  # of the objects of all classes
    assert finding(Claim(ClaimType.OBJECT, Noun("cat")), seen(("cat", 0.12)), claims).verdict is not S
    assert finding(Claim(ClaimType.OBJECT, Noun("cat")), seen(("cat", 0.8)), claims).verdict is S


@pytest.mark.parametrize("without", [10, 19])
def test_false_claims_of_other_classes_do_not_stand_for_own_ones(without: int) -> None:
    """Few images without a cat say little, whatever they say of dogs."""
    cat, empty = Evidence(240, 180, (Detection("cat", box(0, 0), 0.9),)), Evidence(240, 180)
    images = [LabelledEvidence.of(cat, cat, ["cat"])] * 40 + [LabelledEvidence.of(empty, empty, ["cat"])] * without
    dog = Evidence(240, 180, (Detection("dog", box(0, 0), 0.9),))
    dogs = [LabelledEvidence.of(dog, dog, ["dog"])] * 40 + [LabelledEvidence.of(empty, empty, ["dog"])] * 200
    for labelled in (images, [*images, *dogs]):
        assert not measure_object_claims(labelled, 0.95, 20).objects["cat"].measured


def test_numbers_of_the_same_objects_count_once_true_or_false() -> None:
    claims = measure_object_claims(simulated(0, 600, copies=10), 0.95, 20)
    for table in (claims.counts, claims.more, claims.fewer, claims.comparisons):
        assert table.false_repeats == table.repeats > 3  # the same objects are in up to ten images


@pytest.mark.parametrize(("shown", "repeats"), [(600, 1.0), (60, 10.0), (6, 100.0)])
def test_few_things_in_many_images_say_little_about_what_may_be_taken_for_an_object(shown: int, repeats: float) -> None:
    empty = LabelledEvidence.of(Evidence(240, 180), Evidence(240, 180), CLASSES)
    images = [replace(empty, background=f"meadow {i % shown}") for i in range(600)]
    cat = Evidence(240, 180, (Detection("cat", box(0, 0), 0.9),))
    tables = measure_object_claims([*images, LabelledEvidence.of(cat, cat, CLASSES)], 0.95, 20).objects
    assert tables["cat"].false_repeats == pytest.approx(repeats, rel=0.2)


@pytest.mark.parametrize("objects", [60, 61, 67])
def test_a_class_without_objects_of_its_own_is_judged_by_those_of_all_classes(objects: int) -> None:
    """The parts of objects by which it is judged add up to the weight, in spite of rounding."""
    images = [image for image in simulated(0, 900, 0.0) if "cat" not in image.counts][:objects]
    table = measure_object_claims(images, 0.95, 20).objects["cat"]
    assert sum(table.true) == pytest.approx(20) and table.measured


def test_a_class_with_few_objects_is_named_and_has_wrong_boxes_of_its_own() -> None:
    claims = measure_object_claims(simulated(0), 0.95, 400)
    assert claims.pooled == tuple(sorted(CLASSES))
    assert claims.objects["cat"].false != claims.any_object.false
    assert finding(Claim(ClaimType.OBJECT, Noun("cat")), seen(("cat", 0.9)), claims).verdict is S


def test_a_class_that_only_other_kinds_of_images_show_is_never_called_absent() -> None:
    """Cats in composites do not show that the detector finds the cats of photographs."""
    cat, claim = Detection("cat", box(0, 0), 0.9), Claim(ClaimType.OBJECT, Noun("cat"))
    composite = LabelledEvidence.of(Evidence(240, 180, (cat,)), Evidence(240, 180, (cat,)), CLASSES)
    photographs = [image for image in simulated(0, 1500, 0.0) if "cat" not in image.counts]
    others = measure_object_claims([*photographs, *[replace(composite, typical=False)] * 30], 0.95, 20)
    assert (others.images["cat"], finding(claim, seen(("car", 0.9)), others).verdict) == (0, U)
    same = measure_object_claims([*photographs, *[composite] * 30], 0.95, 20)
    assert (same.images["cat"], finding(claim, seen(("car", 0.9)), same).verdict) == (30, C)


def test_one_object_in_many_images_does_not_show_that_its_class_is_always_found() -> None:
    """A cut-out of a cat in composites tells little about other cats."""
    cat, claim = Detection("cat", box(0, 0), 0.9), Claim(ClaimType.OBJECT, Noun("cat"))
    photographs = [image for image in simulated(0, 1500, 0.0) if "cat" not in image.counts]
    composite = LabelledEvidence.of(Evidence(240, 180, (cat,)), Evidence(240, 180, (cat,)), CLASSES)

    def measured(cutouts: int) -> DetectorClaims:
        cats = [replace(composite, objects={"cat": frozenset({f"cutout {i % cutouts}"})}) for i in range(50)]
        return measure_object_claims([*photographs, *cats], 0.95, 20)

    one, many = measured(1), measured(50)
    assert (one.images["cat"], one.seen["cat"], many.seen["cat"]) == (50, 1, 50)
    assert finding(claim, seen(("car", 0.9)), one).verdict is U
    assert finding(claim, seen(("car", 0.9)), many).verdict is C
