"""The gallery of the report: which critiques it shows of a pair, and which it marks as those that are learned."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.unit import made_up
from vlrm_ray.config import Selection
from vlrm_ray.preferences.critique import format_critique
from vlrm_ray.preferences.selection import select
from vlrm_ray.report.gallery import CritiqueView, PairView, pair_card
from vlrm_ray.report.images import ImageEmbedder
from vlrm_ray.store.rows import from_table, to_table
from vlrm_ray.types import Pair, ScoredCritique, SelectedPair

TRUE, FALSE = format_critique("a red circle", "red", True), format_critique("a red circle", "red", False)
OWN = ScoredCritique(TRUE, 0.7, 0.3, "own", 0), ScoredCritique(FALSE, 0.2, 0.8, "own", 0)
"""Unaided critiques of both sides: right, and without false statements."""


def view(pair: Pair, own: bool) -> PairView:
    """What the gallery shows of a pair that has been through the selection and the storage."""
    outcome = select(pair, Selection(own=own))
    row = made_up.row([pair], [])
    if isinstance(outcome, SelectedPair):
        row = replace(row, selected=(outcome,), rejected={})
    else:
        row = replace(row, rejected={pair.pair_id: outcome})
    (row,) = from_table(to_table([row]))
    return pair_card(row, row.pairs[0], ImageEmbedder(None, 0), own).pairs[0]


def marks(critiques: Sequence[CritiqueView]) -> list[tuple[float, bool, bool]]:
    return [(critique.reward, critique.unaided, critique.selected) for critique in critiques]


def test_the_unaided_critiques_are_shown_and_marked_if_they_are_learned() -> None:
    shown = view(replace(made_up.pair("p", (0.9, 0.8), (0.1,)), unaided=OWN), own=True)
    assert marks(shown.chosen_critiques) == [(0.9, False, False), (0.8, False, False), (0.7, True, True)]
    assert marks(shown.rejected_critiques) == [(0.1, False, False), (0.2, True, True)]
    assert (shown.kept, shown.margin) == (True, pytest.approx(0.5))


def test_critiques_are_told_apart_by_more_than_their_text() -> None:
    """A critique that was written from the evidence may have the text of the unaided one, and its reward."""
    alike = replace(OWN[0], writer="base")
    shown = view(replace(made_up.pair("p"), chosen_critiques=(alike,), unaided=OWN), own=True)
    assert marks(shown.chosen_critiques) == [(0.7, False, False), (0.7, True, True)]


def test_unaided_critiques_that_are_not_learned_are_shown_without_a_mark() -> None:
    shown = view(replace(made_up.pair("p"), unaided=OWN), own=False)
    assert marks(shown.chosen_critiques) == [(0.9, False, True), (0.7, True, False)]


def test_the_margin_of_a_dropped_pair_is_that_of_the_critiques_that_could_have_been_learned() -> None:
    close = ScoredCritique(TRUE, 0.54, 0.46, "own", 0), ScoredCritique(FALSE, 0.5, 0.5, "own", 0)
    pair = replace(made_up.pair("p", (0.9,), (0.1,)), unaided=close)
    shown = view(pair, own=True)
    assert (shown.outcome, shown.margin) == ("margin", pytest.approx(0.04))
    wrong = replace(pair, unaided=(replace(close[0], false_statements=1), close[1]))
    assert view(wrong, own=True).margin == pytest.approx(0.4), "a false statement is not learned"


def test_without_unaided_critiques_the_first_with_the_largest_margin_is_marked() -> None:
    shown = view(made_up.pair("p", (0.6, 0.9)), own=False)
    assert marks(shown.chosen_critiques) == [(0.6, False, False), (0.9, False, True)]
