"""Scoring of a benchmark: order of answers, judging, resume, summary, comparison."""

import json
from collections.abc import Iterator
from dataclasses import replace
from math import exp
from pathlib import Path

import pytest

from tests.unit import benchmark_files as files
from vlrm_ray.config import asset_path
from vlrm_ray.engines import Completion, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks import BENCHMARKS, compare, judging, results, summary, yes_no
from vlrm_ray.evaluation.benchmarks.context_budget import ContextBudget
from vlrm_ray.evaluation.benchmarks.images import ImageResolver
from vlrm_ray.evaluation.benchmarks.items import Item, Status
from vlrm_ray.evaluation.benchmarks.judging import JudgeOutput, JudgeSettings, decide
from vlrm_ray.evaluation.benchmarks.scoring import Batch, JudgementLog, Scorer
from vlrm_ray.preferences.critique import COMPACT, DETAILED, format_critique
from vlrm_ray.reward.scoring import Scoring
from vlrm_ray.store.ledger import Ledger

POINTWISE = JudgeSettings.create("pointwise", COMPACT, 1, 100, 0.8, 0.5)
PAIRWISE = JudgeSettings.create("pairwise", DETAILED, 3, 100, 0.8, 0.5)
YES, NO = Completion(format_critique("x", "y", True), 0.8, 0.1), Completion(format_critique("x", "y", False), 0.1, 0.8)
ITEM = Item(0, "a", ("g",), "What is it?", None, ("A cup.", "A saucer."), 0)


# --- order and requests -----------------------------------------------------------------------------


def test_the_order_is_derived_from_the_id_and_balanced() -> None:
    firsts = [replace(ITEM, item_id=str(i)).first for i in range(1000)]
    assert firsts == [replace(ITEM, item_id=str(i), position=i + 7).first for i in range(1000)]
    assert 440 < sum(firsts) < 560


def test_a_pairwise_judge_sees_both_answers_in_the_shown_order() -> None:
    for first, answer_1, answer_2 in ((0, "A cup.", "A saucer."), (1, "A saucer.", "A cup.")):
        (request,) = judging.build_requests(ITEM, first, PAIRWISE, "x.png")
        assert f"Answer 1: {answer_1}\n\nAnswer 2: {answer_2}\n" in request.text


def test_a_pointwise_judge_sees_one_answer_at_a_time() -> None:
    first, second = judging.build_requests(ITEM, 1, POINTWISE, None)
    assert (first.text, second.text) == (
        COMPACT.prompt("What is it?", "A saucer."),
        COMPACT.prompt("What is it?", "A cup."),
    )


def test_text_that_a_tokenizer_rejects_is_cleaned() -> None:
    item = replace(ITEM, question="<image>\nWhat \ud800 is it?")
    for request in judging.build_requests(item, 0, POINTWISE, None):
        assert request.text.encode("utf-8").startswith(b"Question: What ? is it?")


@pytest.mark.parametrize(
    ("question", "yes", "no"),
    [
        ("Is there a red circle?", "Yes, there is a red circle.", "No, there is no red circle."),
        ("is there an orange in the image?", "Yes, there is an orange in the image.", "No, there is no orange in the image."),
        ("Is the sky sunny?", "Yes.", "No."),
        ("", "Yes.", "No."),
    ],
)  # fmt: skip
def test_a_yes_no_question_becomes_two_responses(question: str, yes: str, no: str) -> None:
    assert yes_no.answers(question) == (yes, no)


# --- deciding -----------------------------------------------------------------------------------


def test_the_higher_mean_reward_wins() -> None:
    result = decide(ITEM, 1, POINTWISE, [[NO, NO], [YES, NO]])  # shown first: the second answer
    assert (result.status, result.pick) == (Status.DECIDED, 0)
    assert result.rewards == (0.5, pytest.approx(1 / 9, abs=1e-6))


def test_several_critiques_are_averaged_after_the_calibration_as_in_scoring() -> None:
    """A sure Yes and a slight No outweigh two mild Yes only after the calibration."""

    def critiques(*odds: float) -> JudgeOutput:
        return [Completion(format_critique("x", "y", odd > 0), 1 / (1 + exp(-odd)), 1 / (1 + exp(odd))) for odd in odds]

    outputs = [critiques(10, -0.2), critiques(1.2, 1.2)]
    for calibration, pick in ((None, 1), (6.26, 0)):
        settings = JudgeSettings.create("pointwise", COMPACT, 2, 100, 0.8, 0.5, calibration)
        result = decide(ITEM, 0, settings, outputs)
        assert result.pick == pick
        scoring = Scoring.create(COMPACT, 2, 100, 0.8, 0.5, calibration, with_texts=False)
        assert result.rewards == tuple(scoring.score(group).reward for group in outputs)


def test_equal_rewards_are_a_tie() -> None:
    result = decide(ITEM, 0, POINTWISE, [[YES], [YES]])
    assert (result.status, result.pick, result.is_correct(ITEM)) == (Status.TIE, None, False)


@pytest.mark.parametrize(
    "unreadable",
    [
        Completion("I do not know.", 0.8, 0.1),  # no judgement
        Completion(format_critique("x", "y", True), 0.2, 0.1),  # too little label mass
        Completion(""),
    ],
)
def test_a_side_without_a_readable_critique_leaves_the_item_unparsed(unreadable: Completion) -> None:
    assert decide(ITEM, 0, POINTWISE, [[YES], [unreadable]]).status is Status.UNPARSED
    assert decide(ITEM, 0, POINTWISE, [[NO, unreadable], [YES]]).pick == 1  # a readable one is enough


@pytest.mark.parametrize(
    ("numbers", "first", "status", "pick"),
    [
        ("112", 0, Status.DECIDED, 0),
        ("112", 1, Status.DECIDED, 1),
        ("2", 1, Status.DECIDED, 0),
        ("12", 0, Status.TIE, None),
        ("", 0, Status.UNPARSED, None),
        ("33", 0, Status.UNPARSED, None),
    ],
)
def test_a_pairwise_judge_decides_by_majority(numbers: str, first: int, status: Status, pick: int | None) -> None:
    texts = [*(f"So. **Overall Judgment:**\nAnswer {n} is better." for n in numbers), "Hard to say."]
    result = decide(ITEM, first, PAIRWISE, [[Completion(text) for text in texts]])
    assert (result.status, result.pick) == (status, pick)


def test_a_request_that_the_engine_refuses_quarantines_its_item() -> None:
    result = decide(ITEM, 0, POINTWISE, [[YES], [Completion("", refused="too long")]])
    assert (result.status, result.reason) == (Status.QUARANTINED, "too long")


# --- scoring ------------------------------------------------------------------------------------


def judge_for_cups(batches: Iterator[Batch]) -> Iterator[tuple[int, list[JudgeOutput]]]:
    """A judge that prefers longer answers; yields batches in pairs, the later one first."""
    waiting = []
    for number, batch in enumerate(batches):
        outputs: list[JudgeOutput] = [[replace(YES, yes=0.5 + len(request.text) / 1000)] for request in batch]
        waiting.append((number, outputs))
        if len(waiting) == 2:
            yield waiting.pop()
            yield waiting.pop()
    yield from waiting


def scorer(folder: Path, settings: JudgeSettings = POINTWISE) -> Scorer:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    budget = ContextBudget(Path(asset_path("assets:vlm")), 400)
    images = ImageResolver([folder], Ledger(str(out)))
    return Scorer(settings, images, budget, JudgementLog(out / "judged.jsonl"), batch_size=4)


def vl_items(folder: Path) -> list[Item]:
    rows = files.vl_rows({"bytes": files.png(), "path": "x.png"})
    rows[2]["image"] = {"bytes": b"broken", "path": "x.png"}
    rows[3]["response"][1] = "word " * 200_000  # a megabyte
    files.vl_parquet(folder / "data", rows)
    return BENCHMARKS["vl_rewardbench"].read(folder / "data", files.silent)


def test_bad_items_are_quarantined_and_the_others_are_judged(tmp_path: Path) -> None:
    items, done = vl_items(tmp_path), []
    scored = scorer(tmp_path)
    scored.score(scored.missing(items, both=False), judge_for_cups, done.append)
    assert sum(done) == len(items)
    result = summary.build_summary(BENCHMARKS["vl_rewardbench"], items, scored.log.judged, {})
    assert result["details"]["quarantined"] == {"image_undecodable": 1, "longer_than_the_model_takes": 1}
    assert result["n"] == 8
    assert result["overall"] == 1 / 8  # the longer answer wins: right only in the reversed pair
    assert result["unparsed"] == result["ties"] == 0


def test_an_interrupted_run_resumes(tmp_path: Path) -> None:
    items = vl_items(tmp_path)

    def interrupted(batches: Iterator[Batch]) -> Iterator[tuple[int, list[JudgeOutput]]]:
        yield from list(judge_for_cups(batches))[:1]
        raise KeyboardInterrupt

    first = scorer(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.score(first.missing(items, both=True), interrupted, lambda count: None)
    with first.log.path.open("a") as file:
        file.write('{"key": "half a li')
    second = scorer(tmp_path)
    kept = dict(second.log.judged)
    assert 0 < len(kept) < 16
    second.score(second.missing(items, both=True), judge_for_cups, lambda count: None)
    assert len(second.log.judged) == 16
    assert len(second.log.path.read_text().splitlines()) == 16
    assert {key: second.log.judged[key] for key in kept} == kept
    assert JudgementLog(second.log.path).judged == second.log.judged


def test_quarantined_items_are_tried_again_once_their_reason_may_be_gone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    files.pope_files(tmp_path / "data")
    items = BENCHMARKS["pope"].read(tmp_path / "data", files.silent)
    first = scorer(tmp_path)  # looks the images up in another folder
    todo = first.missing(items, both=False)
    assert first.quarantine_leading(todo) == []
    assert {judgement.reason for judgement in first.log.judged.values()} == {"image_missing"}
    with pytest.raises(
        UserError, match=rf"image_missing 18 of 18 \(first: .* image a\.png\); .*--images {tmp_path}/data,"
    ):
        results.check_any_judged(items, first.log.judged, str(tmp_path), tmp_path)
    assert scorer(tmp_path).missing(items, both=False) == []
    second = scorer(tmp_path)
    second.images = ImageResolver([tmp_path / "data"], Ledger(str(tmp_path / "out")))
    assert second.missing(items, both=False) == todo
    assert second.quarantine_leading(todo) == todo
    second.score(todo, judge_for_cups, lambda count: None)
    results.check_any_judged(items, JudgementLog(second.log.path).judged, str(tmp_path), tmp_path)


def test_an_item_that_the_engine_refused_is_tried_again(tmp_path: Path) -> None:
    def refusing(batches: Iterator[Batch]) -> Iterator[tuple[int, list[JudgeOutput]]]:
        for number, batch in enumerate(batches):
            yield number, [[Completion("", refused="refused by the engine: x")] for _ in batch]

    items = vl_items(tmp_path)[:1]
    scored = scorer(tmp_path)
    scored.score(scored.missing(items, both=False), refusing, lambda count: None)
    assert scored.log.judged[items[0].key, items[0].first].reason == "refused by the engine: x"
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UserError, match="no accuracy: refused by the engine: x 1 of 1"):
        results.check_any_judged(items, scored.log.judged, str(tmp_path), tmp_path)
    assert not (tmp_path / "summary.json").exists()
    assert len(scored.missing(items, both=False)) == 1


def test_an_item_with_a_changed_answer_is_judged_again(tmp_path: Path) -> None:
    items = vl_items(tmp_path)
    scored = scorer(tmp_path)
    scored.score(scored.missing(items, both=False), judge_for_cups, lambda count: None)
    changed = [replace(items[0], answers=("one", "another")), *items[1:]]
    assert [item.position for item, _ in scored.missing(changed, both=False)] == [0]


def test_disagreement_is_measured_where_both_orders_are_judged(tmp_path: Path) -> None:
    def always_one(batches: Iterator[Batch]) -> Iterator[tuple[int, list[JudgeOutput]]]:
        for number, batch in enumerate(batches):
            yield number, [[Completion("Overall Judgment: Answer 1 is better.")] for _ in batch]

    items = vl_items(tmp_path)
    scored = scorer(tmp_path, PAIRWISE)
    bench = BENCHMARKS["vl_rewardbench"]
    scored.score(scored.missing(items, both=False), always_one, lambda count: None)
    assert summary.build_summary(bench, items, scored.log.judged, {})["position_disagreement"] is None
    scored.score(scored.missing(items, both=True), always_one, lambda count: None)
    result = summary.build_summary(bench, items, scored.log.judged, {})
    assert result["position_disagreement"] == 1.0  # of six: two are quarantined in both orders
    good = [i for n, i in enumerate(items) if n not in (2, 3)]
    assert result["overall"] == round(sum(i.better == i.first for i in good) / 8, 6)


def test_the_summary_has_the_documented_keys_and_baselines(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    files.pope_files(tmp_path / "data")
    bench = BENCHMARKS["pope"]
    items = bench.read(tmp_path / "data", files.silent)
    judged = {(i.key, i.first): files.judged(i, o) for i, o in zip(items, files.POPE_OUTCOMES * 3, strict=True)}
    result = summary.build_summary(bench, items, judged, {"k": 1})
    assert set(result) == {
        "benchmark", "n", "unparsed", "ties", "groups", "overall", "macro", "baselines", "position_disagreement",
        "official", "details", "by_length",
    }  # fmt: skip
    assert result["by_length"] == {}, "of Yes and No the length says nothing"
    assert list(result["groups"]) == ["adversarial", "popular", "random"]
    assert result["groups"]["random"]["accuracy"] == 0.5  # 3 of 6: the tie is wrong here
    assert (result["n"], result["ties"], result["overall"], result["macro"]) == (18, 3, 0.5, 0.5)
    # "Yes, there is a cup1 ..." and "No, there is no cup1 ..." are as long as each other
    assert (result["baselines"]["pick_shorter"], result["baselines"]["pick_longer"]) == (0.0, 0.0)
    assert (result["baselines"]["always_yes"], result["baselines"]["always_no"]) == (0.5, 0.5)
    columns, rows = summary.summary_table(json.loads(json.dumps(result)))
    assert all(len(row) == len(columns) for row in rows)


def test_accuracy_is_stated_by_which_answer_is_longer(tmp_path: Path) -> None:
    """A judge for the longer answer is right where that is the better one: in one of eight pairs."""
    files.vl_parquet(tmp_path / "data")
    items = BENCHMARKS["vl_rewardbench"].read(tmp_path / "data", files.silent)
    scored = scorer(tmp_path)
    scored.score(scored.missing(items, both=False), judge_for_cups, lambda count: None)
    result = summary.build_summary(BENCHMARKS["vl_rewardbench"], items, scored.log.judged, {})
    accuracies = {side: (part["accuracy"], part["n"]) for side, part in result["by_length"].items()}
    assert accuracies == {"shorter": (0.0, 7), "longer": (1.0, 1)}
    assert ["better answer is longer", "1.000", "[0.207, 1.000]", "1"] in summary.summary_table(result)[1]


# --- comparing ----------------------------------------------------------------------------------


def test_mcnemar_by_hand() -> None:
    # discordant 1 and 5: two-sided binomial 2 * (1 + 6) / 64
    a = [True] * 4 + [True] + [False] * 5
    b = [True] * 4 + [False] + [True] * 5
    result = compare.difference(a, b, range(10))
    assert (result.only_a, result.only_b, result.a, result.b) == (1, 5, 0.5, 0.9)
    assert result.p == pytest.approx(14 / 64)
    assert result.low < 0.4 < result.high


def test_equal_results_do_not_differ() -> None:
    result = compare.difference([True, False, True], [True, False, True], range(3))
    assert (result.p, result.low, result.high) == (1.0, 0.0, 0.0)


def finished(folder: Path, bench: str, right: dict[str, bool]) -> str:
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps({"benchmark": bench}))
    files.lines(folder / "items.jsonl", [{"key": k, "groups": ["g"], "right": r} for k, r in right.items()])
    return str(folder)


def test_items_about_one_image_are_not_independent(tmp_path: Path) -> None:
    """All 18 questions are about one image. Of results by earlier versions nothing is known about the images."""
    files.pope_files(tmp_path / "data")
    bench = BENCHMARKS["pope"]
    items = bench.read(tmp_path / "data", files.silent)
    a, b = ({(i.key, i.first): files.judged(i, outcome) for i in items} for outcome in ("wrong", "right"))
    found = summary.build_summary(bench, items, b, {})
    low, high = found["details"]["overall_ci95"]
    assert (found["overall"], low < 0.3, high) == (1.0, True, 1.0)
    for name, judged in (("a", a), ("b", b)):
        results.write_results(bench, items, judged, {}, str(tmp_path / name))
    difference = compare.differences(*(compare.load(str(tmp_path / name)) for name in "ab"))["overall"]
    assert (difference.n, difference.clusters, difference.p) == (18, 1, 1.0)
    for name in "ab":
        rows = [json.loads(line) for line in (tmp_path / name / "items.jsonl").read_text().splitlines()]
        files.lines(tmp_path / name / "items.jsonl", [{k: v for k, v in row.items() if k != "cluster"} for row in rows])
    difference = compare.differences(*(compare.load(str(tmp_path / name)) for name in "ab"))["overall"]
    assert (difference.clusters, difference.p < 1e-4) == (18, True)


def test_without_an_image_the_question_is_what_items_share() -> None:
    assert replace(ITEM, answers=("one", "two")).cluster == ITEM.cluster != replace(ITEM, question="Why?").cluster
    with_image = replace(ITEM, image="a.png")
    assert replace(with_image, question="Why?").cluster == with_image.cluster != replace(ITEM, image=b"content").cluster


def test_only_common_items_are_compared(tmp_path: Path) -> None:
    a = compare.load(finished(tmp_path / "a", "pope", {"1": True, "2": False, "3": True}))
    b = compare.load(finished(tmp_path / "b", "pope", {"2": True, "3": True, "4": True}) + "/summary.json")
    result = compare.differences(a, b)
    assert {name: d.n for name, d in result.items()} == {"overall": 2, "g": 2}
    assert (result["g"].a, result["g"].b) == (0.5, 1.0)


def test_results_that_cannot_be_compared_are_rejected(tmp_path: Path) -> None:
    a = compare.load(finished(tmp_path / "a", "pope", {"1": True}))
    with pytest.raises(UserError, match="of amber"):
        compare.common_items(a, compare.load(finished(tmp_path / "b", "amber", {"1": True})))
    with pytest.raises(UserError, match="no item in common"):
        compare.common_items(a, compare.load(finished(tmp_path / "c", "pope", {"2": True})))
    with pytest.raises(UserError, match=r"has no summary\.json"):
        compare.load(str(tmp_path))


def test_several_critiques_are_sampled_and_one_is_greedy() -> None:
    assert POINTWISE.sampling == Sampling(100, 0.0, n=1, judgement="ask")
    assert PAIRWISE.sampling == Sampling(100, 0.8, n=3, judgement="none")
