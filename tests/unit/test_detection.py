"""Detection: boxes are merged into objects with colors, and the quality of the image is measured."""

import random

import cv2
import numpy as np
import pytest

from vlrm_ray.experts.detection import detect_objects, measure_quality, merge_overlapping
from vlrm_ray.experts.evidence import box_color, describe_evidence
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, SHIFTS, labelled_image
from vlrm_ray.scenes.world import UNBIASED_WORLD
from vlrm_ray.types import Detection

CIRCLE = Detection("circle", (10, 10, 40, 40), 0.9)


def canvas(*patches: tuple[tuple[int, int, int, int], tuple[int, int, int]]) -> np.ndarray:
    image = np.full((128, 128, 3), 230, np.uint8)
    for (x0, y0, x1, y1), color in patches:
        image[y0:y1, x0:x1] = color
    return image


def test_overlapping_boxes_become_one_object_with_a_rival() -> None:
    twin, star, elsewhere = (
        Detection("circle", (11, 11, 41, 41), 0.5), Detection("star", (10, 12, 40, 42), 0.4), Detection("star", (80, 80, 99, 99), 0.7),
    )  # fmt: skip
    assert merge_overlapping([twin, star, elsewhere, CIRCLE]) == [
        Detection("circle", CIRCLE.box, 0.9, rival="star"),
        elsewhere,
    ]


def test_a_second_class_with_a_much_lower_score_is_no_rival() -> None:
    assert merge_overlapping([CIRCLE, Detection("star", CIRCLE.box, 0.2)]) == [CIRCLE]


def test_boxes_below_the_confidence_are_faint() -> None:
    image = canvas(((10, 10, 40, 40), (214, 39, 40)))
    (detections,) = detect_objects([image], lambda images: [[CIRCLE, Detection("star", (80, 80, 99, 99), 0.3)]], 0.35)
    assert [(o.name, o.color) for o in detections.objects] == [("circle", "red")]
    assert [o.name for o in detections.faint] == ["star"]


def test_evidence_is_described_in_the_format_that_the_tiny_model_was_trained_on() -> None:
    words = [part.rsplit(" ", 2)[0] for part in describe_evidence(true_evidence(UNBIASED_WORLD.sample(14))).split(", ")]
    assert all(len(w.split()) == 2 for w in words)


def test_a_half_covered_object_has_no_color() -> None:
    red = canvas(((10, 10, 40, 40), (214, 39, 40)))
    half = canvas(((10, 10, 40, 40), (214, 39, 40)), ((10, 10, 25, 40), (31, 80, 200)))
    assert box_color(red, CIRCLE.box) == "red"
    assert box_color(half, CIRCLE.box) == ""


@pytest.mark.parametrize("box", [(-5, -5, 3, 3), (200, 200, 210, 210), (5, 5, 5, 5), (50, 50, 10, 10)])
def test_boxes_outside_the_image_and_empty_boxes_are_accepted(box: tuple[float, float, float, float]) -> None:
    assert isinstance(box_color(canvas(), box), str)


@pytest.mark.parametrize(("name", "color"), [("circle", "red"), ("person", ""), ("man", ""), ("child", "")])
def test_people_have_no_color(name: str, color: str) -> None:
    """It would be that of their clothes; a "black person" is something else, and nothing that a detector knows."""
    box = Detection(name, (10, 10, 110, 110), 0.9)
    ((found,),) = [d.objects for d in detect_objects([canvas((box.box, (214, 39, 40)))], lambda images: [[box]], 0.5)]
    assert (found.color, bool(found.shades)) == (color, bool(color))


def test_blur_is_measured_independently_of_contrast() -> None:
    sharp = canvas(((30, 30, 60, 60), (40, 40, 200)))
    pale = canvas(((30, 30, 60, 60), (190, 190, 240)))
    for image in (sharp, pale):
        blurred = cv2.GaussianBlur(image, (0, 0), 2.0)
        assert measure_quality(image, []).blur < 0.35 < 0.5 < measure_quality(blurred, []).blur


def test_structure_outside_all_boxes_is_unexplained() -> None:
    image = canvas(((30, 30, 60, 60), (40, 40, 200)))
    assert measure_quality(image, []).unexplained == pytest.approx(900 / 128**2, rel=0.1)
    assert measure_quality(image, [(30, 30, 60, 60)]).unexplained == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (2000, 1500)])
def test_quality_of_images_of_any_size(shape: tuple[int, int]) -> None:
    quality = measure_quality(np.zeros((*shape, 3), np.uint8), [(0, 0, 1, 1)])
    assert 0 <= quality.blur <= 1
    assert 0 <= quality.unexplained <= 1


@pytest.mark.parametrize("kind", (IN_DISTRIBUTION, *SHIFTS))
def test_a_seed_gives_the_same_image_with_one_box_per_object(kind: str) -> None:
    first, second = labelled_image(kind, 5), labelled_image(kind, 5)
    assert first.scene == second.scene
    assert np.array_equal(np.asarray(first.rendered.image), np.asarray(second.rendered.image))
    assert len(first.rendered.boxes) == len(first.scene.objects)


def test_every_shift_changes_the_image() -> None:
    plain = np.asarray(paint(labelled_image(IN_DISTRIBUTION, 5).scene).image)
    for kind in SHIFTS:
        assert not np.array_equal(np.asarray(labelled_image(kind, 5).rendered.image), plain), kind


def test_statements_cover_all_claim_types_true_and_false() -> None:
    from vlrm_ray.scenes.statements import statements
    from vlrm_ray.types import CHECKED_TYPES

    drawn = [s for seed in range(40) for s in statements(labelled_image(IN_DISTRIBUTION, seed), random.Random(seed))]
    assert {(s.type, s.true) for s in drawn} == {(kind, true) for kind in CHECKED_TYPES for true in (True, False)}
