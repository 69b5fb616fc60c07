"""Rows as typed Arrow columns: nothing is lost, texts travel once, and a stage touches only its own columns."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.made_up import pair, row
from vlrm_ray.store.arrow_types import arrow_type, codec
from vlrm_ray.store.rows import COLUMNS, PROMPT, SCHEMA, from_table, to_table, with_columns
from vlrm_ray.types import Candidate, ClaimType, Detection, Detections, ImageCondition, Noun

LONG = "There is a circle and it is very red. " * 50


def table_of_pairs() -> pa.Table:
    return to_table([row([pair("a", text=LONG), pair("b", (0.5,), (0.5,), LONG)], ["a"], "a.png", "0" * 64, LONG)])


def test_rows_come_back_as_they_were() -> None:
    rows = [row([pair("a"), pair("b", (0.5,), (0.5,))], ["a"], "a.png", "0" * 64), row([], [], "b.png", "1" * 64)]
    assert from_table(to_table(rows)) == rows


def test_the_columns_are_typed() -> None:
    table = table_of_pairs()
    assert table.schema.equals(SCHEMA)
    assert tuple(table.column_names) == COLUMNS
    assert pa.types.is_string(SCHEMA.field("quarantined").type)
    assert SCHEMA.field("candidates").type.value_type.field("text").type == pa.string()


def test_a_selected_pair_names_its_texts_instead_of_repeating_them() -> None:
    table = table_of_pairs()
    assert table.column("selected").nbytes < 200
    texts = table.column("pairs").nbytes + table.column("candidates").nbytes
    (only,) = from_table(table)
    once = sum(len(c.text) for c in only.candidates) + sum(
        len(critique.text) for p in only.pairs for critique in (*p.chosen_critiques, *p.rejected_critiques)
    )
    assert texts < once + 2000 * len(only.candidates)


def test_a_stage_decodes_and_replaces_only_its_columns() -> None:
    table = table_of_pairs()
    (only,) = from_table(table, ["width", "height"])
    assert (only.candidates, only.pairs) == ((), ())
    assert only.width > 0
    only.width, only.candidates = 7, ()
    (changed,) = from_table(with_columns(table, [only], "width"))
    assert changed.width == 7
    assert changed.candidates == from_table(table)[0].candidates


def test_a_table_may_lack_the_columns_of_later_stages() -> None:
    rows = from_table(table_of_pairs())
    (only,) = from_table(to_table(rows, PROMPT))
    assert (only.prompt, only.candidates) == (rows[0].prompt, ())
    (more,) = from_table(with_columns(to_table(rows, PROMPT), rows, "words", "unused"))
    assert (more.words, more.unused) == (rows[0].words, rows[0].unused)


def test_arrow_types_of_python_types() -> None:
    assert arrow_type(ImageCondition) == pa.string()
    assert arrow_type(tuple[int, ...]) == pa.list_(pa.int64())
    assert arrow_type(str | None) == pa.string()
    assert arrow_type(dict[str, str]) == pa.map_(pa.string(), pa.string())
    assert arrow_type(Detections).field("objects").type.value_type.field("box").type == pa.list_(pa.float64())
    with pytest.raises(TypeError, match="has no Arrow type"):
        arrow_type(bytes)


def test_a_slice_of_a_table_gives_the_rows_of_the_slice() -> None:
    rows = [
        row([pair("a"), pair("b", (0.5,), (0.5,))], ["a"], f"{i}.png", "0" * 64)
        if i % 2
        else row([], [], f"{i}.png", "")
        for i in range(5)
    ]
    for item in rows[1::2]:
        item.unused = {"x": "surplus", item.prompt.image: "length"}
    table = to_table(rows)
    for start in range(5):
        assert from_table(table.slice(start, 2)) == rows[start : start + 2]
    assert from_table(pa.concat_tables([table.slice(3), table.slice(0, 2)])) == rows[3:] + rows[:2]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (str | None, ["a", None, ""]),
        (float | None, [0.5, None]),
        (Noun | None, [None, Noun("circle", ("red", "big")), None, Noun("star")]),
        (tuple[bool, ...], [(True, False), (), (False,)]),
        (dict[str, str], [{"b": "1", "a": "2"}, {}]),
        (ClaimType, list(ClaimType)),
        (tuple[Noun, ...], []),
    ],
)
def test_values_come_back_as_they_were(kind: Any, values: list[Any]) -> None:
    array = codec(kind).encode(values)
    assert (array.type, codec(kind).decode(array)) == (arrow_type(kind), values)
    assert codec(kind).decode(array.slice(1)) == values[1:]
    array.validate(full=True)


def test_a_field_that_an_older_table_lacks_has_its_default() -> None:
    older = pa.array([{"name": "circle", "box": [0.0, 0.0, 1.0, 1.0], "score": 0.5}])
    assert codec(Detection).decode(older) == [Detection("circle", (0.0, 0.0, 1.0, 1.0), 0.5)]


def test_whether_a_candidate_was_fully_read_is_stored_and_older_candidates_were() -> None:
    (made,) = from_table(table_of_pairs())
    made.candidates = tuple(replace(candidate, fully_read=False) for candidate in made.candidates)
    column = to_table([made], ["candidates"]).column("candidates").combine_chunks()
    assert codec(tuple[Candidate, ...]).decode(column) == [made.candidates]
    items = column.flatten()
    kept = [field for field in items.type if field.name != "fully_read"]
    older = pa.StructArray.from_arrays([items.field(field.name) for field in kept], fields=kept)
    assert {candidate.fully_read for candidate in codec(Candidate).decode(older)} == {True}
