"""The figures of a detector's classes, compared with a slow reference that follows their definitions word by word."""

import random
from collections.abc import Iterable

import numpy as np
import pytest

from vlrm_ray.experts import measurement
from vlrm_ray.experts.calibration import ClassCalibration
from vlrm_ray.experts.claim_tables import DetectorClaims
from vlrm_ray.experts.geometry import iou
from vlrm_ray.experts.measurement import measure_detector
from vlrm_ray.experts.score_calibration import Proportion
from vlrm_ray.experts.strengths import Strengths
from vlrm_ray.types import Detection, Evidence, Noun

CLASSES = ("cat", "dog", "car", "bus", "cup")
CONFIDENCE = 0.35


def random_images(seed: int, images: int = 40) -> tuple[list[Evidence], list[Evidence]]:
    """Detections and truth: missed, shifted, doubled and confused boxes, faint ones, and images without objects."""
    rng, detected, truth = random.Random(seed), [], []
    for _ in range(images):
        objects, boxes = [], []
        for _ in range(rng.randrange(7)):
            x, y, side = rng.uniform(0, 200), rng.uniform(0, 150), rng.choice((20.0, 60.0, 120.0))
            name = rng.choice(CLASSES)
            objects.append(Detection(name, (x, y, x + side, y + side), 1.0, rng.choice(("red", "blue", ""))))
            for _ in range(rng.choice((0, 1, 1, 1, 2))):
                dx, dy, seen = rng.gauss(0, side / 8), rng.gauss(0, side / 8), rng.choice((name,) * 6 + CLASSES)
                moved = (x + dx, y + dy, x + dx + side, y + dy + 1.1 * side)
                boxes.append(Detection(seen, moved, rng.random(), rng.choice(("red", "blue"))))
        sure, faint = (tuple(b for b in boxes if (b.score >= CONFIDENCE) is high) for high in (True, False))
        detected.append(Evidence(320, 240, sure, faint=faint))
        truth.append(Evidence(320, 240, tuple(objects)))
    return detected, truth


def reference(name: str, detected: list[Evidence], truth: list[Evidence]) -> ClassCalibration:
    """The figures of one class, from all images again."""

    def shown(box: Detection, true: Evidence) -> Detection | None:
        best = max(true.objects, key=lambda o: iou(o.box, box.box), default=None)
        return best if best and iou(best.box, box.box) >= 0.5 else None

    def is_found(target: Detection, boxes: Iterable[Detection]) -> bool:
        return any(box.name == name and iou(box.box, target.box) >= 0.5 for box in boxes)

    pairs = list(zip(detected, truth, strict=True))
    nothing = Detection("", (0, 0, 0, 0), 0.0)
    all_boxes = [
        (b, shown(b, t) or nothing) for d, t in pairs for b in (*d.objects, *d.faint) if b.name == name
    ]  # fmt: skip
    targets = [(o, d) for d, t in pairs for o in t.objects if o.name == name]
    found = [((o.box[2] - o.box[0]) ** 2, is_found(o, (*d.objects, *d.faint))) for o, d in targets]
    sizes = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e9)}
    boxes = [o.box for d, _ in pairs for o in d.objects if o.name == name]
    sides = [side / 320 for x0, y0, x1, y1 in boxes for side in (x1 - x0, y1 - y0)]
    shapes = [(x1 - x0) / (y1 - y0) for x0, y0, x1, y1 in boxes]

    def ends(values: list[float]) -> tuple[float, float]:
        low, high = np.quantile(values, (0.001, 0.999))
        return round(float(low), 5), round(float(high), 5)

    return ClassCalibration(
        recall=Proportion.of(is_found(o, d.objects) for o, d in targets),
        precision=Proportion.of(target.name == name for box, target in all_boxes if box.score >= CONFIDENCE),
        sides=ends(sides),
        aspect=ends(shapes),
        found=Proportion.of(hit for _, hit in found),
        by_size={
            size: Proportion.of(hit for area, hit in found if low <= area < high) for size, (low, high) in sizes.items()
        },
    )


@pytest.mark.parametrize("seed", range(5))
def test_each_class_has_the_figures_of_its_definition(seed: int) -> None:
    detected, truth = random_images(seed)
    calibration = measure_detector("x", detected, truth, CONFIDENCE)
    assert set(calibration.classes) == set(CLASSES)
    for name, known in calibration.classes.items():
        expected = reference(name, detected, truth)
        for field in ("recall", "precision", "found", "by_size"):
            assert getattr(known, field) == getattr(expected, field), (name, field)
        assert known.sides == pytest.approx(expected.sides, abs=2e-5)
        assert known.aspect == pytest.approx(expected.aspect, abs=2e-5)


def test_the_boxes_of_an_image_are_matched_once_however_many_classes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    detected, truth = random_images(0)
    matched: list[Evidence] = []
    match_boxes = measurement._match_boxes

    def counted(d: Evidence, t: Evidence) -> object:
        matched.append(d)
        return match_boxes(d, t)

    monkeypatch.setattr(measurement, "_match_boxes", counted)
    measure_detector("x", detected, truth, CONFIDENCE)
    assert len(matched) == len(detected)


def test_the_boxes_of_a_noun_are_looked_for_once_however_many_relations_it_is_in() -> None:
    image = Evidence(320, 240, (Detection("cat", (0, 0, 9, 9), 0.9),))
    strengths = Strengths(image, DetectorClaims(0.95, images={"cat": 5}))
    assert strengths.boxes(Noun("cat")) is strengths.boxes(Noun("cat"))
    assert strengths.boxes(Noun("cat")) != strengths.boxes(Noun("cat", ("red",)))
