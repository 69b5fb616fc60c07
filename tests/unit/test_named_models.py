"""Experts' models given by name: fetched once to the node, recorded in the run, and never with `offline`."""

import threading
from pathlib import Path

import numpy as np
import pytest

from actors import downloads, yolo
from actors.downloads import fetch_detector, fetch_experts, fetch_reader
from actors.experts import DetectorExpert
from tests.unit.test_stages import Board
from vlrm_ray.config import Config, Detector, Reader, asset_path, load
from vlrm_ray.errors import UserError
from vlrm_ray.experts.named_models import checkpoint_name, content_hashes, detector_path, ocr_name, reader_paths
from vlrm_ray.ids import sha256_of_file
from vlrm_ray.pipeline import preflight
from vlrm_ray.pipeline.cluster import environment
from vlrm_ray.pipeline.run_config import bind_models
from vlrm_ray.store.ledger import Ledger

SHIPPED = Path(asset_path("assets:detector/detector.pt"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's cache, empty, in a process that may fetch models."""
    monkeypatch.setenv("VLRM_CACHE", str(tmp_path / "cache"))
    for variable in ("VLRM_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "")
    return tmp_path / "cache"


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Releases of ultralytics without a network: each checkpoint is the shipped one. The names that were downloaded."""
    names: list[str] = []

    def download(file: Path, progress: bool) -> None:
        names.append(file.name)
        file.write_bytes(SHIPPED.read_bytes())

    monkeypatch.setattr(yolo, "attempt_download_asset", download)
    return names


def config(*overrides: str) -> Config:
    return load(None, ["experts.detector.model=yolo11m.pt", *overrides])


def test_what_counts_as_a_name(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"")
    assert checkpoint_name("yolo11m.pt") == "yolo11m.pt"
    for other in ("assets:detector/detector.pt", "./yolo11m.pt", str(tmp_path / "mine.pt"), "s3://bucket/yolo11m.pt"):
        assert checkpoint_name(other) == ""
    assert checkpoint_name("IDEA-Research/grounding-dino-base") == ""
    assert ocr_name("", "PP-OCRv6_medium_det") == "PP-OCRv6_medium_det"
    assert ocr_name("PP-OCRv5_mobile_det", "") == "PP-OCRv5_mobile_det"
    assert ocr_name("assets:ocr/detection", "") == ocr_name("/models/ocr", "") == ocr_name("s3://bucket/ocr", "") == ""


def test_a_published_checkpoint_is_fetched_once_to_the_node(cache: Path, released: list[str]) -> None:
    lines: list[str] = []
    for _ in range(2):
        fetch_experts(config(), lines.append)
    assert released == ["yolo11m.pt"]
    assert detector_path(config().experts.detector) == str(cache / "named" / "yolo11m.pt")
    assert lines == [
        f"fetched the detector yolo11m.pt to {cache / 'named' / 'yolo11m.pt'} (sha256 {sha256_of_file(SHIPPED)})"
    ]


def test_actors_of_a_node_fetch_it_once_together(released: list[str]) -> None:
    threads = [threading.Thread(target=fetch_detector, args=(Detector(model="yolo11m.pt"),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert released == ["yolo11m.pt"]


def test_an_actor_on_a_node_without_it_fetches_it(released: list[str], tmp_path: Path) -> None:
    expert = DetectorExpert(Detector(model="yolo11m.pt"), Ledger(str(tmp_path / "run")), Board())
    assert released == ["yolo11m.pt"]
    assert len(expert.detector.detect([np.zeros((64, 64, 3), np.uint8)])) == 1


def test_a_checkpoint_that_is_not_published_is_refused(released: list[str]) -> None:
    with pytest.raises(UserError, match=r"there is no file detectr\.pt here, and ultralytics publishes no"):
        fetch_detector(Detector(model="detectr.pt"))
    assert released == []


def test_a_failed_download_says_where_the_file_belongs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(file: Path, progress: bool) -> None:
        raise ConnectionError("no route to host\nmore")

    monkeypatch.setattr(yolo, "attempt_download_asset", fails)
    with pytest.raises(
        UserError, match=rf"yolo11m\.pt could not be fetched on node \S+: no route to host; put it at {cache}"
    ):
        fetch_detector(Detector(model="yolo11m.pt"))
    assert [path.name for path in (cache / "named").iterdir()] == ["yolo11m.pt.lock"]


def test_offline_names_the_missing_file(cache: Path, released: list[str]) -> None:
    with pytest.raises(
        UserError, match=rf"yolo11m\.pt is not on node \S+, and offline is true; put it at {cache}/named"
    ):
        fetch_experts(config("offline=true"), print)
    assert released == []
    with pytest.raises(UserError, match=r"detection_model: PP-OCRv6_medium_det is not on node .*official_models"):
        fetch_reader(Reader(detection_model="", recognition_model=""))


def test_offline_reaches_all_processes() -> None:
    assert environment(config("offline=true")).items() >= {"VLRM_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}.items()
    assert "VLRM_OFFLINE" not in environment(config())


@pytest.mark.parametrize(
    ("key", "others"),
    [
        ("policy.model", []),
        ("critic.model", []),
        ("experts.extractor_model", ["experts.extractor=llm"]),
        ("experts.detector.model", ["experts.detector.classes=[dog]"]),
    ],
)
def test_offline_refuses_a_hub_model_that_is_not_cached(
    key: str, others: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=rf"{key}: config\.json of no/model is not in the cache of the Hugging Face hub"
    ):
        preflight.check_inputs(load(None, [f"{key}=no/model", "offline=true", *others]))


def test_text_is_read_on_gpus_only_by_an_onnxruntime_that_can() -> None:
    with pytest.raises(UserError, match=r"has no GPU support: set experts\.reader\.pool\.gpus=0"):
        preflight._check_experts(load(None, ["experts.reader.pool.gpus=0.25"]).experts)


def test_ocr_models_of_paddleocr_belong_into_the_cache_of_the_node(cache: Path) -> None:
    folders = reader_paths(Reader(detection_model="", recognition_model="PP-OCRv5_mobile_rec"))
    home = cache / "paddlex" / "official_models"
    assert folders == (str(home / "PP-OCRv6_medium_det"), str(home / "PP-OCRv5_mobile_rec"))


def test_a_run_keeps_the_hashes_of_its_models_and_refuses_others(
    released: list[str], cache: Path, tmp_path: Path
) -> None:
    ledger, settings = Ledger(str(tmp_path / "run")), config()
    fetch_experts(settings, print)
    bind_models(settings, ledger)
    bind_models(settings, ledger)
    ledger.finish(0, "evaluate", {})
    stored = ledger.get_json("models.json")
    assert stored == content_hashes(settings.experts)
    assert stored["experts.detector.model"] == sha256_of_file(SHIPPED)
    (cache / "named" / "yolo11m.pt").write_bytes(b"another")
    with pytest.raises(UserError, match=r"was started with another file of experts\.detector\.model \(sha256"):
        bind_models(settings, ledger)


def test_nothing_is_fetched_for_models_that_are_files(released: list[str]) -> None:
    fetch_experts(load(None), pytest.fail)
    assert downloads.fetch_detector(Detector()) == str(SHIPPED)
    assert released == []
