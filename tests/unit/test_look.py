"""A look at an image: boxes become objects with colours, and the image's own qualities are measured."""

import random

import cv2
import numpy as np
import pytest

from vlrm_ray.experts.detection import detect_objects, merged, quality_of
from vlrm_ray.experts.evidence import color_of, describe_evidence
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, SHIFTS, view
from vlrm_ray.scenes.world import OPEN
from vlrm_ray.types import Detection

CIRCLE = Detection("circle", (10, 10, 40, 40), 0.9)


def canvas(*patches: tuple[tuple[int, int, int, int], tuple[int, int, int]]) -> np.ndarray:
    picture = np.full((128, 128, 3), 230, np.uint8)
    for (x0, y0, x1, y1), color in patches:
        picture[y0:y1, x0:x1] = color
    return picture


def test_boxes_in_one_place_become_one_object_with_a_rival() -> None:
    twin, star, elsewhere = (
        Detection("circle", (11, 11, 41, 41), 0.5), Detection("star", (10, 12, 40, 42), 0.4), Detection("star", (80, 80, 99, 99), 0.7),
    )  # fmt: skip
    assert merged([twin, star, elsewhere, CIRCLE]) == [Detection("circle", CIRCLE.box, 0.9, rival="star"), elsewhere]


def test_a_second_class_far_below_the_first_is_no_rival() -> None:
    assert merged([CIRCLE, Detection("star", CIRCLE.box, 0.2)]) == [CIRCLE]


def test_boxes_below_the_confidence_are_faint_and_are_not_in_the_hint() -> None:
    picture = canvas(((10, 10, 40, 40), (214, 39, 40)))
    (seen,) = detect_objects([picture], lambda images: [[CIRCLE, Detection("star", (80, 80, 99, 99), 0.3)]], 0.35)
    assert [(o.name, o.color) for o in seen.objects] == [("circle", "red")]
    assert [o.name for o in seen.faint] == ["star"]


def test_the_hint_is_worded_as_the_tiny_model_learned_it() -> None:
    words = [part.rsplit(" ", 2)[0] for part in describe_evidence(true_evidence(OPEN.sample(14))).split(", ")]
    assert all(len(w.split()) == 2 for w in words)


def test_a_half_covered_object_has_no_certain_color() -> None:
    red = canvas(((10, 10, 40, 40), (214, 39, 40)))
    half = canvas(((10, 10, 40, 40), (214, 39, 40)), ((10, 10, 25, 40), (31, 80, 200)))
    assert color_of(red, CIRCLE.box) == "red"
    assert color_of(half, CIRCLE.box) == ""


@pytest.mark.parametrize("box", [(-5, -5, 3, 3), (200, 200, 210, 210), (5, 5, 5, 5), (50, 50, 10, 10)])
def test_the_color_of_any_box_can_be_asked(box: tuple[float, float, float, float]) -> None:
    assert isinstance(color_of(canvas(), box), str)


def test_a_blurred_image_measures_as_blurred_whatever_its_contrast() -> None:
    sharp = canvas(((30, 30, 60, 60), (40, 40, 200)))
    pale = canvas(((30, 30, 60, 60), (190, 190, 240)))
    for picture in (sharp, pale):
        blurred = cv2.GaussianBlur(picture, (0, 0), 2.0)
        assert quality_of(picture, []).blur < 0.35 < 0.5 < quality_of(blurred, []).blur


def test_what_stands_out_and_is_in_no_box_is_unexplained() -> None:
    picture = canvas(((30, 30, 60, 60), (40, 40, 200)))
    assert quality_of(picture, []).unexplained == pytest.approx(900 / 128**2, rel=0.1)
    assert quality_of(picture, [(30, 30, 60, 60)]).unexplained == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (2000, 1500)])
def test_quality_is_measured_on_images_of_any_size(shape: tuple[int, int]) -> None:
    found = quality_of(np.zeros((*shape, 3), np.uint8), [(0, 0, 1, 1)])
    assert 0 <= found.blur <= 1
    assert 0 <= found.unexplained <= 1


@pytest.mark.parametrize("kind", (IN_DISTRIBUTION, *SHIFTS))
def test_a_seed_gives_one_view_whose_boxes_follow_its_things(kind: str) -> None:
    one, two = view(kind, 5), view(kind, 5)
    assert one.scene == two.scene
    assert np.array_equal(np.asarray(one.picture.image), np.asarray(two.picture.image))
    assert len(one.picture.boxes) == len(one.scene.things)


def test_every_shift_changes_the_picture() -> None:
    plain = np.asarray(paint(view(IN_DISTRIBUTION, 5).scene).image)
    for kind in SHIFTS:
        assert not np.array_equal(np.asarray(view(kind, 5).picture.image), plain), kind


def test_statements_cover_all_claim_types_both_ways() -> None:
    from vlrm_ray.scenes.statements import statements
    from vlrm_ray.types import ClaimType

    said = [s for seed in range(40) for s in statements(view(IN_DISTRIBUTION, seed), random.Random(seed))]
    assert {(s.type, s.true) for s in said} == {(kind, true) for kind in ClaimType for true in (True, False)}
