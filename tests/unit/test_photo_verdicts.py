"""Figures of verdicts on photographs, computed by hand, and the cross-validation that calibrates for them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluations import experts_photos
from jobs.evaluations.experts_photos import Content
from jobs.evaluations.photo_set import PhotoSet, PhotoStatement, _labelled, cutouts_of
from jobs.evaluations.photo_verdicts import PhotoOutcome, figures, outcome_of, report_of
from vlrm_ray.config import load
from vlrm_ray.evaluation.metrics import share
from vlrm_ray.experts.claim_measurement import LabelledEvidence
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.types import CheckedClaim, Claim, ClaimType, Detection, Evidence, Finding, Noun, Verdict

SUPPORTED, CONTRADICTED, OPEN = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNVERIFIABLE
STATEMENT = PhotoStatement("a.jpg", "natural", ClaimType.COUNT, "There are two dogs.", true=True)


def claim(kind: ClaimType, verdict: Verdict, confidence: float = 0.9, reason: str = "") -> CheckedClaim:
    return CheckedClaim(Claim(kind, Noun("dog")), Finding(verdict, confidence, reason=reason))


def outcome(verdict: Verdict, *, true: bool, confidence: float = 0.9, **changes: Any) -> PhotoOutcome:
    return PhotoOutcome(replace(STATEMENT, true=true, **changes), verdict, confidence)


def test_one_contradicted_claim_of_any_type_contradicts_a_statement() -> None:
    found = outcome_of(
        STATEMENT,
        [
            claim(ClaimType.COUNT, SUPPORTED),
            claim(ClaimType.OBJECT, CONTRADICTED, 0.8),
            claim(ClaimType.OBJECT, CONTRADICTED, 0.7),
        ],
    )
    assert (found.verdict, found.confidence, found.right) == (CONTRADICTED, 0.8, False)


def test_a_statement_is_supported_only_by_claims_of_its_own_type() -> None:
    """That there are dogs does not show that there are two."""
    assert outcome_of(STATEMENT, [claim(ClaimType.OBJECT, SUPPORTED)]).reason == "no_claim"
    both = [claim(ClaimType.COUNT, SUPPORTED, 0.95), claim(ClaimType.COUNT, SUPPORTED, 0.85)]
    assert (outcome_of(STATEMENT, both).verdict, outcome_of(STATEMENT, both).confidence) == (SUPPORTED, 0.85)
    half = outcome_of(STATEMENT, [both[0], claim(ClaimType.COUNT, OPEN, 0.0, "faint_boxes")])
    assert (half.decided, half.reason) == (False, "faint_boxes")


def test_precision_counts_decided_statements_and_the_decided_share_all() -> None:
    outcomes = [
        *[outcome(SUPPORTED, true=True)] * 3,
        outcome(SUPPORTED, true=False),
        outcome(CONTRADICTED, true=False),
        *[outcome(OPEN, true=True, confidence=0.0)] * 5,
    ]
    found = figures(outcomes)
    assert (found["supported"]["value"], found["supported"]["n"]) == (0.75, 4)
    assert (found["contradicted"]["value"], found["contradicted"]["n"]) == (1.0, 1)
    assert (found["decided"]["value"], found["decided"]["n"], found["n"]) == (0.5, 10, 10)
    assert found["ece"]["value"] == pytest.approx(0.1)  # 0.9 is stated, 4 of 5 are right


COMPOSITE = {
    "objects": [
        {"name": "dog", "box": [0, 0, 50, 50], "noun": "husky", "cutout": "dog-3"},
        {"name": "person", "box": [0, 0, 90, 90], "noun": "firefighter", "cutout": "fire-1"},
        {"name": "dog", "box": [0, 0, 60, 60], "noun": "husky", "cutout": "dog-3"},
    ],
    "others": [{"name": "other", "box": [0, 0, 20, 20], "noun": "lemon", "cutout": "lemon-1"}],
}


@pytest.mark.parametrize(("subject", "cutout"), [
    ("dog", "dog-3"), ("husky", "dog-3"), ("animal", "dog-3"), ("puppy", "dog-3"), ("lemon", "lemon-1"), ("man", "fire-1"),
    ("cat", "fire-1"), ("sign", "fire-1"),
])  # fmt: skip
def test_a_statement_belongs_to_the_cut_out_that_it_names_or_to_the_largest(subject: str, cutout: str) -> None:
    statement = replace(STATEMENT, kind="composite", cutouts=cutouts_of(COMPOSITE))
    said = CheckedClaim(Claim(ClaimType.OBJECT, Noun(subject)), Finding(OPEN))
    assert [name for name, _ in statement.cutouts] == ["fire-1", "dog-3", "lemon-1"]
    assert outcome_of(statement, [said]).cluster == cutout
    assert outcome_of(STATEMENT, [said]).cluster == "a.jpg"  # in a natural photograph there are no cut-outs


def test_the_statements_of_a_set_know_the_cut_outs_in_their_images(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test/truth.jsonl").write_text(json.dumps({"image": "c.jpg", **COMPOSITE}))
    row = {"image": "c.jpg", "split": "test", "kind": "composite", "type": "object", "text": "A dog.", "true": True}
    (tmp_path / "statements.jsonl").write_text(json.dumps(row))
    (statement,) = PhotoSet(tmp_path, tmp_path, load(None)).statements("test")
    assert statement.cutouts == cutouts_of(COMPOSITE)


def test_many_statements_about_one_cut_out_are_no_more_certain_than_one() -> None:
    """100 right verdicts about five cut-outs in 100 images: the interval is that of five."""
    outcomes = [
        replace(outcome(SUPPORTED, true=True, image=f"{number}.jpg", kind="composite"), cutout=f"cut-{number % 5}")
        for number in range(100)
    ]
    found = figures(outcomes)
    assert (found["n"], found["clusters"]) == (100, 5)
    assert found["supported"]["ci95"] == share([True] * 5).as_json()["ci95"]
    natural = figures([replace(o, cutout="") for o in outcomes])
    assert natural["supported"]["ci95"] == share([True] * 100).as_json()["ci95"]


def test_hedged_statements_count_by_themselves_and_are_wrong_if_decided() -> None:
    report = report_of([outcome(SUPPORTED, true=True), outcome(SUPPORTED, true=True, hedged=True)])
    assert report["parts"]["all"]["n"] == 1
    assert report["hedged"] == {"n": 1, "decided": 1}
    assert [wrong["text"] for wrong in report["wrong"]] == ["There are two dogs."]


def test_kinds_of_images_and_types_of_statements_are_reported_apart() -> None:
    report = report_of([outcome(SUPPORTED, true=True), outcome(OPEN, true=True, kind="composite", type=ClaimType.TEXT)])
    assert [report["parts"][kind]["n"] for kind in ("all", "natural", "composite")] == [2, 1, 1]
    assert report["types"]["count"]["natural"]["n"] == report["types"]["text"]["composite"]["n"] == 1
    assert report["open_because"]["text"] == {"": 1}


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> list[list[LabelledEvidence]]:
    """The images of each calibration that cross-validation asks for."""
    asked: list[list[LabelledEvidence]] = []

    def calibrate(rest: list[LabelledEvidence], confidence: float) -> Calibrations:
        asked.append(rest)
        return Calibrations()

    monkeypatch.setattr(experts_photos, "calibrate", calibrate)
    return asked


def numbered(images: int) -> dict[str, LabelledEvidence]:
    """Images that their widths tell apart."""
    return {
        f"{number}.jpg": LabelledEvidence(evidence, evidence, {}, frozenset())
        for number in range(images)
        for evidence in [Evidence(10 + number, 10)]
    }


def test_no_image_takes_part_in_its_own_calibration(calibrated: list[list[LabelledEvidence]]) -> None:
    """Each image is held out once, with its kind; the images of the other kind calibrate as untypical ones."""
    images = numbered(20)
    kinds = {name: "natural" if number % 2 else "composite" for number, name in enumerate(images)}
    parts = list(experts_photos.cross_validation(images, kinds, "natural", 0.25, {}))
    held_out = [name for part in parts for name in part.evidence]
    assert sorted(held_out) == sorted(name for name, kind in kinds.items() if kind == "natural")
    for rest, part in zip(calibrated, parts, strict=True):
        assert not {image.detected.width for image in rest} & {evidence.width for evidence in part.evidence.values()}
        assert {image.typical for image in rest} == {True, False}


def test_composites_are_judged_without_their_cutouts_and_backgrounds(calibrated: list[list[LabelledEvidence]]) -> None:
    """Each statement about a cut-out is judged once, by a calibration that has seen neither it nor what is behind it."""
    images = numbered(60)
    content = {
        name: Content(frozenset({f"cutout {number % 13}"} if number % 10 else {""}), f"meadow {number % 6}")
        for number, name in enumerate(images)
    }
    parts = list(
        experts_photos.cross_validation(images, dict.fromkeys(images, "composite"), "composite", 0.25, content)
    )
    by_width = {image.detected.width: content[name] for name, image in images.items()}
    judged = []
    for rest, part in zip(calibrated, parts, strict=True):
        assert part.cutouts is not None
        behind = {content[name].background for name in part.evidence}
        for image in rest:
            shown = by_width[image.detected.width]
            assert part.cutouts.isdisjoint(shown.cutouts) and shown.background not in behind
        judged += [name for name in part.evidence if not part.cutouts.isdisjoint(content[name].cutouts)]
    assert sorted(judged) == sorted(images)


def test_the_truth_of_an_image_names_colors_and_numbers_only_where_they_are_known() -> None:
    row = {
        "image": "a.jpg", "width": 100, "height": 80, "texts": [], "absent_known": ["cat"], "uncounted": ["person"],
        "objects": [
            {"name": "dog", "box": [1, 2, 30, 40], "color": "brown", "cutout": "dog-3"},
            {"name": "dog", "box": None, "color": None, "cutout": ""},
            {"name": "ball", "box": [5, 5, 9, 9], "color": "red", "cutout": "ball-1"},
            {"name": "person", "box": None, "color": None, "cutout": ""},
        ],
    }  # fmt: skip
    found = _labelled(row, Evidence(100, 80))
    assert found.counts == {"dog": 2, "ball": 1, "person": 0}
    assert found.colors == {"ball": {"red"}}
    assert found.truth.objects == (Detection("dog", (1, 2, 30, 40), 1.0), Detection("ball", (5, 5, 9, 9), 1.0))
    assert found.absent == {"cat"}
    assert found.objects == {"dog": {"dog-3", "a.jpg dog"}, "ball": {"ball-1"}, "person": {"a.jpg person"}}
