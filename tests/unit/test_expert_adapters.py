"""Adapters of detector and OCR libraries: safe loading, no network access, outputs in the common form."""

import itertools
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vlrm_ray.config import Detector, Reader
from vlrm_ray.errors import UserError
from vlrm_ray.experts.detection import detect_objects
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD

ROOT = Path(__file__).parents[2]


class Bomb:
    """An object that creates a file when it is unpickled without an allow-list."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.trace}",)


def as_torch_archive(path: Path, content: object) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("archive/version", "3")
        archive.writestr("archive/byteorder", "little")


@pytest.mark.parametrize("form", ["archive", "bare pickle"])
def test_a_checkpoint_with_code_is_refused_and_does_not_run_it(tmp_path: Path, form: str) -> None:
    from actors.yolo import Yolo

    trace, file = tmp_path / "trace", tmp_path / "bomb.pt"
    if form == "archive":
        as_torch_archive(file, {"model": Bomb(trace)})
    else:
        file.write_bytes(pickle.dumps({"model": Bomb(trace)}))
    with pytest.raises(UserError, match=r"bomb\.pt is refused") as refusal:
        Yolo(Detector(model=str(file)))
    assert "\n" not in str(refusal.value)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    from actors.yolo import Yolo

    (tmp_path / "damaged.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\.pt") as refusal:
        Yolo(Detector(model=str(tmp_path / "damaged.pt")))
    assert "\n" not in str(refusal.value)


def test_a_detector_that_is_a_git_lfs_pointer_is_named_as_such(tmp_path: Path) -> None:
    from actors.yolo import Yolo

    (tmp_path / "detector.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(UserError, match=r"experts\.detector\.model: .*detector\.pt is a Git LFS pointer"):
        Yolo(Detector(model=str(tmp_path / "detector.pt")))


def test_an_ocr_folder_with_code_in_its_yaml_is_refused_and_does_not_run_it(tmp_path: Path) -> None:
    from actors.paddle_ocr import Paddle

    trace = tmp_path / "trace"
    for name in ("detection", "recognition"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inference.yml").write_text(f"Global: !!python/object/apply:os.system ['touch {trace}']")
    with pytest.raises(UserError, match=r"inference\.yml"):
        Paddle(Reader(detection_model=str(tmp_path / "detection"), recognition_model=str(tmp_path / "recognition")))
    assert not trace.exists()


REFUSE = """
import os, socket
def note(line):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{line}\\n")
def refuse(self, address):
    note(f"connect {address}")
    raise OSError("no network")
def resolve(host, *rest, original=socket.getaddrinfo, **more):
    note(f"resolve {host}")
    return original("127.0.0.1", *rest, **more)
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = resolve
note("process")
"""
"""Runs in each Python process before anything else, and notes its network connections."""
INSPECT = """
import numpy as np
from actors.local import load_vision_experts
from vlrm_ray.config import load
if __name__ == "__main__":
    (evidence,) = load_vision_experts(load(None)).inspect([np.full((128, 128, 3), 230, np.uint8)])
    print("RESULT", len(evidence.objects), len(evidence.words))
"""


def test_inspecting_an_image_opens_no_network_connection(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(REFUSE)
    (tmp_path / "inspect_image.py").write_text(INSPECT)
    notes, paths = tmp_path / "notes", os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "inspect_image.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "NOTES": str(notes), "OMP_NUM_THREADS": "1"},
        timeout=400,
    )
    assert "RESULT 0 0" in done.stdout.splitlines(), done.stderr[-2000:]
    noted = notes.read_text().splitlines()
    assert set(noted) == {"process"}
    assert len(noted) >= 2, "the detector and the reader run in a process each"


CLASSES = ("red circle", "star")


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny OWLv2 with random weights."""
    from vlrm_ray import torchvision_shim

    torchvision_shim.install()
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        Owlv2Config,
        Owlv2ForObjectDetection,
        Owlv2ImageProcessor,
        Owlv2Processor,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("owlv2")
    words = ["!", "<s>", "</s>", "red", "circle", "star", "unknown"]
    tokens = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="unknown"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="!", bos_token="<s>", eos_token="</s>", model_max_length=16
    )
    text = {"vocab_size": 7, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 64, "patch_size": 16}  # fmt: skip
    torch.manual_seed(0)
    model = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(folder)
    images = Owlv2ImageProcessor(size={"height": 64, "width": 64})
    Owlv2Processor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def grounding_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny GroundingDINO with random weights."""
    from vlrm_ray import torchvision_shim

    torchvision_shim.install()
    import torch
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )  # fmt: skip

    folder = tmp_path_factory.mktemp("grounding_dino")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "red", "circle", "star"]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = BertConfig(vocab_size=len(words), max_position_embeddings=64, **small)
    stages = ["stage2", "stage3", "stage4"]
    vision = SwinConfig(
        image_size=64, embed_dim=16, depths=[1] * 4, num_heads=[1, 2, 2, 4], window_size=4, out_features=stages
    )
    sizes = {f"{part}_{what}": n for part in ("encoder", "decoder")
             for what, n in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=vision,
        text_config=text,
        d_model=32,
        num_queries=20,
        num_feature_levels=3,
        max_text_len=64,
        **sizes,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_a_slow_machine_costs_yolo_no_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """ultralytics stops non-maximum suppression of a batch after a time limit and leaves the other images empty."""
    from actors.yolo import Yolo

    images = [np.asarray(paint(UNBIASED_WORLD.sample(seed)).image) for seed in range(4)]
    detector = Yolo(Detector())
    expected = detector.detect(images)
    clock = itertools.count(0, 1000)
    monkeypatch.setattr("ultralytics.utils.nms.time", SimpleNamespace(time=lambda: float(next(clock))))
    assert detector.detect(images) == expected
    assert all(expected)


def test_the_boxes_of_an_image_do_not_depend_on_the_rest_of_the_batch() -> None:
    """ultralytics pads images of one shape less than those of a mixed batch, which moves boxes and changes scores."""
    from actors.yolo import Yolo

    wide = np.asarray(paint(UNBIASED_WORLD.sample(1)).image)[:80]
    tall = np.asarray(paint(UNBIASED_WORLD.sample(2)).image)[:, :90]
    detector = Yolo(Detector())
    together = detector.detect([wide, tall, wide])
    assert any(together)
    for image, expected in zip((wide, tall), together, strict=False):
        (alone,) = detector.detect([image])
        assert [box.name for box in alone] == [box.name for box in expected]
        np.testing.assert_allclose([b.box for b in alone], [b.box for b in expected], atol=1e-3)
        np.testing.assert_allclose([b.score for b in alone], [b.score for b in expected], atol=1e-5)


@pytest.mark.parametrize("family", ["owlv2", "grounding_dino"])
def test_a_zero_shot_detector_returns_boxes_of_the_configured_classes(
    family: str, request: pytest.FixtureRequest
) -> None:
    from actors.experts import load_detector

    detector = load_detector(Detector(model=str(request.getfixturevalue(family)), classes=CLASSES))
    images = [np.random.default_rng(i).integers(0, 255, (48 + 32 * i, 90, 3), np.uint8) for i in range(2)]
    detected = detector.detect(images)
    assert any(detected)
    for image, boxes in zip(images, detected, strict=True):
        for box in boxes:
            assert box.name in CLASSES
            assert 0.1 <= box.score <= 1
            x0, y0, x1, y1 = box.box
            assert 0 <= x0 < x1 <= image.shape[1]
            assert 0 <= y0 < y1 <= image.shape[0]
    (detections,) = detect_objects(images[:1], detector.detect, 0.99)
    assert len(detections.faint) <= len(detected[0])


def test_a_zero_shot_detector_requires_classes_and_safetensors(owlv2: Path, tmp_path: Path) -> None:
    from actors.experts import load_detector
    from actors.zero_shot import ZeroShot

    with pytest.raises(UserError, match=r"experts\.detector\.classes"):
        load_detector(Detector(model=str(owlv2)))
    with pytest.raises(UserError, match=r"is no YOLO checkpoint"):
        load_detector(Detector(model=__file__, classes=CLASSES))
    for file in owlv2.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "trace")))
    with pytest.raises(UserError, match="cannot be loaded"):
        ZeroShot(Detector(model=str(tmp_path), classes=CLASSES))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("red circle", "red circle"),
        ("circle red", "red circle"),
        ("star", "star"),
        ("circle", ""),
        ("red star circle", ""),
    ],
)
def test_a_label_phrase_stands_for_the_class_that_it_contains_completely(phrase: str, name: str) -> None:
    from actors.zero_shot import class_of

    assert class_of(phrase, CLASSES) == name


class NoProgress:
    """Ignores progress reports."""

    def add(self, stage: str, rows: int, seconds: float) -> None:
        pass


def test_an_image_is_processed_once_also_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors import experts
    from actors.experts import DetectorExpert, TextExpert
    from vlrm_ray.ids import sha256_of
    from vlrm_ray.scenes.render import paint
    from vlrm_ray.scenes.world import UNBIASED_WORLD
    from vlrm_ray.store.ledger import Ledger
    from vlrm_ray.store.rows import Row, from_table, to_table
    from vlrm_ray.types import Prompt

    rows = []
    for index, seed in enumerate((1, 2, 1)):
        file = tmp_path / f"{seed}.png"
        paint(UNBIASED_WORLD.sample(seed)).image.save(file)
        rows.append(Row(0, 1, Prompt(str(index), str(file), sha256_of(file.read_bytes()), "What do you see?")))
    ledger = Ledger(str(tmp_path / "run"))
    first, reader = DetectorExpert(Detector(), ledger, NoProgress()), TextExpert(Reader(), ledger, NoProgress())
    result = from_table(reader(first(to_table(rows))))
    assert (first.cache.lookups, first.cache.hits, reader.cache.hits) == (3, 1, 1)
    assert result[0].evidence == result[2].evidence != result[1].evidence
    assert all(row.evidence.objects and row.evidence.quality.blur > 0 for row in result)

    restarted = DetectorExpert(Detector(), ledger, NoProgress())
    monkeypatch.setattr(experts, "load_detector", lambda settings: pytest.fail("the model was loaded without need"))
    assert [r.objects for r in from_table(restarted(to_table(rows)))] == [r.objects for r in result]
    assert restarted.cache.hits == restarted.cache.lookups == 3
