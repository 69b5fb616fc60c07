"""Prompts from files and folders: forms of rows and images, rows that cannot be used, images inside rows."""

import base64
import bz2
import gzip
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.image_files import png
from vlrm_ray.config import load
from vlrm_ray.errors import UserError
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline import prompts
from vlrm_ray.pipeline.preflight import check_images, check_inputs
from vlrm_ray.pipeline.prompt_rows import EMBEDDED
from vlrm_ray.pipeline.prompts import read_source
from vlrm_ray.store import filesystem, images
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.types import PromptRef

CASES = Path(__file__).parents[1] / "data" / "cases"
TWO = [
    {"image": "plain.png", "question": "What do you see?"},
    {"image": "plain.png", "question": "Describe the image."},
]


def lines(rows: list[Any], end: str = "\n") -> str:
    return "".join(json.dumps(row) + end for row in rows)


def parquet(rows: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plain.png").write_bytes(png())
    return tmp_path


def refs(path: Path) -> tuple[PromptRef, ...]:
    return tuple(read_source(str(path), ""))


# --- forms of files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bom.jsonl", "array.json", "UPPER.PARQUET"])
def test_reported_files_give_the_same_prompts_as_json_lines(name: str) -> None:
    assert refs(CASES / "08" / name) == refs(CASES / "08" / "ok.jsonl")


@pytest.mark.parametrize("name", ["hf_struct.parquet", "datauri.jsonl"])
def test_reported_images_inside_rows_are_read(name: str) -> None:
    (ref,) = refs(CASES / "08" / name)
    assert ref.image == f"{EMBEDDED}{sha256_of((CASES / '08' / 'plain.png').read_bytes())}"


FORMS: dict[str, bytes] = {
    "crlf.jsonl": lines(TWO, "\r\n").encode(),
    "cr.jsonl": lines(TWO, "\r").encode(),
    "blank-lines.jsonl": lines(TWO, "\n\n  \n").encode(),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(TWO, indent=2).encode(),
    "utf16.jsonl": lines(TWO).encode("utf-16"),
    "utf16be.jsonl": b"\xfe\xff" + lines(TWO).encode("utf-16-be"),
    "utf32.jsonl": lines(TWO).encode("utf-32"),
    "packed.jsonl.gz": gzip.compress(lines(TWO).encode()),
    "packed.jsonl.bz2": bz2.compress(lines(TWO).encode()),
    "zstd": bytes(pa.compress(lines(TWO).encode(), "zstd", asbytes=True)),
    "no suffix": lines(TWO).encode(),
    "wrong suffix.txt": parquet(TWO),
    "UPPER.JSONL": lines(TWO).encode(),
    "more columns.parquet": parquet([row | {"id": 5} for row in TWO]),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_is_read_by_its_content(name: str, folder: Path) -> None:
    (folder / name).write_bytes(FORMS[name])
    source = read_source(str(folder / name), "")
    assert [(ref.image, ref.question) for ref in source] == [
        (str((folder / row["image"]).resolve()), row["question"]) for row in TWO
    ]
    assert source.remarks == ()


def test_one_object_on_several_lines_is_one_row(folder: Path) -> None:
    (folder / "one.json").write_text(json.dumps(TWO[0], indent=2))
    assert [ref.question for ref in refs(folder / "one.json")] == [TWO[0]["question"]]


def test_a_text_may_hold_any_separator_of_lines(folder: Path) -> None:
    (folder / "p.jsonl").write_text(json.dumps({"image": "a", "question": "a\u2028b\x85c"}, ensure_ascii=False))
    assert [ref.question for ref in refs(folder / "p.jsonl")] == ["a\u2028b\x85c"]


def test_a_source_may_be_a_file_uri(folder: Path) -> None:
    (folder / "my prompts.jsonl").write_text(lines(TWO))
    for name in ("my%20prompts.jsonl", "my prompts.jsonl"):
        assert len(read_source(f"file://{folder}/{name}", "")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 ...", "is a ZIP or Excel file; expected JSON lines"),
        (b"ARROW1\0\0", "is an Arrow file"),
        (b"image,question\nplain.png,what?\n", r"row 1: expected one JSON object per line.*got 'image,question'"),
        (lines(TWO).encode() + b'{"image": ', "row 3: expected one JSON object per line"),
        (parquet(TWO)[:300], "is not a readable Parquet file"),
        (gzip.compress(lines(TWO).encode())[:20], "is a damaged gzip file"),
        (b"[" * 100_000, "expected a JSON list of rows"),
        (b"", "holds no prompts"),
        (parquet([{"picture": "a.png", "question": "q"}]), r"image_not_given 1.*row 1: expected the strings"),
        (b"[5, 6]", r"row_not_an_object 2.*row 1"),
        (lines([{"image": "plain.png"}]).encode(), r"question_missing 1.*got the columns 'image'"),
        (
            '{"image": "plain.png", "question": "Caf\u00e9?"}'.encode("latin-1"),
            r"question_with_invalid_characters 1.*expected a question in UTF-8.*Caf.udce9",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_was_found(content: bytes, message: str, folder: Path) -> None:
    (folder / "p").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        refs(folder / "p")
    assert str(folder / "p") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source", ["", "s3://bucket/p.jsonl?region=x&scheme=http&endpoint_override=127.0.0.1:1", "/no/where", "/no\0where"]
)
def test_a_source_that_does_not_exist_is_refused(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "S3_ATTEMPTS", 1)  # nobody listens, however often it is asked
    with pytest.raises(UserError, match=r"prompts\.source"):
        read_source(source, "")


# --- forms of images ----------------------------------------------------------------------------

CONTENT = png("blue")
TEXT = base64.b64encode(CONTENT).decode()


@pytest.mark.parametrize(
    "image",
    [
        CONTENT,
        {"bytes": CONTENT, "path": "x.png"},
        {"bytes": CONTENT, "path": None},
        [{"bytes": CONTENT, "path": None}],
        [CONTENT],
    ],
    ids=str,
)
def test_bytes_in_a_parquet_row_are_stored_once_by_their_hash(image: Any, folder: Path) -> None:
    column = "images" if isinstance(image, list) else "image"
    (folder / "p.parquet").write_bytes(parquet([{column: image, "question": q} for q in ("one?", "two?")]))
    check_stored(folder / "p.parquet", 2)


@pytest.mark.parametrize("image", [f"data:image/png;base64,{TEXT}", f"DATA:;base64,{TEXT}", TEXT, {"bytes": TEXT}])
def test_encoded_images_in_json_are_stored_by_their_hash(image: Any, folder: Path) -> None:
    (folder / "p.jsonl").write_text(lines([{"image": image, "question": "one?"}]))
    check_stored(folder / "p.jsonl", 1)


def check_stored(path: Path, count: int) -> None:
    config, ledger = load(None, [f"prompts.source={path}"]), Ledger(str(path.parent / "run"))
    check_images(config, ledger)
    taken = prompts.prompts_of_round(config, 1, ledger)
    stored = path.parent / "run" / "images" / sha256_of(CONTENT)
    assert {ref.image for ref in taken} == {str(stored)}
    assert len(taken) == count
    assert stored.read_bytes() == CONTENT
    stored.write_bytes(b"kept")  # a stored image is not written again
    assert prompts.prompts_of_round(config, 1, ledger) == taken
    assert stored.read_bytes() == b"kept"


def test_references_are_kept_and_relative_paths_are_resolved(folder: Path) -> None:
    given = ["s3://bucket/a.png", "http://x/a.png", "file:///data/a%20b.png", "/data/a.png", "sub/a.png", "x" * 5000]
    (folder / "p.jsonl").write_text(lines([{"image": image, "question": "q"} for image in given]))
    expected = [*given[:4], str(folder.resolve() / "sub" / "a.png"), str(folder.resolve() / ("x" * 5000))]
    assert [ref.image for ref in refs(folder / "p.jsonl")] == expected


def test_a_struct_without_bytes_is_a_path(folder: Path) -> None:
    (folder / "p.jsonl").write_text(lines([{"image": {"bytes": None, "path": "plain.png"}, "question": "q"}]))
    assert [ref.image for ref in refs(folder / "p.jsonl")] == [str(folder.resolve() / "plain.png")]


def test_a_path_that_looks_like_base64_is_a_path(folder: Path) -> None:
    name = "a" * 100
    (folder / name).write_bytes(png())
    (folder / "p.jsonl").write_text(lines([{"image": i, "question": "q"} for i in (name, "/data/" + "b" * 100)]))
    assert [ref.image for ref in refs(folder / "p.jsonl")] == [str(folder.resolve() / name), "/data/" + "b" * 100]


# --- rows that cannot be used -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"image": "plain.png"}, "question_missing"),
        ({"image": "plain.png", "question": None}, "question_missing"),
        ({"image": "plain.png", "question": " \n"}, "question_missing"),
        ({"image": "plain.png", "question": 5}, "question_not_text"),
        ({"image": "plain.png", "question": ["q"]}, "question_not_text"),
        ({"image": "plain.png", "question": "What is this \ud83d?"}, "question_with_invalid_characters"),
        ({"image": "plain.png", "question": "a\0b"}, "question_with_invalid_characters"),
        ({"question": "q"}, "image_not_given"),
        ({"image": "", "question": "q"}, "image_not_given"),
        ({"image": {"bytes": None, "path": None}, "question": "q"}, "image_not_given"),
        ({"images": [], "question": "q"}, "image_not_given"),
        ({"images": ["a.png", "b.png"], "question": "q"}, "several_images"),
        ({"image": 7, "question": "q"}, "image_not_a_path"),
        ({"image": "a\0b.png", "question": "q"}, "image_path_not_text"),
        ({"image": "\ud800.png", "question": "q"}, "image_path_not_text"),
        ({"image": "data:image/png;base64,!!!", "question": "q"}, "image_undecodable"),
        (5, "row_not_an_object"),
        ("a\nb", "row_not_an_object"),
    ],
)
def test_a_bad_row_is_quarantined_and_counted_and_the_others_are_used(row: Any, problem: str, folder: Path) -> None:
    (folder / "p.jsonl").write_text(lines([TWO[0], row, TWO[1]]))
    source = read_source(str(folder / "p.jsonl"), "")
    assert [ref.problem for ref in source] == ["", problem, ""]
    for ref in source:
        pa.array([ref.image, ref.question, ref.problem]).to_pylist()
    (remark,) = source.remarks
    assert f"1 of 3 rows cannot be used and are quarantined ({problem} 1)" in remark
    assert "row 2: expected" in remark
    assert "\n" not in remark


@pytest.mark.parametrize("name", ["prompts.jsonl", "nul.jsonl"])
def test_reported_characters_do_not_end_the_run(name: str) -> None:
    assert [bool(ref.problem) for ref in refs(CASES / "07" / name)] == [False, True]


def test_good_rows_keep_their_place_in_a_round(folder: Path) -> None:
    rows = [{"image": f"{i}.png", "question": f"{i}?"} for i in range(9)]
    (folder / "p.jsonl").write_text(lines(rows))
    config = load(None, [f"prompts.source={folder / 'p.jsonl'}", "prompts.per_round=4"])
    taken = prompts.prompts_of_round(config, 1, Ledger(str(folder / "run")))
    assert [ref.question for ref in taken] == ["2?", "4?", "0?", "8?"]


def test_rounds_of_growing_size_take_each_prompt_once(folder: Path) -> None:
    rows = [{"image": f"{i}.png", "question": f"{i}?"} for i in range(9)]
    (folder / "p.jsonl").write_text(lines(rows))
    config = load(None, [f"prompts.source={folder / 'p.jsonl'}", "prompts.per_round=[1, 2, 6]"])
    taken = [prompts.prompts_of_round(config, number, Ledger(str(folder / "run"))) for number in (1, 2, 3)]
    assert [len(refs) for refs in taken] == [1, 2, 6]
    assert {ref.question for refs in taken for ref in refs} == {row["question"] for row in rows}


def test_folders_are_spread_over_a_round_and_the_prompts_of_an_image_are_together(folder: Path) -> None:
    rows = [{"image": f"{name}/{i}.png", "question": q} for name in "ab" for i in range(40) for q in ("Why?", "How?")]
    (folder / "p.jsonl").write_text(lines(rows))
    config = load(None, [f"prompts.source={folder / 'p.jsonl'}", "prompts.per_round=160"])
    taken = prompts.prompts_of_round(config, 1, Ledger(str(folder / "run")))
    assert [ref.question for ref in taken] == ["How?", "Why?"] * 80
    assert all(how.image == why.image for how, why in zip(taken[::2], taken[1::2], strict=True))
    assert 10 < sum(Path(ref.image).parent.name == "a" for ref in taken[:40]) < 30


# --- folders ------------------------------------------------------------------------------------


def test_a_folder_says_which_files_it_ignores(folder: Path) -> None:
    names = [
        "a.PNG",
        "sub/b.JPeG",
        "c.tif",
        "d.jfif",
        "._a.png",
        ".DS_Store",
        "n.txt",
        "e.heic",
        "F.HEIC",
        "g.mp4",
        "no",
    ]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(png())
    (folder / "folder.png").mkdir()
    source = read_source(str(folder), "Why?")
    assert [Path(ref.image).name for ref in source] == ["a.PNG", "c.tif", "d.jfif", "plain.png", "b.JPeG"]
    (remark,) = source.remarks
    assert remark.endswith(
        "5 images, ignored 7 files: 2 .heic (not supported), 2 hidden, 1 .mp4 (not an image), 1 .txt (not an image), "
        "1 without a suffix (not an image)"
    )
    assert remark in check_inputs(load(None, [f"prompts.source={folder}"]))


def test_a_loop_of_links_is_an_image_that_is_missing(folder: Path) -> None:
    (folder / "loop.png").symlink_to("loop.png")
    assert len(read_source(str(folder), "Why?")) == 2


def test_a_folder_without_other_files_needs_no_remark(folder: Path) -> None:
    assert read_source(str(folder), "Why?").remarks == ()


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds no images.*ignored 1 file: 1 \.heic \(not supported\)"):
        read_source(str(tmp_path), "Why?")


def test_a_file_name_that_is_no_text_is_quarantined(folder: Path) -> None:
    shutil.copy(folder / "plain.png", os.fsencode(folder) + b"/caf\xe9.png")
    assert sorted(ref.problem for ref in read_source(str(folder), "Why?")) == ["", "image_path_not_text"]


@pytest.mark.parametrize("question", ["", "  ", "a\0b"])
def test_a_folder_needs_a_question(question: str, folder: Path) -> None:
    with pytest.raises(UserError, match=r"prompts\.question"):
        read_source(str(folder), question)


# --- before Ray starts --------------------------------------------------------------------------


def missing(folder: Path, count: int) -> list[dict[str, str]]:
    return [{"image": f"/data/coco/{i}.jpg", "question": "What do you see?"} for i in range(count)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            missing,
            "image_missing 6 of 6 prompts (first: /data/coco/0.jpg, 'What do you see?': image_missing); correct the image paths",
        ),
        (
            lambda f, n: [{"image": "http://x/a.png", "question": f"{i}?"} for i in range(n)],
            "image_url_not_fetched 6 of 6",
        ),
        (lambda f, n: [{"image": "broken.png", "question": f"{i}?"} for i in range(n)], "image_undecodable 6 of 6"),
    ],
)
def test_a_run_of_which_no_image_opens_ends_at_once(
    rows: Callable[[Path, int], list[Any]], expected: str, folder: Path
) -> None:
    (folder / "broken.png").write_bytes(b"broken")
    (folder / "p.jsonl").write_text(lines(rows(folder, 6)))
    config, ledger = load(None, [f"prompts.source={folder / 'p.jsonl'}", "rounds=1"]), Ledger(str(folder / "run"))
    with pytest.raises(UserError) as caught:
        check_images(config, ledger)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    ledger.finish(1, "select", {})
    check_images(config, ledger)  # the round has its data: training may find the images


def test_one_image_that_opens_is_enough(folder: Path) -> None:
    (folder / "p.jsonl").write_text(lines([*missing(folder, 3), TWO[0]]))
    check_images(load(None, [f"prompts.source={folder / 'p.jsonl'}"]), Ledger(str(folder / "run")))


def test_only_the_cluster_may_have_the_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "p.jsonl").write_text(lines(missing(folder, 3)))
    config = load(None, [f"prompts.source={folder / 'p.jsonl'}", "cluster.address=ray://elsewhere:10001"])
    monkeypatch.setattr(images, "read_bytes", lambda uri: pytest.fail("opened an image"))
    check_images(config, Ledger(str(folder / "run")))
