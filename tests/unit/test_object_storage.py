"""Everything that a run reads and writes, on an S3 server: ledger, versions, models, prompts and images."""

import io
import json
import os
import pickle
import shutil
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.s3_server import S3Server
from tests.unit.image_files import png
from vlrm_ray.config import Detector, Experts, Reader, asset_path, is_checkpoint, load
from vlrm_ray.errors import BadImage, StorageError, UserError
from vlrm_ray.evaluation.benchmarks.setup import judge_from_folder
from vlrm_ray.experts.calibration import DetectorCalibration, calibration_file, load_calibration
from vlrm_ray.experts.fingerprints import detector_fingerprint, reader_fingerprint
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.ids import fingerprint, sha256_of
from vlrm_ray.pipeline import prompts
from vlrm_ray.pipeline.preflight import check_images, check_inputs
from vlrm_ray.reward.model_folder import check_model
from vlrm_ray.store.filesystem import open_filesystem, write_atomically
from vlrm_ray.store.images import load_image, open_image, read_bytes
from vlrm_ray.store.lease import Lease
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import VERSION, local_model, model_fingerprint, portable


def upload(s3: S3Server, folder: Path, key: str) -> str:
    """Store the files of a local folder; returns the URI of the remote one."""
    for file in folder.rglob("*"):
        if file.is_file():
            s3.put(f"{key}/{file.relative_to(folder)}", file.read_bytes())
    return s3.uri(key)


@pytest.fixture
def ledger(s3: S3Server) -> Ledger:
    return Ledger(s3.uri("runs/mine"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "sub" / "model.safetensors").write_bytes(b"weights")
    return tmp_path / "model"


# --- ledger and versions ------------------------------------------------------------------------


def test_files_and_leases(ledger: Ledger) -> None:
    assert ledger.get("a/b.json") is None
    ledger.put_json("a/b.json", {"x": "ü"})
    other = pickle.loads(pickle.dumps(ledger))
    assert other.get_json("a/b.json") == {"x": "ü"}
    running = f"{socket.gethostname()}:{os.getppid()}"
    Lease(ledger, running).claim()
    with pytest.raises(UserError, match="in use by another driver"):
        Lease(other, "here:2").claim()
    Lease(ledger, running).release()
    Lease(other, "here:2").claim()
    ledger.remove("a")
    assert ledger.get("a/b.json") is None
    ledger.check_writable()


def test_a_small_file_takes_one_request(ledger: Ledger, s3: S3Server) -> None:
    s3.requests.clear()
    ledger.put("round-0001/select/x", b"data")
    assert s3.requests == [f"PUT /{s3.bucket}/runs/mine/round-0001/select/x"]


def test_a_version_is_fetched_into_the_cache_of_the_node_once(ledger: Ledger, s3: S3Server, model: Path) -> None:
    assert ledger.newest_version() == 0
    hashes = ledger.publish(1, model)
    assert hashes == {"config.json": sha256_of(b"{}"), "sub/model.safetensors": sha256_of(b"weights")}
    assert ledger.newest_version() == 1
    folder = pickle.loads(pickle.dumps(ledger)).fetch_version(1)
    assert folder.startswith(os.environ["VLRM_CACHE"])
    assert Path(folder, "sub", "model.safetensors").read_bytes() == b"weights"
    assert ledger.fetch_version(1) == folder == local_model(f"{VERSION}1", ledger)
    assert s3.reads("runs/mine/versions/0001/sub/model.safetensors") == 1
    with pytest.raises(UserError, match=r"version 2 is not published in s3://\*\*\*@.*latest published one is 1"):
        ledger.fetch_version(2)


def test_a_version_is_published_from_where_training_has_written_it(ledger: Ledger, model: Path) -> None:
    for file in ("config.json", "sub/model.safetensors"):
        ledger.put(f"train/round-0001/epoch-0003/hf/{file}", (model / file).read_bytes())
    ledger.publish(1, ledger.location("train/round-0001/epoch-0003", "hf"))
    assert fingerprint(Path(ledger.fetch_version(1))) == fingerprint(model)


def test_files_with_a_known_hash_are_copied_by_the_object_store(ledger: Ledger, s3: S3Server, model: Path) -> None:
    for file in ("config.json", "sub/model.safetensors"):
        ledger.put(f"train/step/hf/{file}", (model / file).read_bytes())
    known = {"sub/model.safetensors": sha256_of(b"weights"), "config.json": sha256_of(b"{}")}
    ledger.put("train/step/hf/model-00001-of-00002.safetensors", b"of an upload that was cut off")
    assert ledger.publish(1, ledger.location("train/step", "hf"), known) == known
    assert not any(s3.reads(f"runs/mine/train/step/hf/{file}") for file in known)
    assert fingerprint(Path(ledger.fetch_version(1))) == fingerprint(model)


def test_a_version_that_is_published_again_replaces_the_first(ledger: Ledger, model: Path) -> None:
    ledger.publish(1, model)
    first = ledger.fetch_version(1)
    (model / "config.json").write_text("{1}")
    shutil.rmtree(model / "sub")
    ledger.publish(1, model)
    second = ledger.fetch_version(1)
    assert second != first
    assert [p.name for p in Path(second).rglob("*")] == ["config.json"]
    assert Path(second, "config.json").read_text() == "{1}"


def test_a_version_does_not_exist_while_it_is_written(
    ledger: Ledger, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.publish(1, model)

    def fail(self: Ledger, *_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "_copy", fail)
    with pytest.raises(KeyboardInterrupt):
        ledger.publish(1, model)
    assert ledger.newest_version() == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_an_upload_that_breaks_off_leaves_no_piece_of_a_file(error: BaseException, ledger: Ledger) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise error
            return super().read(3)

    filesystem, path = open_filesystem(ledger.location("half.json"), writes=True)
    with pytest.raises(type(error)):
        write_atomically(filesystem, path, Broken(b'{"a": 1}'))
    assert ledger.get("half.json") is None


def test_a_damaged_version_is_named(ledger: Ledger, s3: S3Server, model: Path) -> None:
    ledger.publish(1, model)
    s3.put("runs/mine/versions/0001/config.json", b"{2}")
    with pytest.raises(StorageError, match=r"versions/0001.*: config\.json is damaged.*upload it again"):
        ledger.fetch_version(1)


def test_a_node_that_does_not_see_the_folder_of_a_run_says_so(tmp_path: Path, model: Path) -> None:
    here = Ledger(str(tmp_path / "runs" / "mine"))
    sent = pickle.dumps(here)
    here.publish(1, model)
    assert pickle.loads(sent).fetch_version(1) == str(tmp_path / "runs" / "mine" / "versions" / "0001")
    os.rename(tmp_path / "runs", tmp_path / "only here")  # what a node with another file system sees
    elsewhere = pickle.loads(sent)
    for use in (lambda: elsewhere.fetch_version(1), lambda: elsewhere.put("x", b""), lambda: elsewhere.get("x")):
        with pytest.raises(StorageError, match=r"no folder .*mine on node .*set folder= to s3://"):
            use()
    assert not (tmp_path / "runs").exists()


# --- models -------------------------------------------------------------------------------------


def test_a_model_has_the_same_fingerprint_wherever_it_is(s3: S3Server, tmp_path: Path) -> None:
    uri = upload(s3, Path(asset_path("assets:vlm")), "models/vlm")
    assert model_fingerprint(uri) == model_fingerprint("assets:vlm") == fingerprint(Path(asset_path("assets:vlm")))
    assert fingerprint(Path(local_model(uri))) == fingerprint(Path(local_model("assets:vlm")))
    assert model_fingerprint("Qwen/Qwen2.5-VL-7B-Instruct") == local_model("Qwen/Qwen2.5-VL-7B-Instruct")


def test_a_local_path_is_made_absolute_before_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    assert portable("mine") == portable("./mine") == portable(f"file://{tmp_path}/mine") == str(tmp_path / "mine")
    for name in ("assets:vlm", "s3://bucket/vlm", "Qwen/Qwen2.5-VL-7B-Instruct", "version:2"):
        assert portable(name) == name
    with pytest.raises(StorageError, match=r"there is no /nowhere/vlm on node .*give a path that every node has"):
        local_model("/nowhere/vlm")


def test_a_remote_model_is_checked_without_its_weights(s3: S3Server, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(asset_path("assets:vlm"), tmp_path / "vlm"))
    check_model("policy.model", upload(s3, folder, "models/good"))
    data = (folder / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    (folder / "model.safetensors").write_bytes(data[:header] + bytes(len(data) - header))
    check_model("policy.model", upload(s3, folder, "models/without tensors").replace(" ", "%20"))
    (folder / "model.safetensors").write_bytes(data[:-1])
    with pytest.raises(UserError, match=r"policy\.model: s3://\*\*\*@.*/cut.*is not a complete safetensors file"):
        check_model("policy.model", upload(s3, folder, "models/cut"))
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"policy\.model: s3://.*no config\.json"):
        check_model("policy.model", upload(s3, folder, "models/empty"))
    with pytest.raises(UserError, match=r"policy\.model: cannot read s3://.*no such folder or file"):
        check_model("policy.model", s3.uri("models/none"))


def test_a_benchmark_judges_with_a_remote_model(s3: S3Server) -> None:
    uri = upload(s3, Path(asset_path("assets:vlm")), "runs/mine/versions/0001")
    remote, local = (judge_from_folder(name, None, 1, None, ()) for name in (uri, asset_path("assets:vlm")))
    assert remote.config.critic.model == uri
    assert remote.identity == local.identity
    assert "secret" not in remote.description


def test_experts_come_from_uris_with_their_calibrations(s3: S3Server) -> None:
    base = upload(s3, Path(asset_path("assets:")), "assets").partition("?")[0]
    detector = Detector(model=f"{base}/detector/detector.pt?{s3.options}")
    reader = Reader(
        detection_model=f"{base}/ocr/detection?{s3.options}", recognition_model=f"{base}/ocr/recognition?{s3.options}"
    )
    assert is_checkpoint(detector.model)
    assert detector_fingerprint(detector) == detector_fingerprint(Detector())
    assert reader_fingerprint(reader) == reader_fingerprint(Reader())
    assert calibration_file(detector.model).partition("?")[0].endswith("/detector/detector.calibration.json")
    assert load_calibration(detector.model, DetectorCalibration) == load_calibration(
        Detector().model, DetectorCalibration
    )
    remote = Verifier.from_config(Experts(detector=detector, reader=reader))
    assert remote.calibrations == Verifier.from_config(Experts()).calibrations
    overrides = [f"experts.detector.model={detector.model}", f"experts.reader.detection_model={reader.detection_model}"]
    check_inputs(load(None, overrides))
    with pytest.raises(UserError, match=r"experts\.detector\.model: cannot read .*no such folder or file"):
        check_inputs(load(None, [f"experts.detector.model={s3.uri('none.pt')}"]))


# --- prompts ------------------------------------------------------------------------------------

ROWS = [
    {"image": "photos/a b.png", "question": "one?"},
    {"image": "../other/c#d.png", "question": "two?"},
    {"image": "s3://elsewhere/e.png", "question": "three?"},
    {"image": "/data/f.png", "question": "four?"},
]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_prompts_come_from_a_file_of_a_bucket(kind: str, s3: S3Server, ledger: Ledger) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    content = {
        "jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
        "json": json.dumps(ROWS).encode(),
        "parquet": sink.getvalue(),
    }
    source = s3.put(f"my data/prompts.{kind}", content[kind]).replace(" ", "%20")
    refs = tuple(prompts.read_source(source, ""))
    base = f"s3://key:secret@{s3.bucket}"
    assert [ref.image for ref in refs] == [
        f"{base}/my%20data/photos/a%20b.png?{s3.options}",
        f"{base}/other/c%23d.png?{s3.options}",
        "s3://elsewhere/e.png",
        "/data/f.png",
    ]
    s3.put("my data/photos/a b.png", png())
    s3.put("other/c#d.png", png("blue"))
    assert [read_bytes(ref.image) for ref in refs[:2]] == [png(), png("blue")]
    config = load(None, [f"prompts.source={source}", "prompts.per_round=3", "rounds=1"])
    check_images(config, ledger)
    assert len(prompts.prompts_of_round(config, 1, ledger)) == 3


def test_prompts_come_from_a_folder_of_a_bucket(s3: S3Server) -> None:
    for name in ("photos/b/1.png", "photos/a.jpg", "photos/a b#.PNG", "photos/notes.txt", "photosets/x.png"):
        s3.put(name, png())
    source = prompts.read_source(s3.uri("photos"), "What?")
    assert [read_bytes(ref.image) for ref in source] == [png()] * 3
    assert [ref.image.partition("?")[0].rpartition("/")[2] for ref in source] == ["a%20b%23.PNG", "a.jpg", "1.png"]
    (remark,) = source.remarks
    assert "3 images, ignored 1 file: 1 .txt (not an image)" in remark
    assert "secret" not in remark


def test_images_inside_rows_of_a_bucket_are_stored_once(s3: S3Server, ledger: Ledger) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{"image": {"bytes": png()}, "question": q} for q in ("one?", "two?")]), sink)
    config = load(None, [f"prompts.source={s3.put('p.parquet', sink.getvalue())}"])
    taken = prompts.prompts_of_round(config, 1, ledger)
    assert {ref.image for ref in taken} == {ledger.location("images", sha256_of(png()))}
    assert read_bytes(taken[0].image) == png()


def test_a_source_that_cannot_be_used_is_named_in_one_line(s3: S3Server) -> None:
    bad = s3.put("bad.jsonl", b"image,question\n")
    for source, message in (
        (s3.uri("none.jsonl"), r"prompts\.source: cannot read s3://\*\*\*@.*no such folder or file"),
        (bad, r"bad\.jsonl.* row 1: expected one JSON object per line"),
        ("https://example.org/prompts.jsonl", r"prompts\.source: cannot open .*Unrecognized filesystem"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            check_inputs(load(None, [f"prompts.source={source}"]))
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)


# --- images -------------------------------------------------------------------------------------


def test_an_image_is_read_from_the_bucket_once_for_each_node(s3: S3Server) -> None:
    uri = s3.put("a.png", png())
    assert open_image(uri).size == (16, 16)
    assert load_image(uri).size == (16, 16)
    assert s3.reads("a.png") == 1
    s3.put("a.png", png("blue", 20))
    assert open_image(uri).size == (20, 20)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("none.png", "image_missing"),
        ("folder", "image_missing"),
        ("empty.png", "image_undecodable"),
    ],
)
def test_an_image_of_a_bucket_that_cannot_be_used_has_a_reason(uri: str, reason: str, s3: S3Server) -> None:
    s3.put("empty.png", b"")
    s3.put("folder/x.png", png())
    with pytest.raises(BadImage, match=reason):
        open_image(s3.uri(uri))
