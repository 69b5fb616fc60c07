"""Calibration: measuring an expert on images with ground truth, and what the verifier concludes from it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vlrm_ray.config import Detector, Experts
from vlrm_ray.errors import UserError
from vlrm_ray.experts.calibration import (
    DetectorCalibration,
    ReaderCalibration,
    calibration_file,
    load_calibration,
    save_calibration,
)  # fmt: skip
from vlrm_ray.experts.claim_measurement import LabelledEvidence
from vlrm_ray.experts.claim_tables import ClaimTable, DetectorClaims, ReaderClaims
from vlrm_ray.experts.measurement import calibrate_detector, calibrate_reader, measure_detector, measure_reader
from vlrm_ray.experts.reliability import MIN_RECALL, TOO_LARGE, TOO_SMALL, TOO_THIN, AssessedEvidence, Calibrations
from vlrm_ray.experts.score_calibration import Proportion, ScoreCalibration
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.graph import _portable
from vlrm_ray.types import Claim, ClaimType, Detection, Evidence, Noun, Quality, Verdict, Word

PLACES = [(x, y, x + 20.0, y + 20.0) for x in (5.0, 40.0, 75.0) for y in (5.0, 40.0, 75.0)]


def scene(name: str, score: float = 0.9, **extra: object) -> Evidence:
    return Evidence(100, 100, tuple(Detection(name, box, score, "red") for box in PLACES), **extra)  # type: ignore[arg-type]


TRUTH = [scene("circle", 1.0) for _ in range(60)] + [scene("star", 1.0) for _ in range(60)]
DETECTED = [scene("circle") for _ in range(60)] + [Evidence(100, 100) for _ in range(60)]
CALIBRATION = measure_detector("x", DETECTED, TRUTH, 0.35)


def verdict(calibration: DetectorCalibration, evidence: Evidence, name: str) -> Verdict:
    claim = Claim(ClaimType.OBJECT, Noun(name))
    return Verifier(Calibrations(calibration)).check(claim, evidence).finding.verdict


def test_recall_and_precision_are_measured_per_class() -> None:
    assert CALIBRATION.classes["circle"].recall == CALIBRATION.classes["circle"].precision == Proportion(540, 540)
    assert CALIBRATION.classes["star"].recall == Proportion(0, 540)


def test_absence_is_claimed_only_where_recall_allows() -> None:
    nothing = Evidence(100, 100)
    assert verdict(CALIBRATION, nothing, "circle") is Verdict.CONTRADICTED
    assert verdict(CALIBRATION, nothing, "star") is Verdict.UNVERIFIABLE
    assert verdict(CALIBRATION, nothing, "dog") is Verdict.UNVERIFIABLE


def test_a_small_sample_does_not_prove_recall() -> None:
    few = measure_detector("x", DETECTED[:3], TRUTH[:3], 0.35)
    assert few.classes["circle"].recall.lower_bound < MIN_RECALL
    assert verdict(few, Evidence(100, 100), "circle") is Verdict.UNVERIFIABLE


def test_a_score_without_calibration_data_is_uncertain() -> None:
    low = Evidence(100, 100, (Detection("circle", PLACES[0], 0.6, "red"),))
    assert CALIBRATION.scores.probability(0.6) == 0.5
    assert verdict(CALIBRATION, low, "circle") is Verdict.UNVERIFIABLE


def test_a_detected_object_that_is_not_certain_is_doubtful_and_not_missed() -> None:
    bus = Evidence(100, 100, (Detection("bus", PLACES[0], 0.6, "red"),))
    verifier = Verifier(Calibrations(CALIBRATION))
    reasons = {n: verifier.check(Claim(ClaimType.OBJECT, Noun(n)), bus).finding.reason for n in ("bus", "dog")}
    assert reasons == {"bus": "something_is_doubtful", "dog": "detector_may_miss_it"}


def test_a_detected_class_that_the_calibration_did_not_measure_is_named_as_such() -> None:
    bus = Evidence(100, 100, (Detection("bus", PLACES[0], 0.9, "red"),))
    measured = replace(CALIBRATION, claims=DetectorClaims(0.9, objects={"circle": ClaimTable()}))
    verifier = Verifier(Calibrations(measured, uncalibrated=False))
    for noun in ("bus", "vehicle"):
        assert verifier.check(Claim(ClaimType.OBJECT, Noun(noun)), bus).finding.reason == "class_uncalibrated"


@pytest.mark.parametrize("box", [(5, 5, 9, 9), (5, 5, 85, 85), (5, 5, 25, 14)])
def test_a_box_of_unusual_size_or_shape_is_uncertain(box: tuple[float, float, float, float]) -> None:
    odd = Evidence(100, 100, (Detection("circle", box, 0.9, "red"),))
    assert verdict(CALIBRATION, odd, "circle") is Verdict.UNVERIFIABLE


def test_in_an_image_unlike_the_calibration_absence_is_not_claimed_but_detections_count() -> None:
    blurred = scene("circle", quality=Quality(blur=0.9))
    assert not AssessedEvidence(blurred, Calibrations(CALIBRATION)).in_distribution
    assert verdict(CALIBRATION, blurred, "circle") is Verdict.SUPPORTED
    assert verdict(measure_detector("x", TRUTH, TRUTH, 0.35), blurred, "star") is Verdict.UNVERIFIABLE


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (100, 100, "not_detected"),
        (100, 40, "not_detected"),
        (40, 100, "not_detected"),
        (50, 50, "not_detected"),
        (125, 125, "not_detected"),
        (126, 126, TOO_LARGE),
        (1280, 960, TOO_LARGE),
        (12000, 9000, TOO_LARGE),
        (100, 39, TOO_THIN),
        (39, 100, TOO_THIN),
        (49, 49, TOO_SMALL),
        (2, 2, TOO_SMALL),
        (1, 1, TOO_SMALL),
        (100, 8, TOO_SMALL),
        (1600, 8, TOO_SMALL),
    ],
)
def test_absence_and_counts_are_claimed_only_for_images_of_the_calibrated_size(
    width: int, height: int, reason: str
) -> None:
    verifier, nothing = Verifier(Calibrations(CALIBRATION)), Evidence(width, height)
    expected = Verdict.CONTRADICTED if reason == "not_detected" else Verdict.UNVERIFIABLE
    for claim in (Claim(ClaimType.OBJECT, Noun("circle")), Claim(ClaimType.ATTRIBUTE, Noun("circle"), "red")):
        finding = verifier.check(claim, nothing).finding
        assert (finding.verdict, finding.reason) == (expected, reason)
    assert verifier.check(Claim(ClaimType.COUNT, Noun("circle"), "2"), nothing).finding.verdict is expected
    absent = verifier.check(Claim(ClaimType.OBJECT, Noun("circle"), negated=True), nothing).finding.verdict
    assert absent is (Verdict.SUPPORTED if expected is Verdict.CONTRADICTED else Verdict.UNVERIFIABLE)


def test_in_a_large_image_detections_count_and_in_a_tiny_one_they_do_not() -> None:
    for side, expected in ((1000, Verdict.SUPPORTED), (60, Verdict.SUPPORTED), (20, Verdict.UNVERIFIABLE)):
        box = tuple(side / 100 * v for v in PLACES[0])
        found = Evidence(side, side, (Detection("circle", box, 0.9, "red"),))
        assert verdict(CALIBRATION, found, "circle") is expected


def test_the_sizes_of_the_calibration_images_are_measured() -> None:
    detected = [Evidence(640, 480), Evidence(480, 640), Evidence(320, 320)]
    calibration = measure_detector("x", detected, detected, 0.35)
    assert calibration.image_sides == (pytest.approx(320, abs=1), 640)
    assert calibration.image_shapes == (0.75, pytest.approx(1, abs=0.01))


def test_images_of_a_calibration_without_sizes_were_as_large_as_the_detectors_input() -> None:
    shipped = Verifier.from_config(Experts())
    assert shipped.calibrations.usable_sides == (64, 160)
    claim = Claim(ClaimType.OBJECT, Noun("circle"))
    found = {
        side: shipped.check(claim, Evidence(side, side, quality=Quality(0.25))).finding for side in (128, 160, 161)
    }
    assert [finding.reason for finding in found.values()] == ["not_detected", "not_detected", TOO_LARGE]


@pytest.mark.parametrize(("side", "input_side", "expected"), [
    (512, 128, Verdict.CONTRADICTED), (513, 128, Verdict.UNVERIFIABLE), (4000, 0, Verdict.CONTRADICTED),
    (16, 0, Verdict.CONTRADICTED), (15, 0, Verdict.UNVERIFIABLE), (15, 128, Verdict.UNVERIFIABLE),
])  # fmt: skip
def test_an_exhaustive_class_needs_an_image_that_the_detector_resolves(
    side: int, input_side: int, expected: Verdict
) -> None:
    verifier = Verifier(Calibrations(exhaustive=frozenset({"circle"}), input_side=input_side))
    assert verifier.check(Claim(ClaimType.OBJECT, Noun("circle")), Evidence(side, side)).finding.verdict is expected


def test_probability_does_not_fall_with_the_score() -> None:
    uneven = ScoreCalibration(
        tuple(Proportion(hits, 20) for hits in (5, 3, 9, 7, 12, 11, 15, 14, 18, 17) for _ in range(2))
    )
    curve = [uneven.probability(i / 20) for i in range(20)]
    assert curve == sorted(curve)
    assert (
        ScoreCalibration((Proportion(),) * 10 + (Proportion(9, 10),) + (Proportion(),) * 9).probability(0.99) == 10 / 12
    )


def test_recall_of_a_reader_counts_words_read_exactly() -> None:
    truth = [Evidence(100, 100, words=(Word("STOP", PLACES[0], 1.0),)) for _ in range(20)]
    detected = [Evidence(100, 100, words=(Word("STOP" if i else "STDP", PLACES[0], 0.93),)) for i in range(20)]
    calibration = measure_reader("x", detected, truth)
    assert calibration.recall == Proportion(19, 20)
    assert calibration.scores.probability(0.93) == pytest.approx(20 / 22)


def test_a_calibration_is_saved_beside_its_model_and_loaded_unchanged(tmp_path: Path) -> None:
    model = str(tmp_path / "mine.pt")
    assert load_calibration(model, DetectorCalibration) is None
    assert save_calibration(model, CALIBRATION) == calibration_file(model) == str(tmp_path / "mine.calibration.json")
    assert load_calibration(model, DetectorCalibration) == CALIBRATION


def test_a_calibration_with_fields_of_earlier_versions_is_loaded(tmp_path: Path) -> None:
    file = Path(save_calibration(str(tmp_path / "mine.pt"), CALIBRATION))
    stored = json.loads(file.read_text()) | {"stated": 0.9}
    stored["classes"]["circle"] |= {"images": 60, "scores": {"right": [], "confused": []}, "supported_from": 0.9}
    file.write_text(json.dumps(stored))
    assert load_calibration(str(tmp_path / "mine.pt"), DetectorCalibration) == CALIBRATION


def test_a_calibration_that_is_named_and_missing_is_refused(tmp_path: Path) -> None:
    """It would be taken for an expert without a calibration, whose claims silently stay open."""
    settings = Experts(detector=Detector(calibration=str(tmp_path / "nowhere.json")))
    with pytest.raises(
        UserError, match=r"^experts\.detector\.calibration: there is no file .*nowhere\.json on node .*; correct"
    ):
        Verifier.from_config(settings)


def test_actors_with_another_working_directory_find_the_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path, and the file beside a model that is known by name, are in the driver's working directory."""
    monkeypatch.chdir(tmp_path)
    save_calibration("mine.pt", CALIBRATION, "given.json")
    save_calibration("yolo11m.pt", CALIBRATION)
    for detector, expected in (
        (Detector(calibration="given.json"), "given.json"),
        (Detector(model="yolo11m.pt"), "yolo11m.calibration.json"),
    ):
        sent = _portable(Experts(detector=detector)).detector
        assert sent.calibration == str(tmp_path / expected)
    assert _portable(Experts()).detector.calibration == ""  # beside the model's own file, on each node
    uri = "s3://bucket/given.json"
    assert _portable(Experts(detector=Detector(calibration=uri))).detector.calibration == uri


def test_a_damaged_calibration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.calibration.json").write_text('{"classes": 3}')
    with pytest.raises(UserError, match=r"mine\.calibration\.json is not a valid calibration"):
        load_calibration(str(tmp_path / "mine.pt"), DetectorCalibration)


def test_a_calibration_whose_figures_have_another_meaning_is_refused(tmp_path: Path) -> None:
    """The first files with tables of claims have no number, and a later version may write another one."""
    model, claims = str(tmp_path / "mine.pt"), DetectorClaims(0.9, {"circle": 540})
    file = Path(save_calibration(model, replace(CALIBRATION, claims=claims)))
    numbered = json.loads(file.read_text())
    assert load_calibration(model, DetectorCalibration) == replace(CALIBRATION, claims=claims)
    unnumbered = {key: value for key, value in numbered.items() if key != "format"}
    old = unnumbered | {"claims": {k: v for k, v in unnumbered["claims"].items() if k not in ("more", "fewer")}}
    for stored, found in (
        (old, "an early format"),
        (unnumbered, "an early format"),
        (numbered | {"format": 2}, "format 2"),
        (numbered | {"format": 4}, "format 4"),
    ):
        file.write_text(json.dumps(stored))
        with pytest.raises(
            UserError, match=rf"calibration\.json is a calibration of {found}, .* measure it again with"
        ) as error:
            load_calibration(model, DetectorCalibration)
        assert "\n" not in str(error.value)


def test_a_readers_calibration_means_the_same_in_all_formats(tmp_path: Path) -> None:
    model = str(tmp_path / "reader")
    calibration = ReaderCalibration("0", 10, Proportion(9, 10), CALIBRATION.scores, claims=ReaderClaims(0.9))
    file = Path(save_calibration(model, calibration))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    assert load_calibration(model, ReaderCalibration) == replace(calibration, format=2)


def test_figures_without_tables_of_claims_have_one_meaning_in_all_formats(tmp_path: Path) -> None:
    model = str(tmp_path / "mine.pt")
    file = Path(save_calibration(model, CALIBRATION))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    assert load_calibration(model, DetectorCalibration) == replace(CALIBRATION, format=2)


def test_the_shipped_experts_are_calibrated_for_every_class_of_the_scenes() -> None:
    calibrations = Verifier.from_config(Experts()).calibrations
    assert all(calibrations.recall(name) >= MIN_RECALL for name in ("circle", "square", "triangle", "star", "sign"))
    assert load_calibration("assets:ocr/recognition", ReaderCalibration) == calibrations.reader


def test_a_calibration_measured_with_other_settings_is_refused() -> None:
    settings = Experts().model_copy(update={"detector": Detector(image_size=160)})
    with pytest.raises(UserError, match=r"experts\.detector: the calibration .* was measured with another model"):
        Verifier.from_config(settings)


def test_both_experts_are_calibrated_with_what_the_commands_print() -> None:
    """Boxes are measured where all objects are placed; texts are measured in all images, by their height, too."""
    word = Word("STOP", (0, 0, 30, 20), 0.9)
    shown = Evidence(100, 100, (Detection("circle", PLACES[0], 0.9),), words=(word,))
    placed = LabelledEvidence.of(shown, shown, ("circle", "dog"))
    unplaced = replace(placed, counts={"circle": 2})
    detector = calibrate_detector("x", [placed, unplaced], 0.35, 0.9)
    assert (detector.images, set(detector.classes)) == (1, {"circle"})
    assert detector.claims is not None and detector.claims.images == {"circle": 2}
    reader = calibrate_reader("x", [placed, unplaced], 0.95)
    assert (reader.images, reader.recall) == (2, Proportion(2, 2))
    assert sum(share.n for share in reader.by_height.values()) == 2
    assert reader.claims is not None and reader.claims.stated == 0.95
