"""What a round learns: which pairs are hard enough, and what critiques state."""

import pytest

from tests.unit.test_stages import FakeActor, counts, critique_stage, paired_rows, run
from vlrm_ray.config import Config, Selection, load
from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.part_statistics import count_rows
from vlrm_ray.pipeline.stages.critics import critic_versions
from vlrm_ray.pipeline.training_tables import selected_pairs
from vlrm_ray.preferences.critique import COMPACT, DETAILED
from vlrm_ray.preferences.difficulty import MASTERED, Difficulty, difficulty_of, is_kept
from vlrm_ray.preferences.selection import select
from vlrm_ray.preferences.statements import false_places, statements_of
from vlrm_ray.store.rows import from_table, to_table
from vlrm_ray.types import (
    Candidate,
    Detection,
    ImageCondition,
    Pair,
    ScoredCritique,
)


def critique(judgement: str, yes: float, false_statements: int = 0, text: str = "") -> ScoredCritique:
    text = f"Seen: a red circle.{text} Check: x. Judgement: {judgement}"
    return ScoredCritique(text, yes, 1 - yes, false_statements=false_statements)


# --- difficulty ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "rejected", "difficulty"),
    [
        (critique("Yes", 0.9), critique("No", 0.1), Difficulty.MASTERED),
        (critique("Yes", 0.9, 1), critique("No", 0.1), Difficulty.LUCKY),
        (critique("Yes", 0.9), critique("No", 0.1, 2), Difficulty.LUCKY),
        (critique("Yes", 0.9), critique("Yes", 0.8), Difficulty.FAILED),
        (critique("No", 0.4), critique("No", 0.1), Difficulty.FAILED),
        (critique("No", 0.1), critique("Yes", 0.9), Difficulty.FAILED),
    ],
)
def test_a_pair_is_mastered_if_it_is_judged_rightly_from_true_statements(
    chosen: ScoredCritique, rejected: ScoredCritique, difficulty: Difficulty
) -> None:
    assert difficulty_of((chosen, rejected)) is difficulty


def pair(number: int, *unaided: ScoredCritique) -> Pair:
    good, bad = (Candidate(f"{number}{name}", "x", ImageCondition.FULL) for name in "ab")
    return Pair(f"pair-{number}", good, bad, unaided=unaided)


def test_a_share_of_mastered_pairs_is_kept_and_a_larger_share_keeps_the_same_and_more() -> None:
    mastered = [pair(i, critique("Yes", 0.9), critique("No", 0.1)) for i in range(400)]
    kept = {
        share: {p.pair_id for p in mastered if is_kept(p, Selection(mastered=share))} for share in (0, 0.25, 0.5, 1)
    }
    assert (len(kept[0]), len(kept[1])) == (0, 400)
    assert kept[0.25] < kept[0.5]
    assert abs(len(kept[0.25]) - 100) < 30
    hard = pair(0, critique("No", 0.1), critique("No", 0.1))
    assert is_kept(hard, Selection(mastered=0))
    assert is_kept(pair(0), Selection(mastered=0)), "a pair that was not judged is not known to be mastered"


class Judge:
    """Judges responses with the word red as true, and names itself in what it writes."""

    def __init__(self, name: str) -> None:
        self.name, self.prefixes = name, set[str]()

    def generate(self, requests: list[Request], sampling: Sampling) -> list[list[Completion]]:
        self.prefixes |= {request.prefix for request in requests}
        answers = []
        for request in requests:
            yes = "is red" in request.text or "LUCKY" in request.text
            text = f"Seen: {self.name}. Check: x. Judgement: {'Yes' if yes else 'No'}"
            answers.append([Completion(text, 0.9 if yes else 0.1, 0.1 if yes else 0.9)] * sampling.n)
        return answers


def test_the_newest_version_judges_without_evidence_and_mastered_pairs_get_no_critiques() -> None:
    writer, judge = Judge("base"), Judge("newest")
    config = load(None, ["selection.mastered=0", "selection.sides=both", "critic.k=2"])
    stage = critique_stage(config, FakeActor(writer), FakeActor(judge))  # type: ignore[arg-type]
    done = run(stage, paired_rows("It is blue.", "It is LUCKY."))
    assert [row.rejected.get(row.pairs[0].pair_id) for row in done] == [MASTERED, "no_right_judgement_of_rejected"]
    assert [len(row.pairs[0].unaided) for row in done] == [2, 2]
    assert [len(row.pairs[0].chosen_critiques) for row in done] == [0, 2]
    assert judge.prefixes == {""}
    assert all("Seen:" in prefix for prefix in writer.prefixes)
    found = counts(done)
    assert found["select"]["dropped"] == {MASTERED: 1, "no_right_judgement_of_rejected": 1}
    assert found["critique"]["in"] == 4
    assert count_rows(done)["difficulty"] == {
        "mastered": {"made": 1, "kept": 0}, "failed": {"made": 1, "kept": 0},
    }  # fmt: skip


def test_its_own_critique_is_learned_where_it_is_right_and_states_nothing_false() -> None:
    config = load(None, ["selection.own=true", "critic.k=2"])
    stage = critique_stage(config, FakeActor(Judge("base")), FakeActor(Judge("newest")))  # type: ignore[arg-type]
    (row,) = run(stage, paired_rows("It is blue."))
    (selected,) = row.selected
    assert selected.chosen.text.startswith("Seen: newest.")
    assert count_rows([row])["critiques"] == {"own": {"kept": 2, "checked": 2, "false": 0, "asked": 0}}
    assert from_table(to_table([row])) == [row]


def test_a_pair_with_one_right_side_is_stored_counted_and_trained_as_that_side() -> None:
    config = load(None, ["selection.sides=either", "critic.k=2"])
    stage = critique_stage(config, FakeActor(Judge("base")))  # type: ignore[arg-type]
    (row,) = run(stage, paired_rows("It is LUCKY."))
    (selected,) = row.selected
    assert (selected.chosen is None, selected.rejected, selected.margin) == (False, None, None)
    assert from_table(to_table([row])) == [row]
    found = count_rows([row])
    assert found["critiques"] == {"base": {"kept": 1, "checked": 1, "false": 0, "asked": 0}}
    assert sum(found["margins"]["kept"]) == 0
    (pair,) = selected_pairs([row]).to_pylist()
    assert pair["chosen_critique"].endswith("Judgement: Yes")
    assert not pair["rejected_critique"]


def test_checked_critiques_with_false_statements_are_not_learned() -> None:
    """Even if the false one is surer, and if there is no other: it comes to the right judgement by a wrong count."""
    good, bad = (Candidate(name, name, ImageCondition.FULL) for name in ("good", "bad"))
    truthful, false = critique("Yes", 0.97, 0, " true"), critique("Yes", 0.99, 1, " false")
    made = Pair("p", good, bad, (false, truthful), (critique("No", 0.1, 3),))

    def selected(**rule: object) -> tuple[ScoredCritique | None, ScoredCritique | None] | str:
        found = select(made, Selection.model_validate(rule))
        return found if isinstance(found, str) else (found.chosen, found.rejected)

    assert selected(checked=False) == (false, made.rejected_critiques[0])
    assert selected(checked=True) == (truthful, None)
    assert selected(checked=True, sides="both") == "critiques_state_what_is_false"
    assert selected(checked=True, margin=-1) == (truthful, None)


# --- who writes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "newest", "versions"),
    [
        (["critic.writer=newest"], 3, [3, 3]),
        (["critic.writer=newest", "selection.mastered=0"], 3, [3, 3]),
        (["critic.writer=base"], 3, [0, 0]),
        (["critic.writer=base", "selection.mastered=0.1"], 3, [0, 3]),
        (["critic.writer=base", "selection.mastered=0.1"], 0, [0, 0]),
        (["critic.writer=mixed"], 3, [0, 3]),
    ],
)
def test_each_critic_holds_the_version_that_its_work_needs(
    overrides: list[str], newest: int, versions: list[int]
) -> None:
    assert critic_versions(load(None, overrides), newest, 2) == versions


def test_two_versions_need_two_critics() -> None:
    with pytest.raises(UserError, match=r"set critic\.engine\.actors to 2 or more"):
        load(None, ["critic.writer=mixed", "critic.engine.actors=1"])
    assert load(None, ["critic.engine.actors=1"]) != Config()


# --- statements ---------------------------------------------------------------------------------

SEEN = "red star middle left, sign STOP top right"


@pytest.mark.parametrize(
    ("check", "text"),
    [
        ("two stars found one no", "There are one stars."),
        ("no stars found one no", "There are one stars."),
        ("fewer stars than circles found one two yes", "There are one stars. There are two circles."),
        ("star red found blue no", "The star is blue."),
        ("sign STOP says TAXI no", "The sign says STOP."),
        ("red star middle left below sign top right yes", "The red star is below the sign."),
        ("red star middle left above sign top right no", "The red star is not above the sign."),
        ("red star middle left yes", "There is a red star."),
        ("green star no", "There is no green star."),
        ("no green star yes", "There is no green star."),
        ("no red star middle left no", "There is a red star."),
        ("words of no form", ""),
    ],
)
def test_a_compact_check_states_what_it_found(check: str, text: str) -> None:
    assert statements_of(f"Seen: {SEEN}. Check: {check}. Judgement: No", COMPACT).text == text


def test_places_are_compared_with_the_evidence() -> None:
    check = "red star bottom left below sign top right yes, no red star middle left no"
    places = statements_of(f"Seen: {SEEN}. Check: {check}. Judgement: Yes", COMPACT).places
    assert places == (
        "red star middle left", "sign STOP top right", "red star bottom left", "sign top right", "red star middle left",
    )  # fmt: skip
    assert false_places(places, SEEN) == 1
    assert false_places(("blue star middle left",), SEEN) == 1


def test_of_a_detailed_critique_the_description_counts() -> None:
    text = "Seen: There are two dogs. Check: The response says that there is a cat. Judgement: No"
    assert statements_of(text, DETAILED).text == "There are two dogs"


def test_false_statements_are_counted_by_the_experts_verdicts() -> None:
    config = load()
    stage = critique_stage(config, FakeActor(Judge("base")))  # type: ignore[arg-type]
    (row,) = from_table(paired_rows("It is blue."))
    row.width = row.height = 90
    row.objects = (Detection("star", (5, 35, 25, 55), 0.99, "red"),)
    texts = ("one star found one yes", "one star found no no", "no red star no", "red star top right yes")
    critiques = [ScoredCritique(f"Check: {text}. Judgement: Yes", 0.9, 0.1) for text in texts]
    checked = stage.check.checked([(critique, row.evidence) for critique in critiques])
    assert [critique.false_statements for critique in checked] == [0, 1, 0, 1]
