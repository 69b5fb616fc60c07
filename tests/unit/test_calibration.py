"""Calibration: what an expert did on known pictures, and what may be concluded from it."""

from pathlib import Path

import pytest

from vlrm_ray.config import Detector, Experts
from vlrm_ray.errors import UserError
from vlrm_ray.experts.calibration import (
    DetectorCalibration,
    ReaderCalibration,
    ScoreCalibration,
    Share,
    calibration_file,
    load,
    measure_detector,
    measure_reader,
    save,
)  # fmt: skip
from vlrm_ray.experts.reliability import RECALL, AssessedEvidence, Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.types import Claim, ClaimType, Detection, Evidence, Noun, Quality, Verdict, Word

PLACES = [(x, y, x + 20.0, y + 20.0) for x in (5.0, 40.0, 75.0) for y in (5.0, 40.0, 75.0)]


def scene(name: str, score: float = 0.9, **extra: object) -> Evidence:
    return Evidence(100, 100, tuple(Detection(name, box, score, "red") for box in PLACES), **extra)  # type: ignore[arg-type]


TRUE = [scene("circle", 1.0) for _ in range(60)] + [scene("star", 1.0) for _ in range(60)]
BLIND_TO_STARS = [scene("circle") for _ in range(60)] + [Evidence(100, 100) for _ in range(60)]
TRUST = measure_detector("x", BLIND_TO_STARS, TRUE, 0.35)


def verdict(calibration: DetectorCalibration, evidence: Evidence, name: str) -> Verdict:
    claim = Claim(ClaimType.OBJECT, Noun(name))
    return Verifier(Calibrations(calibration)).check(claim, evidence).finding.verdict


def test_recall_and_precision_are_measured_per_class() -> None:
    assert TRUST.classes["circle"].recall == TRUST.classes["circle"].precision == Share(540, 540)
    assert TRUST.classes["star"].recall == Share(0, 540)


def test_absence_is_claimed_only_where_recall_allows() -> None:
    nothing = Evidence(100, 100)
    assert verdict(TRUST, nothing, "circle") is Verdict.CONTRADICTED
    assert verdict(TRUST, nothing, "star") is Verdict.UNVERIFIABLE
    assert verdict(TRUST, nothing, "dog") is Verdict.UNVERIFIABLE


def test_few_pictures_do_not_prove_recall() -> None:
    few = measure_detector("x", BLIND_TO_STARS[:3], TRUE[:3], 0.35)
    assert few.classes["circle"].recall.lower < RECALL
    assert verdict(few, Evidence(100, 100), "circle") is Verdict.UNVERIFIABLE


def test_a_score_that_calibration_never_met_is_not_relied_on_and_could_be_anything() -> None:
    low = Evidence(100, 100, (Detection("circle", PLACES[0], 0.6, "red"),))
    assert TRUST.scores.probability(0.6) == 0.5
    assert verdict(TRUST, low, "circle") is Verdict.UNVERIFIABLE


@pytest.mark.parametrize("box", [(5, 5, 9, 9), (5, 5, 85, 85), (5, 5, 25, 14)])
def test_a_box_of_unknown_size_or_form_is_not_relied_on(box: tuple[float, float, float, float]) -> None:
    odd = Evidence(100, 100, (Detection("circle", box, 0.9, "red"),))
    assert verdict(TRUST, odd, "circle") is Verdict.UNVERIFIABLE


def test_in_an_image_unlike_the_calibration_absence_is_not_claimed_and_what_is_seen_is_supported() -> None:
    blurred = scene("circle", quality=Quality(blur=0.9))
    assert not AssessedEvidence(blurred, Calibrations(TRUST)).in_distribution
    assert verdict(TRUST, blurred, "circle") is Verdict.SUPPORTED
    assert verdict(measure_detector("x", TRUE, TRUE, 0.35), blurred, "star") is Verdict.UNVERIFIABLE


def test_probability_rises_with_the_score() -> None:
    uneven = ScoreCalibration(tuple(Share(hits, 20) for hits in (5, 3, 9, 7, 12, 11, 15, 14, 18, 17) for _ in range(2)))
    curve = [uneven.probability(i / 20) for i in range(20)]
    assert curve == sorted(curve)
    assert ScoreCalibration((Share(),) * 10 + (Share(9, 10),) + (Share(),) * 9).probability(0.99) == 10 / 12


def test_a_reader_is_calibrated_on_words_read_exactly() -> None:
    true = [Evidence(100, 100, words=(Word("STOP", PLACES[0], 1.0),)) for _ in range(20)]
    seen = [Evidence(100, 100, words=(Word("STOP" if i else "STDP", PLACES[0], 0.93),)) for i in range(20)]
    calibration = measure_reader("x", seen, true)
    assert calibration.recall == Share(19, 20)
    assert calibration.scores.probability(0.93) == pytest.approx(20 / 22)


def test_a_calibration_lies_beside_its_model_and_comes_back_as_it_was(tmp_path: Path) -> None:
    model = str(tmp_path / "mine.pt")
    assert load(model, DetectorCalibration) is None
    assert save(model, TRUST) == calibration_file(model) == tmp_path / "mine.calibration.json"
    assert load(model, DetectorCalibration) == TRUST


def test_a_broken_calibration_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.calibration.json").write_text('{"classes": 3}')
    with pytest.raises(UserError, match=r"mine\.calibration\.json is no calibration"):
        load(str(tmp_path / "mine.pt"), DetectorCalibration)


def test_the_shipped_experts_are_calibrated_for_every_class_of_the_scenes() -> None:
    calibrations = Verifier.from_config(Experts()).calibrations
    assert all(calibrations.recall(name) >= RECALL for name in ("circle", "square", "triangle", "star", "sign"))
    assert load("assets:ocr/recognition", ReaderCalibration) == calibrations.words


def test_a_calibration_measured_with_other_settings_is_refused() -> None:
    settings = Experts().model_copy(update={"detector": Detector(image_size=160)})
    with pytest.raises(UserError, match=r"experts\.detector: the calibration .* was measured with another model"):
        Verifier.from_config(settings)
