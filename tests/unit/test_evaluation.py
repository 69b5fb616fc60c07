"""The metrics, compared with values computed by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from vlrm_ray.engines import Completion, Request
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.clusters import balanced_accuracy, ece
from vlrm_ray.pipeline.row_counts import RowCounts
from vlrm_ray.preferences.critique import COMPACT, format_critique, parse_critique, prefers_chosen
from vlrm_ray.report.build import build_report, schema
from vlrm_ray.reward import temperature_scaling
from vlrm_ray.scenes import evaluation
from vlrm_ray.scenes.bench import BenchItem
from vlrm_ray.types import ScoredCritique

FACTS = ("red circle top left", "sign STOP middle right")
ITEMS = [
    BenchItem(
        "x-0", "hallucination", "attribute", "a.png", "q", "r", "The circle is red.", "The circle is blue.", FACTS
    ),
    BenchItem("x-1", "reasoning", "compare", "b.png", "q", "r", "more", "fewer", FACTS),
]


@pytest.mark.parametrize(
    ("chosen", "rejected", "right"),
    [
        ((0.6, 0.4), (0.5, 0.5), True),
        ((0.5, 0.5), (0.5, 0.5), False),
        ((0.4, 0.6), (0.6, 0.4), False),
        ((0.0, 0.0), (0.1, 0.9), False),
        ((0.9, 0.1), (0.0, 0.0), False),
    ],
    ids=["higher", "tie", "lower", "chosen not judged", "rejected not judged"],
)
def test_a_pair_is_right_if_both_responses_are_judged_and_the_chosen_one_higher(
    chosen: tuple[float, float], rejected: tuple[float, float], right: bool
) -> None:
    assert prefers_chosen(ScoredCritique("", *chosen), ScoredCritique("", *rejected)) is right


@pytest.mark.parametrize(("right", "wrong"), [(3, 0), (0, 3), (2, 1)])
def test_a_few_critiques_do_not_push_the_temperature_to_its_bounds(right: int, wrong: int) -> None:
    odds = [0.3, -0.3] * right + [-0.3, 0.3] * wrong
    assert 1 / 6 < temperature_scaling.fit_temperature(odds, [True, False] * (right + wrong)) < 6


def test_a_share_has_its_wilson_interval() -> None:
    found = metrics.share([True] * 8 + [False] * 2)
    assert (found.value, found.n) == (0.8, 10)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))


def test_calibration_error_by_hand() -> None:
    # bin 0.9..1: mean 0.95, half right -> 0.45 of 2; bin 0..0.1: mean 0.05, none right -> 0.05 of 2
    assert ece([0.95, 0.95, 0.05, 0.05], [True, False, False, False]).value == pytest.approx(0.25)


def test_balanced_accuracy_by_hand() -> None:
    assert balanced_accuracy([0.9, 0.1, 0.1, 0.1], [True, True, False, False]).value == 0.75


def test_balanced_accuracy_of_one_pair_is_not_certain() -> None:
    """The Wilson interval of one right answer of one is [0.2065, 1]; of two such accuracies the mean has [0.439, 1]."""
    found = balanced_accuracy([0.9, 0.1], [True, False])
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - (1 - 0.2065) / math.sqrt(2), abs=1e-3)
    half = balanced_accuracy([0.9] * 40, [True, False] * 20)
    assert half.value == 0.5
    assert (half.low, half.high) == (
        pytest.approx(0.5 - 0.1611 / 2, abs=1e-3),
        pytest.approx(0.5 + 0.1611 / 2, abs=1e-3),
    )


def test_a_few_items_that_are_alike_have_no_bootstrap_interval() -> None:
    for metric in (ece, metrics.f1):
        few, enough = (metric([0.05] * n, [False] * n) for n in (19, 20))
        assert (few.low, few.high) == (0.0, 1.0)
        assert enough.high - enough.low < 1e-9
        assert few.value == pytest.approx(enough.value)


def test_no_items_give_the_widest_interval() -> None:
    assert metrics.share([]) == metrics.Metric(0.0, 0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "seen", "judgement"),
    [
        (format_critique("red circle top left", "red circle top left yes", True), "red circle top left", True),
        ("Seen: a. Check: b no. Judgement: No.", "a", False),
        ("Judgement: Yes", "", True),
        ("Seen: a. Check: b", "", None),
        ("Judgement: Yes. But then again", "", None),
        ("Judgement: Perhaps", "", None),
        ("", "", None),
    ],
)
def test_critiques_are_parsed(text: str, seen: str, judgement: bool | None) -> None:
    parts = parse_critique(text)
    assert (parts.seen, parts.judgement) == (seen, judgement)


def perfect(requests: list[Request]) -> list[Completion]:
    """A judge that knows the right responses and states only true facts."""
    answers = []
    for request in requests:
        good = any(f"Response: {item.chosen} " in request.text for item in ITEMS)
        answers.append(Completion(format_critique(", ".join(FACTS), "x", good), *((0.9, 0.1) if good else (0.1, 0.9))))
    return answers


def test_a_perfect_judge_is_right_and_consistent() -> None:
    critiques = evaluation.judge_items(ITEMS, COMPACT, perfect)
    found = {name: metric.value for name, metric in evaluation.measure(ITEMS, critiques).items()}
    assert (
        found["hallucination_pair_accuracy"]
        == found["reasoning_pair_accuracy"]
        == found["reasoning_consistency"]
        == 1.0
    )
    assert found["critique_facts_true"] == 1.0
    assert found["pick_shorter_accuracy"] == 1.0
    assert found["ece"] == pytest.approx(0.1)


def test_one_false_fact_breaks_consistency() -> None:
    def liar(requests: list[Request]) -> list[Completion]:
        return [Completion(c.text.replace("red circle", "blue circle", 1), c.yes, c.no) for c in perfect(requests)]

    found = evaluation.measure(ITEMS, evaluation.judge_items(ITEMS, COMPACT, liar))
    assert found["reasoning_pair_accuracy"].value == 1.0
    assert found["reasoning_consistency"].value == 0.0
    assert found["critique_facts_true"].value == 0.0


def refusing(requests: list[Request]) -> list[Completion]:
    """As `perfect`, but refuses the chosen response of the first item."""
    answers = zip(requests, perfect(requests), strict=True)
    return [Completion("", refused="too_long") if f"Response: {ITEMS[0].chosen} " in r.text else a for r, a in answers]


def test_a_pair_with_a_refused_response_is_wrong_and_no_measure_of_rewards() -> None:
    """As with held-out pairs: nothing is known about the reward of what the engine refuses."""
    critiques = evaluation.judge_items(ITEMS, COMPACT, refusing)
    found = evaluation.measure(ITEMS, critiques)
    assert (found["hallucination_pair_accuracy"].value, found["reasoning_pair_accuracy"].value) == (0.0, 1.0)
    assert (found["undecided"].value, found["undecided"].n) == (0.5, 2)
    for name in ("pointwise_balanced_accuracy", "pointwise_f1"):
        assert (found[name].value, found[name].n) == (1.0, 2)
    assert found["ece"].n == found["ece_uncalibrated"].n == 2
    assert sum(b["n"] for b in evaluation.details(ITEMS, critiques)["reliability"]) == 2
    assert len(evaluation.judge_calibration(ITEMS, COMPACT, refusing)) == 1


def test_blind_requests_have_no_image() -> None:
    images: list[str | None] = []

    def judge(requests: list[Request]) -> list[Completion]:
        images.extend(r.image for r in requests)
        return perfect(requests)

    evaluation.judge_items(ITEMS, COMPACT, judge)
    told = ["a.png", "a.png", "b.png", "b.png"]
    assert images == ["a.png", "a.png", "b.png", "b.png", None, None, None, None, "b.png", "b.png", *told]
    assert len(images) == evaluation.critique_count(ITEMS, COMPACT)


def test_told_judgements_continue_a_description_of_the_true_facts() -> None:
    prefixes: list[str] = []

    def forgetful(requests: list[Request]) -> list[Completion]:
        """Judges rightly, but never from told facts."""
        prefixes.extend(request.prefix for request in requests if request.prefix)
        answers = perfect(requests)
        return [
            Completion("Judgement: Yes", 0.5, 0.5) if request.prefix else answer
            for request, answer in zip(requests, answers, strict=True)
        ]

    found = evaluation.measure(ITEMS, evaluation.judge_items(ITEMS, COMPACT, forgetful))
    assert set(prefixes) == {COMPACT.prefix(", ".join(item.facts)) for item in ITEMS}
    assert (found["reasoning_pair_accuracy"].value, found["told_pair_accuracy"].value) == (1.0, 0.0)


def test_identical_blind_requests_are_judged_once() -> None:
    sent: list[Request] = []

    def judge(requests: list[Request]) -> list[Completion]:
        sent.extend(requests)
        return perfect(requests)

    duplicates = [ITEMS[0], replace(ITEMS[0], item_id="duplicate", image="c.png")]
    critiques = evaluation.judge_items(duplicates, COMPACT, judge)
    assert [r.image for r in sent] == ["a.png", "a.png", "c.png", "c.png", None, None]
    assert critiques.blind[0] == critiques.blind[1]
    assert len(sent) == evaluation.critique_count(duplicates, COMPACT)


@pytest.mark.parametrize(
    ("critique", "expected"),
    [
        (format_critique("red circle top left", "circle red found red yes", True), True),
        (format_critique("red circle top left", "circle red found red yes", False), False),
        (format_critique("blue circle top left", "circle red found blue no", False), True),
        (format_critique("nothing", "x", True), False),
        ("Judgement: Yes", False),
    ],
)
def test_a_judgement_follows_from_the_stated_facts(critique: str, expected: bool) -> None:
    """Whether the facts are true does not matter."""
    assert evaluation.judgement_follows(critique, "The circle is red.", "What color is the circle?") is expected


def test_a_right_judgement_from_false_facts_is_counted() -> None:
    def lucky(requests: list[Request]) -> list[Completion]:
        return [Completion(c.text.replace("red circle", "red star", 1), c.yes, c.no) for c in perfect(requests)]

    found = evaluation.measure(ITEMS, evaluation.judge_items(ITEMS, COMPACT, lucky))
    assert found["critique_right_by_false_facts"].value == 1.0


def test_the_fitted_temperature_calibrates_the_confidence() -> None:
    """Log-odds of 4 that are right in 3 of 4 cases should have been log(3), where they are many."""
    odds, right = [4.0] * 4000, [True, True, True, False] * 1000
    assert temperature_scaling.fit_temperature(odds, right) == pytest.approx(4 / math.log(3), rel=5e-3)
    assert temperature_scaling.fit_temperature([], []) == 1.0
    assert temperature_scaling.fit_temperature([1.0], [True]) == 1.0


def test_a_temperature_keeps_the_order_and_one_half() -> None:
    rewards = [temperature_scaling.calibrated_reward(yes, 1 - yes, 7.0) for yes in (0.0, 1e-9, 0.3, 0.5, 0.9, 1.0)]
    assert rewards == sorted(rewards)
    assert rewards[3] == 0.5
    assert temperature_scaling.calibrated_reward(0.0, 0.0, 3.0) == 0.5


def test_f1_of_detecting_wrong_responses_by_hand() -> None:
    # flagged: items 1, 2, 3; wrong: items 2, 3 -> precision 2/3, recall 1
    assert metrics.f1([0.9, 0.1, 0.2, 0.3], [True, True, False, False]).value == pytest.approx(0.8)


def test_a_lost_row_raises() -> None:
    RowCounts(3, 1, {"x": 1}, {"y": 1}).check("select")
    with pytest.raises(AssertionError, match="select"):
        RowCounts(3, 1, {"x": 1}).check("select")


def test_the_schema_accepts_a_report_and_rejects_unknown_keys(tmp_path: Path) -> None:
    from vlrm_ray.config import Config
    from vlrm_ray.store.ledger import Ledger

    ledger = Ledger(str(tmp_path))
    ledger.finish(0, "evaluate", {"metrics": {"ece": ece([0.5], [True]).as_json()}, "version": 0, "seconds": 1.0})
    found = json.loads(json.dumps(build_report(Config().model_dump(mode="json"), ledger, 1.0, 1)))
    jsonschema.validate(found, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, "extra": 1}, schema())


def test_images_with_held_out_combinations_and_what_is_stated_of_them_are_measured_apart() -> None:
    """One image has a yellow triangle, which critiques call a star and judge wrongly; the other one is described rightly."""
    new_facts = ("yellow triangle top left", "sign STOP middle right")
    items = [
        BenchItem("x-0", "reasoning", "compare", "a.png", "q", "r", "more", "fewer", FACTS),
        BenchItem("x-1", "reasoning", "compare", "b.png", "q", "r", "more", "fewer", new_facts),
    ]
    right, wrong = (
        (format_critique(seen, "x", True), format_critique(seen, "x", False))
        for seen in (", ".join(FACTS), "yellow star top left, sign STOP middle right")
    )
    pairs = [
        (ScoredCritique(right[0], 0.9, 0.1), ScoredCritique(right[1], 0.1, 0.9)),
        (ScoredCritique(wrong[1], 0.1, 0.9), ScoredCritique(wrong[0], 0.9, 0.1)),
    ]
    found = evaluation.measure(items, evaluation.BenchCritiques(pairs, pairs, pairs, []))
    assert {
        name: (found[name].value, found[name].n) for name in found if "combinations" in name or "stated" in name
    } == {
        "known_combinations_pair_accuracy": (1.0, 1),
        "new_combinations_pair_accuracy": (0.0, 1),
        "known_combinations_consistency": (1.0, 1),
        "new_combinations_consistency": (0.0, 1),
        "known_shapes_stated": (1.0, 2),
        "new_shapes_stated": (0.0, 2),
        "signs_stated": (1.0, 4),
    }


def test_the_prior_table_groups_pairs_by_noun_and_side() -> None:
    """Both pairs about circles are judged correctly; the one about a sign, against the prior, is not."""

    def about(right: str, wrong: str) -> BenchItem:
        return BenchItem("x-0", "hallucination", "attribute", "a.png", "q", "r", "c", "w", FACTS, (right, wrong))

    items = [about("red circle", "blue circle"), about("blue circle", "red circle"), about("TAXI", "STOP")]
    items.append(about("green circle", "blue circle"))
    good, bad = ScoredCritique("", 0.9, 0.1), ScoredCritique("", 0.1, 0.9)
    found = evaluation.prior_table(items, [(good, bad), (good, bad), (bad, good), (good, bad)])
    assert found == {
        "circle": {"agreeing_with_prior": {"value": 1.0, "n": 1}, "against_prior": {"value": 1.0, "n": 1}},
        "sign": {"against_prior": {"value": 0.0, "n": 1}},
    }
