"""`evaluate.py verify --data`: the verdicts of a whole file as a table, its summary, and odd input with its reasons."""

import argparse
import base64
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from jobs.evaluations import verify, verify_file
from jobs.evaluations.verify_file import SCHEMA, FileVerifier, Summary, output_path, print_summary
from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.errors import UserError
from vlrm_ray.experts.detection import Pixels
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.experts.vision_experts import VisionExperts
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.types import Detection, Word

DATA = Path(__file__).parents[1] / "data"
FORMATS = DATA / "formats"


class Experts:
    """Sees an orange triangle and the word EXIT in every image.

    Attributes:
        batches: number of images in each call of the detector.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect(self, images: Sequence[Pixels]) -> list[list[Detection]]:
        self.batches.append(len(images))
        return [[Detection("triangle", (60, 10, 90, 40), 0.9, "orange")] for _ in images]

    def read(self, images: Sequence[Pixels]) -> list[tuple[Word, ...]]:
        return [(Word("EXIT", (8, 84, 42, 96), 0.97),) for _ in images]


def check(data: Path, images: str = "", experts: Experts | None = None) -> tuple[Summary, list[dict[str, Any]]]:
    """Verify a file; returns the summary and the table's rows."""
    experts = experts or Experts()
    verifier = Verifier(Calibrations(exhaustive=frozenset({"circle", "triangle"})))
    checker = FileVerifier(VisionExperts(experts.detect, experts.read, 0.3), RuleExtractor(), verifier)
    out = data.with_name("verdicts.parquet")
    summary = checker.run(str(data), images, out, Progress(Console(quiet=True)))
    table = pq.read_table(out)
    assert table.schema.equals(SCHEMA)
    return summary, table.to_pylist()


def write(folder: Path, rows: Sequence[Any]) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(image: Any, *responses: Any) -> dict[str, Any]:
    return {"image": image, "question": "Describe the image.", "responses": list(responses or ["There is a triangle."])}


def test_each_claim_has_a_row_with_its_evidence(tmp_path: Path) -> None:
    shutil.copytree(FORMATS / "images", tmp_path / "images")
    chosen = {"text": "There is a triangle. There is a dog.", "source": "chosen"}
    rejected = {"text": "There is a circle.", "source": "rejected"}
    _, rows = check(write(tmp_path, [row("images/first.jpg", chosen, rejected)]))
    assert [tuple(r[c] for c in ("row", "response", "source", "claim", "kind", "verdict")) for r in rows] == [
        (1, 0, "chosen", "triangle is present", "object", "supported"),
        (1, 0, "chosen", "dog is present", "object", "unverifiable"),
        (1, 1, "rejected", "circle is present", "object", "contradicted"),
    ]
    box = {"kind": "object", "text": "triangle", "score": 0.9, "x0": 60.0, "y0": 10.0, "x1": 90.0, "y1": 40.0}
    assert [r["evidence"] for r in rows] == [[box], [], []]
    assert [bool(r["reason"]) for r in rows] == [False, True, True]
    assert rows[0]["statement"] in "There is a triangle."
    assert {(r["image"], r["question"]) for r in rows} == {
        (str(tmp_path / "images" / "first.jpg"), "Describe the image.")
    }


def test_the_summary_counts_claims_responses_and_rows(tmp_path: Path) -> None:
    shutil.copytree(FORMATS / "images", tmp_path / "images")
    image = "images/first.jpg"
    data = write(
        tmp_path,
        [
            row(image, {"text": "There is a triangle.", "source": "a"}, {"text": "There is a circle.", "source": "b"}),
            row(image, "Yes.", "", 5),
            row(image) | {"responses": None},
            row("none.png"),
            row(image) | {"question": ""},
            7,
        ],
    )
    summary, rows = check(data)
    assert summary.as_json() == {
        "rows": 6,
        "images": 1,
        "formats": {"image, question": 6},
        "quarantined": {"response_not_given": 1, "image_missing": 1, "question_missing": 1, "row_not_an_object": 1},
        "unusable_responses": {"given_response_empty": 1, "given_response_not_text": 1},
        "claims": {
            kind: {"supported": s, "contradicted": c, "unverifiable": 0}
            for kind, s, c in (
                ("object", 1, 1),
                ("attribute", 0, 0),
                ("count", 0, 0),
                ("relation", 0, 0),
                ("text", 0, 0),
                ("state", 0, 0),
            )
        },
        "responses": {
            "a": {"checked": 1, "without_claim": 0, "contradicted": 0, "supported": 1},
            "b": {"checked": 1, "without_claim": 0, "contradicted": 1, "supported": 0},
            "": {"checked": 1, "without_claim": 1, "contradicted": 0, "supported": 0},
        },
    }
    without_verdict = [(r["row"], r["response"], r["reason"]) for r in rows if r["verdict"] is None]
    assert without_verdict == [
        (2, 0, "no_claim"),
        (2, 1, "given_response_empty"),
        (2, 2, "given_response_not_text"),
        (3, -1, "response_not_given"),
        (4, -1, "image_missing"),
        (5, -1, "question_missing"),
        (6, -1, "row_not_an_object"),
    ]
    text = io.StringIO()
    print_summary(summary, Progress(Console(file=text, width=160)), 2.0)
    assert "quarantined rows: response_not_given 1" in text.getvalue()
    assert "(not named)" in text.getvalue()


@pytest.mark.parametrize("name", sorted(path.name for path in FORMATS.iterdir() if path.is_file()))
def test_every_format_is_verified(name: str, tmp_path: Path) -> None:
    shutil.copytree(FORMATS / "images", tmp_path / "images")
    summary, rows = check(Path(shutil.copy(FORMATS / name, tmp_path)))
    assert (summary.rows, summary.images, summary.quarantined.total()) == (2, 2, 0)
    assert {r["row"] for r in rows} == {1, 2}


def test_relative_paths_start_at_the_folder_of_the_images(tmp_path: Path) -> None:
    data = write(tmp_path, [row("first.jpg")])
    assert check(data)[0].quarantined == {"image_missing": 1}
    assert not check(data, str(FORMATS / "images"))[0].quarantined


# --- odd images ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["animated.gif", "animated.png", "animated.webp", "cmyk.jpg", "ycck.jpg", "palette_alpha.png", "palette_one.png",
     "gray16.png", "orientation6.jpg", "rgba.png", "transparent.gif"],
)  # fmt: skip
def test_an_image_of_an_unusual_kind_is_inspected(name: str, tmp_path: Path) -> None:
    summary, _ = check(write(tmp_path, [row(str(DATA / "images" / name))]))
    assert (summary.images, summary.quarantined.total()) == (1, 0)


def image_file(size: tuple[int, int], kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, "orange").save(sink, kind)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a png.jpg", image_file((8, 8)), ""),
        ("a jpeg.png", image_file((8, 8), "JPEG"), ""),
        ("no suffix", image_file((8, 8), "WEBP"), ""),
        ("line.png", image_file((1, 100)), ""),
        ("long line.png", image_file((1, 1000)), "image_too_large"),
        ("text.png", b"this is no image", "image_undecodable"),
        ("empty.png", b"", "image_undecodable"),
        ("cut.png", image_file((64, 64))[:60], "image_undecodable"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image_heic_not_supported"),
        ("a photo #1, 50%.png", image_file((8, 8)), ""),
        ("фото 图片.png", image_file((8, 8)), ""),
    ],
)
def test_the_content_of_a_file_decides_and_not_its_name(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    summary, _ = check(write(tmp_path, [row(name)]))
    assert dict(summary.quarantined) == ({reason: 1} if reason else {})


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("data:image/png;base64," + base64.b64encode(image_file((8, 8))).decode(), ""),
        ("data:image/png;base64,!!!", "image_undecodable"),
        ("http://127.0.0.1/a.png", "image_url_not_fetched"),
        (["a.png", "b.png"], "several_images"),
        (None, "image_not_given"),
        ("", "image_not_given"),
        (7, "image_not_a_path"),
        ("a\0b.png", "image_path_not_text"),
    ],
)
def test_an_image_may_be_inside_its_row(image: Any, reason: str, tmp_path: Path) -> None:
    summary, _ = check(write(tmp_path, [row(image)]))
    assert dict(summary.quarantined) == ({reason: 1} if reason else {})


def test_an_image_that_is_missing_is_no_malformed_row(tmp_path: Path) -> None:
    summary, _ = check(write(tmp_path, [row("none.png")]))
    where = f"{tmp_path}/none.png (relative paths start at the data file; see --images)"
    assert summary.example == f"row 1: image_missing: no file {where}"
    summary, _ = check(write(tmp_path, [row("none.png") | {"question": ["x" * 100]}]))
    assert summary.example.endswith("…")


# --- memory -------------------------------------------------------------------------------------


def test_an_image_under_several_names_is_inspected_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(image_file((8, 8)))
    experts = Experts()
    summary, rows = check(write(tmp_path, [row("a.png"), row("b.png"), row("a.png")]), "", experts)
    assert (summary.images, experts.batches, len(rows)) == (1, [1], 3)


def test_few_images_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_file, "BATCH_BYTES", 5 * 4 * 100 * 100)
    monkeypatch.setattr(verify_file, "_KNOWN_IMAGES", 3)
    for index in range(12):
        (tmp_path / f"{index}.png").write_bytes(image_file((100, 100 + index)))
    experts = Experts()
    summary, rows = check(write(tmp_path, [row(f"{index}.png") for index in range(12)]), "", experts)
    assert (summary.images, max(experts.batches), len(rows)) == (12, 5, 12)


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "x.jsonl"], "--data needs --out"),
        (["--image", "x.png"], "--image needs --text"),
        (["--data", "x.jsonl", "--out", "/no/where/v.parquet"], "create the folder first"),
        (["--data", "none.jsonl", "--out", "v.parquet"], "--data none.jsonl does not exist"),
        (["--data", ".", "--out", "v.parquet"], "--data . is a folder"),
        (
            ["--data", "x.jsonl", "--out", "v.csv"],
            r"--out v\.csv: the table is written as Parquet; give a file that ends",
        ),
        (["--image", "docs", "--text", "A dog."], "--image docs is a folder; give an image file"),
        (["--data", "x.jsonl", "--out", "s3://b/v.parquet"], "expected a file in an existing local folder"),
    ],
)
def test_missing_and_wrong_options_are_named(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    with pytest.raises(UserError, match=message):
        verify.run(parser.parse_args(options))


def test_the_shipped_detector_says_what_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experts = Experts()
    seen = VisionExperts(experts.detect, experts.read, 0.3)
    monkeypatch.setattr(verify, "load_vision_experts", lambda config: seen)
    (tmp_path / "a.png").write_bytes(image_file((8, 8)))
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    verify.run(parser.parse_args(["--image", str(tmp_path / "a.png"), "--text", "There is a dog."]))
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("detector: the embedded scenes (circle, square, ")
    assert first.endswith("; for photographs give --config")


def run_on_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with `--data`, which sees what `Experts` see."""
    experts = Experts()
    monkeypatch.setattr(verify, "load_vision_experts", lambda config: VisionExperts(experts.detect, experts.read, 0.3))
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    verify.run(parser.parse_args(["--data", str(data), "--out", str(data.with_name("verdicts.parquet"))]))


def test_a_row_without_a_response_is_told_what_it_lacks(tmp_path: Path) -> None:
    lacking = {"image": "a.png", "question": "What do you see?", "answer": "A dog."}
    summary, _ = check(write(tmp_path, [lacking]))
    assert summary.example == (
        "row 1: response_not_given; expected at least one response, such as 'responses': ['There is a dog.'], got the "
        "columns 'image', 'question', 'answer'"
    )


def test_a_file_of_which_nothing_could_be_checked_ends_with_an_error_beside_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the wrong folder of images: a program that reads the exit status must not take it for verified."""
    data = write(tmp_path, [row("none.png"), row("none.png")])
    with pytest.raises(UserError, match=r"^no response was checked: image_missing 2; row 1: image_missing: no file "):
        run_on_data(data, monkeypatch)
    assert [r["reason"] for r in pq.read_table(tmp_path / "verdicts.parquet").to_pylist()] == ["image_missing"] * 2
    shutil.copytree(FORMATS / "images", tmp_path / "images")
    run_on_data(write(tmp_path, [row("none.png"), row("images/first.jpg")]), monkeypatch)


def test_a_number_of_some_is_left_open_and_not_called_uncertain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experts = Experts()
    monkeypatch.setattr(verify, "load_vision_experts", lambda config: VisionExperts(experts.detect, experts.read, 0.3))
    (tmp_path / "a.png").write_bytes(image_file((100, 100)))
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    text = "There are three triangles. Two triangles are orange."
    verify.run(parser.parse_args(["--image", str(tmp_path / "a.png"), "--text", text]))
    printed = capsys.readouterr().out
    assert "left open: count triangle 2" in printed
    assert "perhaps" not in printed


@pytest.mark.parametrize(("content", "message"), [("", "has no rows"), ("{", "row 1: expected one JSON object")])
def test_a_file_that_cannot_be_used_leaves_no_table(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        check(tmp_path / "data.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_the_table_is_a_file_of_an_existing_folder(tmp_path: Path) -> None:
    assert output_path(str(tmp_path / "v.parquet")) == tmp_path / "v.parquet"
    with pytest.raises(UserError, match="--out"):
        output_path(str(tmp_path))
