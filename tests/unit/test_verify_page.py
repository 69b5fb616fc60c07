"""The page of `verify --page`: one image with its evidence, and the claims of a response by verdict."""

import argparse
from pathlib import Path

import pytest

from jobs.evaluations import verify
from tests.unit.benchmark_files import png
from vlrm_ray.errors import UserError
from vlrm_ray.experts.calibration import DetectorCalibration
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.score_calibration import SCORE_BINS, Proportion, ScoreCalibration, score_bin
from vlrm_ray.report.box_confidence import Confidence, confidence_by, unknown
from vlrm_ray.report.images import ImageEmbedder
from vlrm_ray.report.page import render_verdicts
from vlrm_ray.store.rows import Row
from vlrm_ray.types import CheckedClaim, Claim, ClaimType, Detection, Evidence, Finding, Noun, Prompt, Verdict, Word

TEXT = "A dog, a <cat> and a bus."


def checked(noun: str, verdict: Verdict, start: int, objects: tuple[int, ...] = ()) -> CheckedClaim:
    claim = Claim(ClaimType.OBJECT, Noun(noun), span=(start, start + len(noun) + 2))
    return CheckedClaim(claim, Finding(verdict, 0.97 * (verdict is not Verdict.UNVERIFIABLE), objects, reason="crowd"))


def page(tmp_path: Path, confidence: Confidence = unknown) -> str:
    (tmp_path / "a.png").write_bytes(png(size=64))
    evidence = Evidence(64, 64, (Detection("dog", (4, 4, 30, 30), 0.8),), (Word("<b>", (0, 40, 20, 60), 0.9),))
    claims = (
        checked("bus", Verdict.UNVERIFIABLE, 19),
        checked("dog", Verdict.SUPPORTED, 0, (0,)),
        checked("cat", Verdict.CONTRADICTED, 7),
    )
    return render_verdicts(str(tmp_path / "a.png"), "", TEXT, claims, evidence, confidence)


def test_claims_are_listed_by_verdict_and_counted(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "1 supported, 1 contradicted, 1 unverifiable" in text
    places = [text.index(f"{noun} is present") for noun in ("cat", "dog", "bus")]
    assert places == sorted(places)
    assert "Confidence 0.97" in text


def test_a_box_says_how_often_boxes_of_its_score_are_right(tmp_path: Path) -> None:
    """Of 100 boxes with scores from 0.8 to 0.85, 90 were right in the calibration: (90 + 1) / (100 + 2) with one more of each."""
    right = tuple(Proportion(90, 100) if b == score_bin(0.8) else Proportion(0, 0) for b in range(SCORE_BINS))
    scores = ScoreCalibration(right, tuple(Proportion(0, 0) for _ in right))
    nothing = Proportion(0, 0)
    detector = DetectorCalibration("", 1, {}, scores, nothing, (0, 1), (0, 1), 9)
    sure = confidence_by(Calibrations(detector))
    assert sure(Word("a", (0, 0, 1, 1), 0.9)) is None
    text = page(tmp_path, sure)
    assert "score 0.80, right in 89 of 100" in text
    assert "score 0.90</small>" in text
    assert "right in" not in page(tmp_path)


def test_the_image_is_in_the_page_and_everything_of_the_data_is_escaped(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "data:image/" in text
    assert "1 dog" in text
    assert "<b>" not in text
    assert "<cat>" not in text
    assert "script" not in text.replace("runs no script", "")


def test_a_page_is_of_one_image() -> None:
    arguments = argparse.Namespace(image=None, data="x.jsonl", text=None, out="x.parquet", page=Path("x.html"))
    with pytest.raises(UserError, match="--page shows one image"):
        verify.run(arguments)


def test_a_box_whose_label_finds_no_room_has_only_its_number_on_the_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(size=100))
    people = tuple(Detection("person", (10.0, 40.0, 60.0, 90.0), 0.9) for _ in range(12))
    words = (Word("a text that is much longer than the box around it", (0.0, 0.0, 30.0, 8.0), 0.9),)
    row = Row(0, 1, Prompt("p", str(tmp_path / "a.png"), "", "?"), width=100, height=100, objects=people, words=words)
    image = ImageEmbedder(None, 1_000_000).embed_row(row, "x")
    assert image.boxes[0].tag == "1 person"
    assert image.boxes[-1].tag == "13"
    assert image.boxes[-1].label.startswith("“a text that is much longer")
    row.objects = people[:1]
    assert image.font_size < ImageEmbedder(None, 1_000_000).embed_row(row, "y").font_size
