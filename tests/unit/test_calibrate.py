"""`evaluate.py calibrate`: a detector measured on labelled images in COCO's or the YOLO format, and what follows from it."""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from actors.local import load_vision_experts
from jobs.evaluations import calibrate
from vlrm_ray.config import Detector, Experts, asset_path, load
from vlrm_ray.errors import UserError
from vlrm_ray.experts.calibration import DetectorCalibration, load_calibration
from vlrm_ray.experts.claim_measurement import measure_object_claims
from vlrm_ray.experts.labelled_images import LabelledFile, read_coco, read_yolo
from vlrm_ray.experts.measurement import measure_detector
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.scenes.ground_truth import true_evidence
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import SHAPES, World
from vlrm_ray.types import Claim, ClaimType, Detection, Detections, Evidence, Finding, Noun, Verdict

SCENES = 110
S, C, U = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNVERIFIABLE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered scenes with labels in both formats, and a detector without a calibration."""
    folder = tmp_path_factory.mktemp("labelled")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    names = [*SHAPES, "sign", "dog"]
    world = World(bias=0.0, shape_counts=(0.1, 0.2, 0.3, 0.3, 0.1))
    coco: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    coco["categories"] = [{"id": 10 + i, "name": name.title()} for i, name in enumerate(names)]
    for number in range(SCENES):
        scene = world.sample(90_000_000 + number)
        image, truth = paint(scene).image, true_evidence(scene)
        image.save(folder / f"images/{number}.png")
        coco["images"].append({"id": number, "file_name": f"{number}.png"})
        lines = []
        for o in truth.objects:
            (x0, y0, x1, y1), (width, height), index = o.box, image.size, names.index(o.name)
            box = [x0, y0, x1 - x0, y1 - y0]
            coco["annotations"].append({"image_id": number, "category_id": 10 + index, "bbox": box, "iscrowd": 0})
            shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            lines.append(" ".join(map(str, (index, *shares))))
        (folder / f"labels/{number}.txt").write_text("\n".join(lines))
    coco["annotations"].append({"image_id": 0, "category_id": 14 + 1, "bbox": [0, 0, 5, 5], "iscrowd": 0})
    (folder / "labels/0.txt").write_text((folder / "labels/0.txt").read_text() + "\n5 0.02 0.02 0.04 0.04")
    (folder / "annotations.json").write_text(json.dumps(coco))
    (folder / "data.yaml").write_text(yaml.safe_dump({"val": "images", "names": dict(enumerate(names))}))
    shutil.copy(asset_path("assets:detector/detector.pt"), folder / "mine.pt")
    return folder


@pytest.fixture(params=["coco", "yolo"])
def measured(request: pytest.FixtureRequest, data: Path) -> Iterator[Path]:
    """The detector, calibrated with labels in one of the formats."""
    labels = data / ("annotations.json" if request.param == "coco" else "data.yaml")
    yield run(data, **{request.param: labels})
    (data / "mine.calibration.json").unlink()


def run(data: Path, **options: object) -> Path:
    config = data / "config.yaml"
    config.write_text(yaml.safe_dump({"experts": {"detector": {"model": str(data / "mine.pt")}}}))
    defaults = {
        "coco": None,
        "yolo": None,
        "words": None,
        "photos": None,
        "images": data / "images",
        "config": str(config),
        "confidence": 0.9,
        "overrides": (),
    }
    calibrate.run(argparse.Namespace(**defaults | {"min_images": 20, "json": False, "force": False} | options))
    return data / "mine.pt"


def finding(experts: Experts, evidence: Evidence, name: str) -> Finding:
    return Verifier.from_config(experts).check(Claim(ClaimType.OBJECT, Noun(name)), evidence).finding


def test_classes_are_measured_and_a_rare_one_stays_uncalibrated(
    measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = load_calibration(str(measured), DetectorCalibration)
    assert calibration is not None
    assert calibration.claims is not None
    assert set(calibration.claims.images) == {*SHAPES, "sign"}  # by the detector's names, not "Circle"
    assert (calibration.images, calibration.claims.stated) == (SCENES, 0.9)
    for name in calibration.claims.images:
        known = calibration.classes[name]
        assert known.found is not None and known.recall.hits <= known.found.hits <= known.found.n
        assert sum(share.n for share in known.by_size.values()) == known.found.n


def test_the_printed_table_names_what_stays_uncalibrated(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(data, coco=data / "annotations.json", json=True)
    printed = capsys.readouterr()
    text = " ".join((printed.out + printed.err).split())
    assert "not reported by the detector, so uncalibrated: Dog" in text
    assert "the labels name no colors, so none are measured" in text
    assert json.loads(printed.out.splitlines()[-1])["circle"]["supported_from"] is not None
    (data / "mine.calibration.json").unlink()


def part_of(data: Path, images: int) -> Path:
    """Labels of the first images only."""
    coco = json.loads((data / "annotations.json").read_text())
    coco["images"] = coco["images"][:images]
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] < images]
    (data / f"first{images}.json").write_text(json.dumps(coco))
    return data / f"first{images}.json"


def images_of(model: Path) -> int:
    calibration = load_calibration(str(model), DetectorCalibration)
    return calibration.images if calibration else 0


def test_a_calibration_on_more_images_is_replaced_only_by_force(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, file = data / "mine.pt", data / "mine.calibration.json"
    run(data, coco=part_of(data, 3))
    assert "replaces" not in capsys.readouterr().out
    run(data, coco=part_of(data, 4))
    printed = " ".join(capsys.readouterr().out.split())
    assert f"replaces the calibration {file}, measured on 3 images, by one measured on 4" in printed
    with (
        monkeypatch.context() as patched,
        pytest.raises(UserError, match=r"on 4 images, more than these 2; .* --force"),
    ):
        patched.setattr(calibrate, "_inspect", None)  # refused before any image is looked at
        run(data, coco=part_of(data, 2))
    assert images_of(model) == 4
    run(data, coco=part_of(data, 2), force=True)
    assert images_of(model) == 2
    file.write_text("damaged")
    run(data, coco=part_of(data, 2))
    assert images_of(model) == 2
    file.unlink()


def test_a_table_of_classes_without_figures_is_not_printed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(data, coco=part_of(data, 3))
    printed = " ".join(capsys.readouterr().out.split())
    assert "no table of the classes: in 3 images there are too few objects" in printed
    assert "supported from, absent below" not in printed and "precision" not in printed
    (data / "mine.calibration.json").unlink()


def test_verdicts_follow_from_the_calibration(measured: Path) -> None:
    experts = Experts(detector=Detector(model=str(measured)))
    calibration = load_calibration(str(measured), DetectorCalibration)
    assert calibration is not None
    known = calibration.classes["circle"]
    limit, side = calibrate.summary(calibration)["circle"]["supported_from"], sum(known.sides) / 2 * 128
    box = (10.0, 10.0, 10 + side, 10 + side)
    shown, faint = (Detection("circle", box, score) for score in (limit, limit - 0.01))
    assert finding(experts, Evidence(128, 128, (shown,)), "circle").verdict is S
    assert finding(experts, Evidence(128, 128, (faint,)), "circle").verdict is U
    reliable = [Calibrations(calibration).has_reliable_score(box) for box in (shown, faint)]
    assert reliable == [True, False]  # what is printed and what decides about a box is the same
    dog = Evidence(128, 128, (Detection("dog", box, 0.99),))
    assert finding(experts, dog, "dog").verdict is U
    allowed = experts.model_copy(update={"uncalibrated": "allow"})
    assert finding(allowed, dog, "dog").verdict is S


def test_a_calibration_belongs_to_its_model(measured: Path) -> None:
    settings = Experts(detector=Detector(model=str(measured), image_size=160))
    with pytest.raises(UserError, match="was measured with another model or other settings"):
        Verifier.from_config(settings)


def test_a_calibration_can_lie_elsewhere(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "here.json"
    config = tmp_path / "config.yaml"
    detector = {"model": str(data / "mine.pt"), "calibration": str(file)}
    config.write_text(yaml.safe_dump({"experts": {"detector": detector}}))
    run(data, coco=data / "annotations.json", config=str(config))
    assert not (data / "mine.calibration.json").exists()
    assert load_calibration("any", DetectorCalibration, str(file)) is not None
    assert Verifier.from_config(load(str(config)).experts).calibrations.detector is not None


def test_a_calibration_beside_a_file_in_the_working_directory_is_written_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an override, and without a folder in its name, as the file beside a model such as yolo11m.pt is."""
    monkeypatch.chdir(tmp_path)
    run(data, coco=part_of(data, 3), overrides=["experts.detector.calibration=here.json"])
    assert load_calibration("any", DetectorCalibration, str(tmp_path / "here.json")) is not None


@pytest.mark.parametrize("model", ["", "PP-OCRv5_mobile_rec"])
def test_a_reader_without_a_folder_is_refused_before_any_image_is_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(calibrate, "inspect_words", None)
    words = tmp_path / "words.jsonl"
    words.write_text('{"image": "a.png", "texts": [{"text": "STOP", "box": [0, 0, 9, 9]}]}')
    with pytest.raises(UserError, match=r"^experts\.reader\.recognition_model .*no folder beside which"):
        run(data, words=words, overrides=[f"experts.reader.recognition_model={model}"])


@pytest.mark.parametrize("options", [("coco", "annotations.json", "detector"), ("words", "words.jsonl", "reader")])
def test_experts_on_gpus_are_refused_in_one_line_where_there_are_none(
    data: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, str, str]
) -> None:
    """All commands that run experts without Ray load them in the same way, `verify` too."""
    labels, file, expert = options
    (data / "words.jsonl").write_text('{"image": "0.png", "texts": [{"text": "STOP", "box": [0, 0, 9, 9]}]}')
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    key = f"experts.{expert}.pool.gpus"
    with pytest.raises(UserError, match=f"on GPUs, but PyTorch finds none on this machine; set {key}=0$"):
        run(data, **{labels: data / file, "overrides": [f"{key}=0.25"], "force": True})
    with pytest.raises(UserError, match=r"set experts\.detector\.pool\.gpus=0 experts\.reader\.pool\.gpus=0$"):
        load_vision_experts(load(None, ["experts.detector.pool.gpus=0.25", "experts.reader.pool.gpus=1"]))


def test_without_a_calibration_nothing_decides_unless_it_is_allowed(data: Path) -> None:
    settings = Experts(detector=Detector(model=str(data / "mine.pt"), exhaustive=("circle",)))
    shown = Evidence(128, 128, (Detection("circle", (10, 10, 40, 40), 0.99),))
    refused = finding(settings, shown, "circle")
    assert (refused.verdict, refused.reason) == (U, "detector_uncalibrated")
    assert finding(settings, Evidence(128, 128), "circle").verdict is U
    allowed = settings.model_copy(update={"uncalibrated": "allow"})
    assert finding(allowed, shown, "circle").verdict is S
    assert finding(allowed, Evidence(128, 128), "circle").verdict is C


def test_a_run_says_which_expert_is_uncalibrated(data: Path) -> None:
    model = f"experts.detector.model={data / 'mine.pt'}"
    (remark,) = check_inputs(load(None, [model]))
    assert remark.startswith("experts.detector has no calibration; claims that need it stay unverifiable")
    (remark,) = check_inputs(load(None, [model, "experts.uncalibrated=allow"]))
    assert "experts.uncalibrated=allow lets raw scores decide pairs" in remark
    with pytest.raises(
        UserError, match=r"no pair could be made; measure one with `python jobs/evaluate\.py calibrate`"
    ):
        check_inputs(load(None, [model, "experts.reader.enabled=false"]))


def test_objects_in_faint_boxes_count_for_absence_and_not_for_precision() -> None:
    box = (10.0, 10.0, 40.0, 40.0)
    truth = [Evidence(100, 100, (Detection("cat", box, 1.0),))] * 100
    detected = [Evidence(100, 100, faint=(Detection("cat", box, 0.2),))] * 100
    calibration = measure_detector("x", detected, truth, 0.35)
    assert calibration.classes["cat"].recall.hits == 0
    assert Calibrations(calibration).recall("cat") >= 0.97


def test_boxes_in_a_crowd_and_of_unlabelled_classes_are_not_measured() -> None:
    file = LabelledFile(Path("a.png"), (), (("person", (0, 0, 50, 50)),))
    inside, outside = (Detection("person", (x, 10, x + 20, 40), 0.9) for x in (10, 70))
    detected = Evidence(100, 100, (inside, outside, Detection("bus", (10, 10, 30, 40), 0.9)))
    assert file.measurable(detected, Evidence(100, 100), frozenset({"person"})).objects == (outside,)


def test_beside_a_crowd_a_labelled_object_is_found_and_the_number_of_objects_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COCO matches labelled objects first: a crowd excuses only the boxes that are left."""
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    labels = [(7, [40, 10, 20, 30], 0), (8, [5, 60, 20, 20], 0), (7, [30, 0, 70, 50], 1)]
    coco = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 7, "name": "Human"}, {"id": 8, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": c, "bbox": box, "iscrowd": crowd} for c, box, crowd in labels],
    }
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    right, left_over = Detection("human", (41, 11, 60, 40), 0.9), Detection("human", (70, 10, 90, 40), 0.9)
    seen = Detections(100, 100, (right, left_over, Detection("dog", (5, 60, 25, 80), 0.9)))

    class Experts:
        def detections(self, images: list[Any]) -> list[Detections]:
            return [seen for _ in images]

    monkeypatch.setattr(calibrate, "load_vision_experts", lambda config: Experts())
    (image,), _ = calibrate._inspect(load(None), read_coco(tmp_path / "labels.json", tmp_path), Progress())
    assert right in image.detected.objects and left_over not in image.detected.objects
    known = measure_detector("x", [image.detected], [image.truth], 0.35).classes["human"]
    assert (known.recall.hits, known.recall.n, known.precision.n) == (1, 1, 1)
    claims = measure_object_claims([image], 0.95, 20)
    assert sum(claims.any_object.true) == 2  # there are a human and a dog
    assert sum(claims.counts.true) == 1  # of dogs only
    assert not sum(claims.relations["next_to"].true) + sum(claims.relations["next_to"].false)  # of a dog and a human


@pytest.mark.parametrize(("content", "problem"), [
    ("no json", "is not in COCO's format"), ("[]", "is not in COCO's format"), ('{"images": []}', "is not in COCO's format"),
    ('{"images": [{"id": 1, "file_name": "no.png"}], "annotations": [], "categories": []}', "no labelled object in 1 images"),
    ('{"images": [{"id": 1, "file_name": "no.png"}], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}],'
     ' "categories": [{"id": 1, "name": "cat"}]}', r"there is no image .*no\.png; give .* --images DIR"),
])  # fmt: skip
def test_unusable_coco_labels_are_explained(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(UserError, match=problem):
        read_coco(tmp_path / "labels.json", tmp_path)


def test_unusable_yolo_labels_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names no classes"):
        read_yolo(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        read_yolo(tmp_path / "data.yaml")
    (tmp_path / "data.yaml").write_text("names: [cat]\nval: images")
    with pytest.raises(UserError, match=r"there is no folder .*images"):
        read_yolo(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"")
    (tmp_path / "labels/a.txt").write_text("7 0.5 0.5 1 1")
    with pytest.raises(UserError, match=r"a\.txt line 1 is '7 0\.5 0\.5 1 1', expected"):
        read_yolo(tmp_path)
