"""The timeline of the report: no label covers another or the axis, whatever the times of the rounds and pauses."""

import re
from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vlrm_ray.report.svg import Plot
from vlrm_ray.report.timeline import CHARACTER_WIDTH, MAX_LABEL_ROWS, label_rows, timeline

WIDTH = 600.0
LABELS = st.lists(
    st.tuples(st.floats(0, WIDTH), st.sampled_from(["round 0", "round 12", "paused 83 min"])), max_size=30
)


def span(lane: str, round_: int, began: float, ended: float) -> dict[str, Any]:
    return {"lane": lane, "round": round_, "began": began, "ended": ended}


def drawn(*spans: dict[str, Any]) -> Plot:
    plot = timeline(spans)
    assert plot is not None
    return plot


def extent(label: tuple[float, str]) -> tuple[float, float]:
    """Left and right end: right of the position, or left of it at the end of the drawing."""
    x, length = label[0], CHARACTER_WIDTH * len(label[1])
    return (x, x + length) if x + length <= WIDTH else (x - length, x)


def positions(plot: Plot) -> dict[str, tuple[float, float]]:
    """Position (x, y) of each text of the drawing, y downwards."""
    found = {}
    for group in re.findall(r"<text [^>]*>[^<]*</text>", plot.svg):
        text = re.sub(r"<.*?>", "", group)
        at = re.search(r"translate\(([\d.-]+)[ ,]+([\d.-]+)\)", group)
        place = at.groups() if at else tuple(re.search(rf' {axis}="([\d.-]+)"', group)[1] for axis in "xy")  # type: ignore[index]
        found[text.strip()] = (float(place[0]), float(place[1]))
    return found


@given(LABELS)
def test_labels_of_a_row_do_not_overlap(labels: list[tuple[float, str]]) -> None:
    rows = label_rows(labels, WIDTH)
    assert len(rows) == len(labels)
    placed = [(row, extent(label)) for row, label in zip(rows, labels, strict=True) if row is not None]
    assert all(0 <= row < MAX_LABEL_ROWS for row, _ in placed)
    for (row, (start, end)), (other_row, (other_start, other_end)) in combinations(placed, 2):
        assert row != other_row or end < other_start or other_end < start


def test_labels_that_are_far_apart_are_in_the_lowest_row_and_close_ones_above_it() -> None:
    assert label_rows([(0, "round 1"), (100, "round 2")], WIDTH) == [0, 0]
    assert label_rows([(0, "round 1"), (10, "round 0"), (100, "round 2")], WIDTH) == [0, 1, 0]


def test_a_label_without_a_free_row_is_left_out() -> None:
    assert label_rows([(i, "round 1") for i in range(5)], WIDTH) == [0, 1, 2, None, None]


def test_rounds_that_start_together_have_their_labels_above_one_another() -> None:
    at = positions(
        drawn(
            span("policy-0", 1, 0, 8),
            span("evaluate", 0, 2, 5),
            span("train", 1, 10, 18),
            span("policy-0", 2, 60, 70),
        )
    )
    assert at["round 0"][1] < at["round 1"][1] == at["round 2"][1] < at["policy-0"][1]


def test_a_long_pause_between_two_sessions_is_shortened_and_written_above_the_lanes() -> None:
    plot = drawn(span("train", 1, 0, 100), span("train", 2, 40_000, 40_100))
    at = positions(plot)
    assert at["paused 11 h"][1] < at["train"][1]
    assert "seconds, pauses shortened" in plot.svg


def test_work_too_short_to_be_timed_is_drawn() -> None:
    assert "train" in positions(drawn(span("train", 1, 0.0, 0.0)))
