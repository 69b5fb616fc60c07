"""Files whose rows hold their images: a run reads the images when it starts for the first time, and not again."""

import base64
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.s3_server import S3Server
from tests.unit.image_files import png
from vlrm_ray.config import Config, load
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import prompt_index, prompts
from vlrm_ray.pipeline.preflight import check_images, check_inputs, input_checks
from vlrm_ray.pipeline.run_config import bind_source
from vlrm_ray.store import row_files
from vlrm_ray.store.filesystem import joined
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.row_formats import IMAGE_COLUMNS
from vlrm_ray.types import PromptRef

COUNT = 30
ROWS: list[dict[str, Any]] = [
    {"image": png(f"rgb({i % 20}, 0, 0)"), "question": f"{i}?", "responses": [f"It is {i}.", "It is red."][: i % 3]}
    for i in range(COUNT)
]
"""Prompts with 0 to 2 responses; ten share an image with another one."""
ALL = -1
"""Stands for a reading of all rows."""
REPEATED = ROWS[2] | {"responses": ["A third one."]}


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=5)
    return sink.getvalue()


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row | {"image": base64.b64encode(row["image"]).decode()}) + "\n" for row in rows).encode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "p.parquet").write_bytes(parquet([*ROWS, REPEATED]))
    return tmp_path / "p.parquet"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each reading of images so far."""
    found, real = list[int](), row_files.mapped_rows

    def mapped_rows(source: str, columns: Any, *arguments: Any, rows: Any = None, **named: Any) -> Any:
        if set(columns) & set(IMAGE_COLUMNS):
            found.append(-1 if rows is None else len(rows))
        return real(source, columns, *arguments, rows=rows, **named)

    monkeypatch.setattr(row_files, "mapped_rows", mapped_rows)
    return found


def configured(source: Path | str, folder: Path | str, *more: str) -> Config:
    common = ["name=mine", "prompts.per_round=8", "rounds=3", "policy.samples=0"]
    return load(None, [f"prompts.source={source}", f"folder={folder}", *common, *more])


def run_ledger(config: Config) -> Ledger:
    return Ledger(joined(config.folder, config.name))


def start(config: Config) -> tuple[str, ...]:
    """Start as another process would, which has not read the source before; returns what the run says about its prompts."""
    prompts.read_source.cache_clear()
    remarks = input_checks(config)["prompts"]()
    bind_source(config, run_ledger(config))
    check_images(config, run_ledger(config))
    return remarks or ()


def rounds(config: Config, *numbers: int, store: Ledger | None = None) -> list[list[PromptRef]]:
    return [prompts.prompts_of_round(config, number, store or run_ledger(config)) for number in numbers]


def test_images_are_read_for_the_prompts_and_for_the_first_round_and_never_again(
    file: Path, tmp_path: Path, reads: list[int]
) -> None:
    config = configured(file, tmp_path / "runs")
    start(config)
    assert reads == [ALL]
    rounds(config, 1)
    assert len(reads) == 2
    rounds(config, 2, 3)
    start(config)
    rounds(config, 3)
    assert len(reads) == 2


def test_a_start_that_reads_no_images_finds_the_same_prompts(file: Path, tmp_path: Path, reads: list[int]) -> None:
    config = configured(file, tmp_path / "runs")
    said, read = start(config), prompts.source_of(config)
    made = rounds(config, 1, 2, 3)
    reads.clear()
    assert start(config) == said
    assert "1 row with the image and question of an earlier row" in " ".join(said)
    known = prompts.source_of(config)
    assert (known.table, known.given, known.sha256) == (read.table, read.given, read.sha256)
    assert rounds(config, 1, 2, 3) == made
    assert not reads
    prompts.read_source.cache_clear()
    elsewhere = configured(file, tmp_path / "other")  # no run there has stored anything
    apart = [rounds(elsewhere, number)[0] for number in (1, 2, 3)]
    assert [[(ref.question, ref.responses) for ref in refs] for refs in apart] == [
        [(ref.question, ref.responses) for ref in refs] for refs in made
    ]
    assert {response.text for refs in made for ref in refs for response in ref.responses} >= {"It is 4."}


def test_rows_of_json_lines_are_read_once_for_all_rounds_too(tmp_path: Path, reads: list[int]) -> None:
    (tmp_path / "p.jsonl").write_bytes(json_lines(ROWS))
    config = configured(tmp_path / "p.jsonl", tmp_path / "runs")
    for _ in range(2):
        start(config)
        rounds(config, 1, 2, 3)
    assert len(reads) == 2


def test_images_that_no_round_uses_are_not_stored(file: Path, tmp_path: Path, reads: list[int]) -> None:
    config = configured(file, tmp_path / "runs", "prompts.per_round=2", "rounds=auto", "max_rounds=2")
    start(config)
    used = {ref.image for refs in rounds(config, 1, 2) for ref in refs}
    stored = {str(path) for path in (tmp_path / "runs" / "mine" / "images").iterdir()}
    assert stored == used
    assert reads == [ALL, len(used)]


def test_a_session_with_more_rounds_stores_the_images_of_these(file: Path, tmp_path: Path, reads: list[int]) -> None:
    config = configured(file, tmp_path / "runs", "rounds=1")
    start(config)
    rounds(config, 1)
    reads.clear()
    more = configured(file, tmp_path / "runs", "rounds=3")
    start(more)
    assert all(Path(ref.image).read_bytes() for refs in rounds(more, 1, 2, 3) for ref in refs)
    assert len(reads) == 1


def test_an_image_that_was_deleted_is_read_again(file: Path, tmp_path: Path, reads: list[int]) -> None:
    config = configured(file, tmp_path / "runs")
    start(config)
    lost = Path(rounds(config, 1)[0][0].image)
    content = lost.read_bytes()
    lost.unlink()
    reads.clear()
    rounds(config, 1)
    assert lost.read_bytes() == content
    assert reads == [1]


# --- sources that change ------------------------------------------------------------------------


def unchanged(file: Path) -> None:
    os.utime(file, ns=(1, 1))


def other_image(file: Path) -> None:
    file.write_bytes(parquet([ROWS[0] | {"image": png("blue")}, *ROWS[1:], REPEATED]))


def other_order(file: Path) -> None:
    file.write_bytes(parquet([*reversed(ROWS), REPEATED]))


@pytest.mark.parametrize("change", [other_image, other_order])
def test_a_source_with_other_prompts_does_not_resume(
    change: Callable[[Path], None], file: Path, tmp_path: Path
) -> None:
    config, content = configured(file, tmp_path / "runs"), file.read_bytes()
    start(config)
    run_ledger(config).finish(0, "evaluate", {})  # until then, nothing binds the run
    change(file)
    for _ in range(2):
        with pytest.raises(
            UserError, match="has changed since run mine was started: 30 prompts then, as many but others"
        ):
            start(config)
    file.write_bytes(content)
    start(config)


def test_a_source_that_was_written_again_with_the_same_rows_is_read_once_more(
    file: Path, tmp_path: Path, reads: list[int]
) -> None:
    config = configured(file, tmp_path / "runs")
    start(config)
    made = rounds(config, 1)
    unchanged(file)
    reads.clear()
    start(config)
    start(config)
    assert rounds(config, 1) == made
    assert reads == [ALL]


def test_a_source_that_changes_before_its_images_are_stored_is_named(file: Path, tmp_path: Path) -> None:
    config = configured(file, tmp_path / "runs")
    start(config)
    other_image(file)
    with pytest.raises(UserError, match=r"p\.parquet row 1 has changed since the run began to read it"):
        rounds(config, 1, 2, 3)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"{}", parquet(ROWS[:1])])
def test_what_a_run_has_stored_is_not_used_if_it_is_damaged(
    content: bytes, file: Path, tmp_path: Path, reads: list[int]
) -> None:
    config = configured(file, tmp_path / "runs")
    start(config)
    made = rounds(config, 1)
    run_ledger(config).put(prompt_index.FILE, content)
    reads.clear()
    for _ in range(2):
        start(config)
        assert rounds(config, 1) == made
    assert reads == [ALL]


# --- where nothing is stored --------------------------------------------------------------------


def test_checks_write_nothing_and_use_what_a_run_has_stored(file: Path, tmp_path: Path, reads: list[int]) -> None:
    config = configured(file, tmp_path / "runs")
    for _ in range(2):
        prompts.read_source.cache_clear()
        check_inputs(config)
    assert not (tmp_path / "runs").exists()
    assert reads == [ALL, ALL]
    start(config)
    check_inputs(config)
    assert reads == [ALL, ALL, ALL]


def test_prompts_without_images_in_their_rows_are_read_at_each_start(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "p.jsonl").write_text('{"image": "a.png", "question": "?", "response": "A dog."}\n')
    config = configured(tmp_path / "p.jsonl", tmp_path / "runs")
    start(config)
    assert run_ledger(config).get(prompt_index.FILE) is None


# --- object stores ------------------------------------------------------------------------------


def test_a_run_in_an_object_store_reads_the_images_of_a_bucket_no_more_often(s3: S3Server, reads: list[int]) -> None:
    source = s3.put("p.parquet", parquet(ROWS))
    config = configured(source, s3.uri("runs"))
    start(config)
    made = rounds(config, 1, 2, 3)
    assert len(reads) == 2
    start(config)
    assert rounds(config, 1, 2, 3) == made
    assert len(reads) == 2
    run_ledger(config).finish(0, "evaluate", {})
    s3.put("p.parquet", parquet(ROWS[:-1]))
    with pytest.raises(UserError, match="30 prompts then, 29 now") as caught:
        start(config)
    assert "secret" not in str(caught.value)


def test_runs_with_a_common_cache_store_an_image_once(file: Path, tmp_path: Path, reads: list[int]) -> None:
    cache = Ledger(str(tmp_path / "cache"))
    for folder in ("one", "two"):
        config = configured(file, tmp_path / folder)
        start(config)
        rounds(config, 1, 2, 3, store=cache)
    assert reads[0] == reads[2] == ALL
    assert len(reads) == 3


def test_an_object_store_is_asked_about_many_files(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(s3.uri("runs/mine"))
    monkeypatch.setattr("vlrm_ray.store.folder.ASKED_AT_ONCE", 3)
    for number in range(5):
        ledger.put(f"images/{number}", b"")
    assert ledger.missing(f"images/{number}" for number in range(12)) == {f"images/{n}" for n in range(5, 12)}
    assert ledger.missing([]) == set()
