"""Going through a benchmark: order, judging, resuming, summary, comparison."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit import benchmark_files as files
from vlrm_ray.config import asset_path
from vlrm_ray.engines import Completion, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks import BENCHMARKS, compare, judging, summary, yes_no
from vlrm_ray.evaluation.benchmarks.context_budget import ContextBudget
from vlrm_ray.evaluation.benchmarks.items import Item, Status
from vlrm_ray.evaluation.benchmarks.judging import Answer, JudgeSettings, RefusedRequest, decide
from vlrm_ray.evaluation.benchmarks.pictures import Pictures
from vlrm_ray.evaluation.benchmarks.scoring import Batch, Log, Scorer
from vlrm_ray.preferences.critique import COMPACT, DETAILED, compose
from vlrm_ray.store.ledger import Ledger

POINTWISE = JudgeSettings.create("pointwise", COMPACT, 1, 100, 0.8, 0.5)
PAIRWISE = JudgeSettings.create("pairwise", DETAILED, 3, 100, 0.8, 0.5)
YES, NO = Completion(compose("x", "y", True), 0.8, 0.1), Completion(compose("x", "y", False), 0.1, 0.8)
ITEM = Item(0, "a", ("g",), "What is it?", None, ("A cup.", "A saucer."), 0)


# --- order and requests -----------------------------------------------------------------------------


def test_the_order_follows_from_the_id_and_is_balanced() -> None:
    firsts = [replace(ITEM, item_id=str(i)).first for i in range(1000)]
    assert firsts == [replace(ITEM, item_id=str(i), position=i + 7).first for i in range(1000)]
    assert 440 < sum(firsts) < 560


def test_a_pairwise_judge_sees_both_answers_in_the_shown_order() -> None:
    for first, one, two in ((0, "A cup.", "A saucer."), (1, "A saucer.", "A cup.")):
        (request,) = judging.requests(ITEM, first, PAIRWISE, "x.png")
        assert f"Answer 1: {one}\n\nAnswer 2: {two}\n" in request.text


def test_a_pointwise_judge_sees_one_answer_at_a_time() -> None:
    one, two = judging.requests(ITEM, 1, POINTWISE, None)
    assert (one.text, two.text) == (COMPACT.prompt("What is it?", "A saucer."), COMPACT.prompt("What is it?", "A cup."))


def test_any_text_can_be_asked() -> None:
    item = replace(ITEM, question="<image>\nWhat \ud800 is it?")
    for request in judging.requests(item, 0, POINTWISE, None):
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
    found = decide(ITEM, 1, POINTWISE, [[NO, NO], [YES, NO]])  # shown first: the second answer
    assert (found.status, found.pick) == (Status.DECIDED, 0)
    assert found.rewards == (0.5, pytest.approx(1 / 9, abs=1e-6))


def test_equal_rewards_are_a_tie() -> None:
    found = decide(ITEM, 0, POINTWISE, [[YES], [YES]])
    assert (found.status, found.pick, found.right(ITEM)) == (Status.TIE, None, False)


@pytest.mark.parametrize(
    "unreadable",
    [
        Completion("I do not know.", 0.8, 0.1),  # no judgement
        Completion(compose("x", "y", True), 0.2, 0.1),  # too little label mass
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
    found = decide(ITEM, first, PAIRWISE, [[Completion(text) for text in texts]])
    assert (found.status, found.pick) == (status, pick)


def test_a_request_that_the_engine_refuses_quarantines_its_item() -> None:
    found = decide(ITEM, 0, POINTWISE, [[YES], RefusedRequest("too long")])
    assert (found.status, found.reason) == (Status.QUARANTINED, "too long")


# --- going through ------------------------------------------------------------------------------


def judge_for_cups(batches: Iterator[Batch]) -> Iterator[tuple[int, list[Answer]]]:
    """Likes longer prompts; answers two batches at a time, the later one first."""
    waiting = []
    for number, batch in enumerate(batches):
        answers: list[Answer] = [[replace(YES, yes=0.5 + len(request.text) / 1000)] for request in batch]
        waiting.append((number, answers))
        if len(waiting) == 2:
            yield waiting.pop()
            yield waiting.pop()
    yield from waiting


def scorer(folder: Path, manner: JudgeSettings = POINTWISE) -> Scorer:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    room = ContextBudget(Path(asset_path("assets:vlm")), 400)
    return Scorer(manner, Pictures([folder], Ledger(str(out))), room, Log(out / "judged.jsonl"), size=4)


def vl_items(folder: Path) -> list[Item]:
    rows = files.vl_rows({"bytes": files.png(), "path": "x.png"})
    rows[2]["image"] = {"bytes": b"broken", "path": "x.png"}
    rows[3]["response"][1] = "word " * 200_000  # a megabyte
    files.vl_parquet(folder / "data", rows)
    return BENCHMARKS["vl_rewardbench"].read(folder / "data", files.silent)


def test_bad_items_are_quarantined_and_the_rest_goes_on(tmp_path: Path) -> None:
    items, done = vl_items(tmp_path), []
    scored = scorer(tmp_path)
    scored.score(scored.missing(items, both=False), judge_for_cups, done.append)
    assert sum(done) == len(items)
    found = summary.summarise(BENCHMARKS["vl_rewardbench"], items, scored.log.judged, {})
    assert found["details"]["quarantined"] == {"image_undecodable": 1, "longer_than_the_model_takes": 1}
    assert found["n"] == 8
    assert found["overall"] == 1 / 8  # the longer answer wins: right only in the reversed pair
    assert found["unparsed"] == found["ties"] == 0


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    items = vl_items(tmp_path)

    def dies(batches: Iterator[Batch]) -> Iterator[tuple[int, list[Answer]]]:
        yield from list(judge_for_cups(batches))[:1]
        raise KeyboardInterrupt

    first = scorer(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.score(first.missing(items, both=True), dies, lambda count: None)
    with first.log.path.open("a") as file:
        file.write('{"key": "half a li')
    again = scorer(tmp_path)
    kept = dict(again.log.judged)
    assert 0 < len(kept) < 16
    again.score(again.missing(items, both=True), judge_for_cups, lambda count: None)
    assert len(again.log.judged) == 16
    assert len(again.log.path.read_text().splitlines()) == 16
    assert {place: again.log.judged[place] for place in kept} == kept
    assert Log(again.log.path).judged == again.log.judged


def test_a_changed_answer_is_judged_anew(tmp_path: Path) -> None:
    items = vl_items(tmp_path)
    scored = scorer(tmp_path)
    scored.score(scored.missing(items, both=False), judge_for_cups, lambda count: None)
    changed = [replace(items[0], answers=("one", "another")), *items[1:]]
    assert [item.position for item, _ in scored.missing(changed, both=False)] == [0]


def test_disagreement_is_measured_where_both_orders_are_judged(tmp_path: Path) -> None:
    def always_one(batches: Iterator[Batch]) -> Iterator[tuple[int, list[Answer]]]:
        for number, batch in enumerate(batches):
            yield number, [[Completion("Overall Judgment: Answer 1 is better.")] for _ in batch]

    items = vl_items(tmp_path)
    scored = scorer(tmp_path, PAIRWISE)
    bench = BENCHMARKS["vl_rewardbench"]
    scored.score(scored.missing(items, both=False), always_one, lambda count: None)
    assert summary.summarise(bench, items, scored.log.judged, {})["position_disagreement"] is None
    scored.score(scored.missing(items, both=True), always_one, lambda count: None)
    found = summary.summarise(bench, items, scored.log.judged, {})
    assert found["position_disagreement"] == 1.0  # of six: two are quarantined in both orders
    good = [i for n, i in enumerate(items) if n not in (2, 3)]
    assert found["overall"] == round(sum(i.better == i.first for i in good) / 8, 6)


def test_the_summary_has_the_promised_keys_and_baselines(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    files.pope_files(tmp_path / "data")
    bench = BENCHMARKS["pope"]
    items = bench.read(tmp_path / "data", files.silent)
    judged = {(i.key, i.first): files.judged(i, o) for i, o in zip(items, files.POPE_OUTCOMES * 3, strict=True)}
    found = summary.summarise(bench, items, judged, {"k": 1})
    assert set(found) == {
        "benchmark", "n", "unparsed", "ties", "groups", "overall", "macro", "baselines", "position_disagreement",
        "official", "details",
    }  # fmt: skip
    assert list(found["groups"]) == ["adversarial", "popular", "random"]
    assert found["groups"]["random"]["accuracy"] == 0.5  # 3 of 6: the tie is wrong here
    assert (found["n"], found["ties"], found["overall"], found["macro"]) == (18, 3, 0.5, 0.5)
    # "Yes, there is a cup1 ..." and "No, there is no cup1 ..." are as long as each other
    assert (found["baselines"]["pick_shorter"], found["baselines"]["pick_longer"]) == (0.0, 0.0)
    assert (found["baselines"]["always_yes"], found["baselines"]["always_no"]) == (0.5, 0.5)
    columns, rows = summary.table(json.loads(json.dumps(found)))
    assert all(len(row) == len(columns) for row in rows)


# --- comparing ----------------------------------------------------------------------------------


def test_mcnemar_by_hand() -> None:
    # discordant 1 and 5: two-sided binomial 2 * (1 + 6) / 64
    a = [True] * 4 + [True] + [False] * 5
    b = [True] * 4 + [False] + [True] * 5
    found = compare.difference(a, b)
    assert (found.only_a, found.only_b, found.a, found.b) == (1, 5, 0.5, 0.9)
    assert found.p == pytest.approx(14 / 64)
    assert found.low < 0.4 < found.high


def test_equal_results_do_not_differ() -> None:
    found = compare.difference([True, False, True], [True, False, True])
    assert (found.p, found.low, found.high) == (1.0, 0.0, 0.0)


def finished(folder: Path, bench: str, right: dict[str, bool]) -> Path:
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps({"benchmark": bench}))
    files.lines(folder / "items.jsonl", [{"key": k, "groups": ["g"], "right": r} for k, r in right.items()])
    return folder


def test_only_common_items_are_compared(tmp_path: Path) -> None:
    a = compare.load(finished(tmp_path / "a", "pope", {"1": True, "2": False, "3": True}))
    b = compare.load(finished(tmp_path / "b", "pope", {"2": True, "3": True, "4": True}) / "summary.json")
    found = compare.differences(a, b)
    assert {name: d.n for name, d in found.items()} == {"overall": 2, "g": 2}
    assert (found["g"].a, found["g"].b) == (0.5, 1.0)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    a = compare.load(finished(tmp_path / "a", "pope", {"1": True}))
    with pytest.raises(UserError, match="is amber"):
        compare.common(a, compare.load(finished(tmp_path / "b", "amber", {"1": True})))
    with pytest.raises(UserError, match="no item in common"):
        compare.common(a, compare.load(finished(tmp_path / "c", "pope", {"2": True})))
    with pytest.raises(UserError, match="holds no"):
        compare.load(tmp_path)


def test_several_critiques_are_sampled_and_one_is_greedy() -> None:
    assert POINTWISE.sampling == Sampling(100, 0.0, n=1)
    assert PAIRWISE.sampling == Sampling(100, 0.8, n=3)
