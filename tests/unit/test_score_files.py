"""Files of responses to score: formats in and out, parts that are kept, and what is refused."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import score as program
from tests.published import publish
from tests.ray.programs import exit_status
from tests.s3_server import S3Server
from vlrm_ray.config import Config
from vlrm_ray.errors import StorageError, UserError
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.preferences.critique import COMPACT
from vlrm_ray.reward import score_files
from vlrm_ray.reward.score_files import ScoreData, ScoreFile, part_size
from vlrm_ray.reward.scoring import Score, Scoring

ROWS = [{"id": i, "image": f"{i}.png", "question": "What?", "response": f"Text, {i}\nend"} for i in range(5)]
SCORES = [Score(0.25 * i, 0.9, ("one", "two")[:i]) if i else Score(reason="image_missing") for i in range(5)]


def as_lines(path: Path) -> None:
    path.write_text("\n".join(map(json.dumps, ROWS)))


def separated(by: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=by)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue()


def as_shards(path: Path) -> None:
    path.mkdir()
    (path / "_SUCCESS").touch()
    pq.write_table(pa.Table.from_pylist(ROWS[:2]), path / "part-0.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[2:]), path / "part-1.parquet")


def as_csv(path: Path) -> None:
    quoted = ["id,image,question,response", *(f'{r["id"]},{r["image"]},What?,"{r["response"]}"' for r in ROWS)]
    path.write_text("\n".join(quoted))


def written(data: ScoreData, out: str, scores: list[Score] = SCORES) -> ScoreFile:
    """An output with two rows in each part."""
    file = ScoreFile(out)
    assert file.bind({"data": data.sha256}, 2) == 2
    for number, rows in data.parts(2):
        file.put(number, scores[2 * number : 2 * number + len(rows)])
    file.write(data, 2)
    return file


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.jsonl", as_lines),
        ("rows.json", lambda path: path.write_text(json.dumps(ROWS))),
        ("rows.CSV", as_csv),
        ("rows.csv.gz", lambda path: path.write_bytes(gzip.compress(separated(",").encode()))),
        ("rows.tsv", lambda path: path.write_text(separated("\t"))),
        ("excel.csv", lambda path: path.write_bytes(separated(";").encode("utf-16"))),
        ("shards", as_shards),
        ("rows.parquet", lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path)),
    ],
)
@pytest.mark.parametrize("out", ["out/scores.parquet", "out/scores.jsonl"])
def test_rows_keep_their_order_and_columns(name: str, write: Callable[[Path], Any], out: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    data = ScoreData.open(str(tmp_path / name))
    assert data.rows == len(ROWS)
    written(data, str(tmp_path / out))
    path = tmp_path / out
    parquet = path.suffix == ".parquet"
    found = pq.read_table(path).to_pylist() if parquet else [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["response"] for row in found] == [row["response"] for row in ROWS]
    assert [str(row["id"]) for row in found] == [str(i) for i in range(5)]
    assert [row["reward"] for row in found] == [score.reward for score in SCORES]
    assert [tuple(row["critiques"]) for row in found] == [score.critiques for score in SCORES]
    assert found[0]["reason"] == "image_missing"


def test_columns_that_parquet_cannot_store_become_json_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_files, "_BATCH", 1)  # the types of a column's values differ between batches
    rows = [
        row | {"tags": {} if i else [1], "size": i if i % 2 else 0.5, "key": 2**60 + 1 if i % 2 else 0.5}
        for i, row in enumerate(ROWS)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    written(ScoreData.open(str(tmp_path / "rows.jsonl")), str(tmp_path / "o.parquet"))
    table = pq.read_table(tmp_path / "o.parquet")
    assert table.column("tags").to_pylist() == ["[1]", "{}", "{}", "{}", "{}"]
    assert table.column("size").to_pylist() == [0.5, 1, 0.5, 3, 0.5]
    assert table.column("key").to_pylist()[:2] == ["0.5", "1152921504606846977"]


def test_images_inside_rows_are_written_to_json_as_base64(tmp_path: Path) -> None:
    rows = [row | {"image": {"bytes": b"\x89PNG", "path": None}} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    written(ScoreData.open(str(tmp_path / "rows.parquet")), str(tmp_path / "o.jsonl"))
    assert json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])["image"]["bytes"] == "iVBORw=="


def test_data_and_output_may_be_in_an_object_store(s3: S3Server) -> None:
    data = ScoreData.open(s3.put("in/rows.jsonl", "\n".join(map(json.dumps, ROWS)).encode()))
    assert data.locate("")("a.png").partition("?")[0].endswith("/in/a.png")
    file = written(data, s3.uri("out/scores.jsonl"))
    assert file.finished() == {0, 1, 2}
    assert len(s3.get("out/scores.jsonl").splitlines()) == 5


def test_relative_image_paths_start_at_the_file_or_at_the_given_folder(tmp_path: Path) -> None:
    as_lines(tmp_path / "rows.jsonl")
    data = ScoreData.open(str(tmp_path / "rows.jsonl"))
    assert data.locate("")("a/b.png") == f"{tmp_path}/a/b.png"
    assert data.locate(str(tmp_path / "other"))("b.png") == f"{tmp_path}/other/b.png"
    assert data.locate("s3://bucket/x")("b.png") == "s3://bucket/x/b.png"
    assert data.locate("s3://bucket/x")("/b.png") == "/b.png"


def test_parts_with_failed_rows_can_be_scored_again(tmp_path: Path) -> None:
    as_lines(tmp_path / "rows.jsonl")
    file = written(ScoreData.open(str(tmp_path / "rows.jsonl")), str(tmp_path / "o.parquet"))
    assert file.finished() == {0, 1, 2}
    assert file.finished(without_failed=True) == {1, 2}
    assert file.scores(1) == SCORES[2:4]
    file.put(0, [Score(reason="response_missing"), Score(reason="longer_than_the_model_takes")])
    assert file.finished(without_failed=True) == {0, 1, 2}  # nothing will change that


def batches(rows: list[dict[str, Any]], tmp_path: Path, before: list[Score]) -> tuple[list[str], list[Score | None]]:
    """The prompts that are sent for a part, and the scores of its rows that are known without them."""
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data, out = ScoreData.open(str(tmp_path / "rows.jsonl")), ScoreFile(str(tmp_path / "o.parquet"))
    if before:
        out.put(0, before)
    scoring = Scoring.create(COMPACT, 1, 120, 0.8, 0.5, None, with_texts=False)
    run = program._Run(Config(), data, out, scoring, len(rows), "", Progress())
    requests = next(run._batches(set(), lambda rows: None))
    return [request.text for request in requests], run.sent[0][1]


def test_only_rows_that_may_get_a_reward_are_scored_again(tmp_path: Path) -> None:
    before = [SCORES[1], Score(reason="image_missing"), Score(reason="response_missing"), SCORES[2], SCORES[3]]
    sent, known = batches(ROWS, tmp_path, before)
    assert [text.count("Text, 1") for text in sent] == [1]
    assert known == [SCORES[1], None, before[2], SCORES[2], SCORES[3]]


def test_a_text_with_bytes_that_were_not_valid_is_not_scored(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("image,question,response\na.png,What?,A caf\xe9.\n".encode("latin-1"))
    _, rows = next(ScoreData.open(str(tmp_path / "latin.csv")).parts(8))
    sent, known = batches([*rows, *ROWS], tmp_path, [])
    assert known[0] == Score(reason="response_with_invalid_characters")
    assert len(sent) == len(ROWS)


def test_the_image_of_a_row_is_that_of_the_column_which_has_one(tmp_path: Path) -> None:
    row = {"image": None, "images": ["0.png"], "question": "What?", "response": "Text"}
    assert batches([row], tmp_path, [])[1] == [None]


def test_an_output_is_bound_to_data_and_model(tmp_path: Path) -> None:
    as_lines(tmp_path / "rows.jsonl")
    data, out = ScoreData.open(str(tmp_path / "rows.jsonl")), str(tmp_path / "o.parquet")
    file = written(data, out)
    assert file.bind({"data": data.sha256}, 100) == 2
    with pytest.raises(UserError, match=r"other settings \(data: \w+ -> x\); give another name, or delete"):
        file.bind({"data": "x"}, 2)
    with pytest.raises(UserError, match="exists and was not written by this command"):
        ScoreFile(str(tmp_path / "rows.jsonl")).bind({}, 2)
    (tmp_path / "o.parquet.parts" / "part-00001.parquet").write_bytes(b"damaged")
    with pytest.raises(StorageError, match=r"part-00001.parquet is missing or damaged; delete it"):
        file.write(data, 2)


def test_few_rows_are_spread_over_the_actors() -> None:
    assert [part_size(rows, 2) for rows in (1, 100, 1000, 10**6)] == [8, 12, 125, 128]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "file not found"),
        ("empty.jsonl", "", "has no rows"),
        ("cut.jsonl", json.dumps(ROWS[0]) + '\n{"image": "a', r"row 2: expected one JSON object per line"),
        ("cut.parquet", "PAR1....", "is not a readable Parquet file"),
        ("list.json", "[1, 2]", "row 1: expected an object with image, question and response"),
        ("column.jsonl", '{"image": "a", "question": "b"}', "has no column 'response', only 'image', 'question'"),
        (
            "several.jsonl",
            '{"image": "a", "question": "b", "responses": ["c"]}',
            "write a row for each response of 'respon",
        ),
        ("again.jsonl", json.dumps(ROWS[0] | {"reward": 1}), "has already a column 'reward'"),
        ("empty.csv", "", "is empty; expected CSV"),
        ("more.csv", "image,question,response\na,b,c,d", "row 1: expected 3 values"),
    ],
)
def test_files_that_cannot_be_scored_end_the_program_with_one_line(
    name: str, content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    model, out = str(publish(tmp_path / "rm")), str(tmp_path / "o.parquet")
    arguments = ["--rm", model, "--data", str(tmp_path / name), "--out", out]
    assert exit_status(program.main, *arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "o.parquet.parts").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", "o.txt"], "expected a name that ends in .parquet or .jsonl"),
        (["--k", "0", "--critiques"], "k=0 asks for a judgement without a critique"),
        (["critic.engine.kind=x"], "critic.engine.kind"),
        (["--rm", "assets:vlm"], "is no published reward model"),
    ],
)
def test_wrong_arguments_end_the_program_with_one_line(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_lines(tmp_path / "rows.jsonl")
    arguments = ["--rm", str(publish(tmp_path / "rm")), "--data", str(tmp_path / "rows.jsonl"), "--out", "o.parquet"]
    assert exit_status(program.main, *arguments, *more) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_lines(tmp_path / "rows.jsonl")
    arguments = ["--rm", str(publish(tmp_path / "rm", 2.0)), "--data", str(tmp_path / "rows.jsonl")]
    assert exit_status(program.main, *arguments, "--out", str(tmp_path / "o.jsonl"), "--dry-run") == 0
    assert "5 rows to score" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rm", "rows.jsonl"]


def test_half_a_surrogate_pair_in_a_row_becomes_a_question_mark(tmp_path: Path) -> None:
    """As of an emoji that was cut at the end of a text."""
    (tmp_path / "rows.jsonl").write_text(
        '{"image": "a.png", "question": "?", "response": "nice \\ud83d", "x": ["\\ud83d é"]}\n'
    )
    ((_, (row,)),) = ScoreData.open(str(tmp_path / "rows.jsonl")).parts(8)
    assert (row["response"], row["x"]) == ("nice ?", ["? é"])
