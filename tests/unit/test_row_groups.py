"""Images inside the rows of a file: only the row groups that a run needs are read, several at the same time."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.image_files import png
from vlrm_ray.config import load
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import prompts
from vlrm_ray.pipeline.prompts import read_source
from vlrm_ray.store import parquet_rows, patience
from vlrm_ray.store.ledger import Ledger

CONTENT = png()


def grouped(rows: list[Any], size: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=size)
    return sink.getvalue()


@pytest.fixture
def groups_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row groups that have been read so far."""
    groups, real = list[int](), parquet_rows._read_group

    def read(source: str, metadata: Any, group: int, *arguments: Any) -> Any:
        groups.append(group)
        return real(source, metadata, group, *arguments)

    monkeypatch.setattr(parquet_rows, "_read_group", read)
    return groups


def test_the_first_round_reads_only_the_row_groups_with_images_that_the_rounds_of_the_run_use(
    tmp_path: Path, groups_read: list[int]
) -> None:
    contents = [png(f"rgb({i}, 0, 0)") for i in range(40)]
    (tmp_path / "p.parquet").write_bytes(
        grouped([{"image": c, "question": f"{i}?"} for i, c in enumerate(contents)], 2)
    )
    config = load(None, [f"prompts.source={tmp_path / 'p.parquet'}", "prompts.per_round=4", "rounds=3"])
    ledger, made = Ledger(str(tmp_path / "run")), list[int]()
    prompts.source_of(config)
    assert sorted(groups_read) == list(range(20))
    groups_read.clear()
    for round_ in range(1, 11):
        for ref in prompts.prompts_of_round(config, round_, ledger):
            made.append(int(ref.question[:-1]))
            assert Path(ref.image).read_bytes() == contents[made[-1]]
        if round_ == 1:
            of_the_run, stored = set(groups_read), len(list((tmp_path / "run" / "images").iterdir()))
        elif round_ <= 3:
            assert not groups_read
        else:  # a session with more rounds may follow
            assert set(groups_read) == {number // 2 for number in made[-4:]}
        groups_read.clear()
    assert of_the_run == {number // 2 for number in made[:12]}
    assert stored == 12
    assert sorted(made) == list(range(40))


def test_rows_far_apart_in_a_row_group_are_found(tmp_path: Path) -> None:
    rows = [{"image": CONTENT, "question": f"{i}?", "response": f"{i}"} for i in range(1000)]
    (tmp_path / "p.parquet").write_bytes(grouped(rows, 1000))
    config = load(None, [f"prompts.source={tmp_path / 'p.parquet'}", "prompts.per_round=3"])
    taken = prompts.prompts_of_round(config, 1, Ledger(str(tmp_path / "run")))
    assert [f"{response.text}?" for ref in taken for response in ref.responses] == [ref.question for ref in taken]


def test_row_groups_that_are_large_are_read_one_after_the_other(
    tmp_path: Path, groups_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.parquet").write_bytes(grouped([{"image": CONTENT, "question": f"{i}?"} for i in range(40)], 2))
    monkeypatch.setattr(parquet_rows, "MEMORY_BYTES", 1)
    assert [ref.question for ref in read_source(str(tmp_path / "p.parquet"), "")] == [f"{i}?" for i in range(40)]
    assert groups_read == list(range(20))


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("count", [0, 3])
def test_a_file_that_has_changed_meanwhile_is_named(kind: str, count: int, tmp_path: Path) -> None:
    def write(name: str, color: str, count: int) -> None:
        rows: list[dict[str, Any]] = [
            {"image": png(f"rgb({i}, {color}, 0)"), "question": f"{i}?"} for i in range(count)
        ]
        encoded = [row | {"image": base64.b64encode(row["image"]).decode()} for row in rows]
        text = "".join(json.dumps(row) + "\n" for row in encoded)
        (tmp_path / name).write_bytes(grouped(rows, 2) if kind == "parquet" else text.encode())

    write(f"p.{kind}", "1", 6)
    config = load(None, [f"prompts.source={tmp_path}/p.{kind}"])
    prompts.source_of(config)
    write(f"p.{kind}", "2" if count == 0 else "1", 6 - count)
    with pytest.raises(UserError, match=rf"p\.{kind} row \d has changed since the run began to read it"):
        prompts.prompts_of_round(config, 1, Ledger(str(tmp_path / "run")))


def test_an_outage_is_not_taken_for_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.parquet").write_bytes(grouped([{"image": CONTENT, "question": f"{i}?"} for i in range(4)], 2))
    real, failures = pq.ParquetFile, [OSError("AWS Error SLOW_DOWN during GetObject operation")] * 2

    def busy(*arguments: Any, **named: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*arguments, **named)

    monkeypatch.setattr(pq, "ParquetFile", busy)
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    assert len(read_source(str(tmp_path / "p.parquet"), "")) == 4
