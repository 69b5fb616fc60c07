"""Input of the benchmarks: valid and invalid data files and images, and the one-line messages about them."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.unit import benchmark_files as files
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.evaluation.benchmarks import BENCHMARKS
from vlrm_ray.evaluation.benchmarks.images import ImageResolver
from vlrm_ray.store.images import load_image
from vlrm_ray.store.ledger import Ledger


def resolver(folder: Path, **options: bool) -> ImageResolver:
    return ImageResolver([folder / "data"], Ledger(str(folder / "out")), **options)


# --- images -----------------------------------------------------------------------------------------


def jpeg(size: int) -> bytes:
    data = io.BytesIO()
    Image.effect_noise((size, size), 60).save(data, "JPEG")
    return data.getvalue()


@pytest.mark.parametrize("size", [8, 200])
def test_base64_that_looks_like_an_absolute_path_is_an_image(size: int, tmp_path: Path) -> None:
    text = base64.b64encode(jpeg(size)).decode()
    assert text.startswith("/9j/")
    assert load_image(resolver(tmp_path).uri(text)).size == (size, size)


@pytest.mark.parametrize("form", ["path", "bytes", "base64", "data URL"])
def test_an_image_is_read_from_each_form(form: str, tmp_path: Path) -> None:
    data = files.png()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    image = {"path": "./a.png", "bytes": data, "base64": text, "data URL": f"data:image/png;base64,{text}"}[form]
    assert load_image(resolver(tmp_path).uri(image)).size == (32, 32)


@pytest.mark.parametrize(
    "image", [{"bytes": files.png(), "path": None}, {"bytes": None, "path": "a.png"}, ["a.png"], "file://{}/a%20b.png"]
)
def test_usual_forms_of_an_image_in_a_row_are_read(image: Any, tmp_path: Path) -> None:
    for name in ("a.png", "a b.png"):
        (tmp_path / name).write_bytes(files.png())
    rows = files.vl_rows(image.format(tmp_path) if isinstance(image, str) else image)
    path = files.vl_parquet(tmp_path, rows)
    path.rename(path.with_suffix(".PARQUET"))
    item, *_ = BENCHMARKS["vl_rewardbench"].read(tmp_path, files.silent)
    assert item.image is not None
    assert load_image(ImageResolver([tmp_path], Ledger(str(tmp_path / "out"))).uri(item.image)).size == (32, 32)


@pytest.mark.parametrize("image", [{"bytes": None, "path": None}, ["a.png", "b.png"], []])
def test_a_row_without_one_image_is_quarantined_alone(image: Any, tmp_path: Path) -> None:
    rows = files.vl_rows("a.png")
    rows[1]["image"] = image
    files.lines(tmp_path / "data.jsonl", rows)
    items = BENCHMARKS["vl_rewardbench"].read(tmp_path, files.silent)
    assert [bool(item.problem) for item in items] == [False, True, *[False] * 6]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("b.png", "image_missing"),
        ("", "image_missing"),
        ("../secret.png", "image_outside_the_data"),
        ("link/secret.png", "image_outside_the_data"),
        ("broken.png", "image_undecodable"),
        ("https://example.org/a.png", "image_url_not_allowed"),
        ("file:///etc/passwd", "image_missing"),
        (b"no image", "image_undecodable"),
        ("QUJD" * 50, "image_undecodable"),
        ("x" * 300 + ".png", "image_missing"),
        ("x" * 5000 + ".png", "image_missing"),
        ("a\0b.png", "image_missing"),
        ("\ud800.png", "image_missing"),
    ],
)
def test_an_unusable_image_is_rejected_with_a_reason(image: str | bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "broken.png").write_bytes(b"broken")
    (tmp_path / "secret.png").write_bytes(files.png())
    (tmp_path / "data" / "link").symlink_to(tmp_path)
    with pytest.raises(BadImage, match=reason):
        resolver(tmp_path).uri(image)


def test_an_absolute_path_must_be_inside_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for path in ("data/in.png", "out.png"):
        (tmp_path / path).write_bytes(files.png())
    assert resolver(tmp_path).uri(str(tmp_path / "data" / "in.png"))
    with pytest.raises(BadImage, match="image_outside_the_data"):
        resolver(tmp_path).uri(str(tmp_path / "out.png"))


# --- bad input ----------------------------------------------------------------------------------


def broken(rows: list[dict[str, Any]], row: int, **change: Any) -> list[dict[str, Any]]:
    """Change columns of one row; a column whose new value is None is removed."""
    rows[row] = {k: v for k, v in {**rows[row], **change}.items() if v is not None}
    return rows


@pytest.mark.parametrize(
    ("bench", "rows", "expected"),
    [
        ("vl_rewardbench", broken(files.vl_rows("a.png"), 2, query=None), r"data.jsonl row 3: expected a column 'query'"),
        ("vl_rewardbench", broken(files.vl_rows("a.png"), 0, response=["one"]), r"row 1: column 'response'"),
        ("vl_rewardbench", broken(files.vl_rows("a.png"), 0, human_ranking=[0, 0]), r"ranks 0 \(better\) and 1"),
        ("vl_rewardbench", broken(files.vl_rows("a.png"), 1, id=7), r"row 2: column 'id'.* valid string, got '7'"),
        ("mm_rlhf_rewardbench", broken(files.rlhf_rows(), 3, image=None), r"row 4: .*'image' or 'video'"),
        ("labels", broken(files.label_rows(), 1, chosen=None), r"data.jsonl row 2: expected a column 'chosen'"),
        ("labels", broken(files.label_rows(), 0, rejected="A cup 0."), r"row 1: column 'rejected': expected another text"),
        ("labels", broken(files.label_rows(), 3, tie="no"), r"row 4: column 'tie': .*valid boolean"),
        ("vl_rewardbench", ["no object"], r"row 1: expected an object"),
    ],
)  # fmt: skip
def test_a_bad_row_is_rejected_with_its_number_and_the_expected_value(
    bench: str, rows: list[Any], expected: str, tmp_path: Path
) -> None:
    files.lines(tmp_path / "data.jsonl", rows)
    with pytest.raises(UserError, match=expected) as caught:
        BENCHMARKS[bench].read(tmp_path, files.silent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bench", BENCHMARKS)
def test_a_wrong_folder_is_rejected_with_the_expected_files(bench: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected"):
        BENCHMARKS[bench].read(tmp_path, files.silent)
    with pytest.raises(UserError, match="is not a folder"):
        BENCHMARKS[bench].read(tmp_path / "nowhere", files.silent)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("data.jsonl", b'{"id": \n', "row 1: expected one JSON object per line"),
        ("data.json", b'[{"id": ', "expected a JSON list of rows"),
        ("data/test.parquet", b"PAR1 but not really", "not a readable Parquet file"),
    ],
)
def test_a_damaged_file_is_rejected_with_its_path(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected):
        BENCHMARKS["vl_rewardbench"].read(tmp_path, files.silent)


def test_bytes_that_are_not_utf8_are_replaced(tmp_path: Path) -> None:
    row = json.dumps(files.vl_rows("a.png")[0]).encode()
    (tmp_path / "data.jsonl").write_bytes(b"\xef\xbb\xbf" + row.replace(b"What is it", b"What \xff is\xe2\x80\xa8 it"))
    (item,) = BENCHMARKS["vl_rewardbench"].read(tmp_path, files.silent)
    assert item.question == "What \ufffd is\u2028 it? 0"
    assert BENCHMARKS["vl_rewardbench"].files(files.predicted(BENCHMARKS["vl_rewardbench"], [item], ["right"]))


def test_amber_needs_its_annotations(tmp_path: Path) -> None:
    files.amber_files(tmp_path)
    path = tmp_path / "data" / "annotations.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(rows[:-1]))
    with pytest.raises(UserError, match=r"query_all.json row 8: expected an id of .*annotations.json, got 8"):
        BENCHMARKS["amber"].read(tmp_path, files.silent)
    path.write_text(json.dumps([*rows[:-1], {**rows[-1], "truth": "perhaps"}]))
    with pytest.raises(UserError, match="expected yes or no, got 'perhaps'"):
        BENCHMARKS["amber"].read(tmp_path, files.silent)


@pytest.mark.parametrize("label", ["Yes", "NO", "no"])
def test_labels_of_any_case_are_read(label: str, tmp_path: Path) -> None:
    row = {"question_id": 1, "image": "a.png", "text": "Is there a cup?", "label": label}
    files.lines(tmp_path / "coco_pope_random.json", [row])
    (item,) = BENCHMARKS["pope"].read(tmp_path, files.silent)
    assert item.better == (label.lower() == "no")
