"""The official formulas and their peculiarities, against values computed by hand on made-up files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import benchmark_files as files
from vlrm_ray.evaluation.benchmarks import BENCHMARKS, amber, pope, summary, vl_rewardbench
from vlrm_ray.evaluation.benchmarks.items import Item, Row
from vlrm_ray.evaluation.benchmarks.vl_rewardbench import VERDICT


def read(name: str, write: Callable[[Path], object], folder: Path) -> list[Item]:
    write(folder)
    return BENCHMARKS[name].read(folder, files.silent)


def official_metrics(
    name: str, write: Callable[[Path], object], folder: Path, outcomes: tuple[str, ...]
) -> dict[str, Any]:
    items = read(name, write, folder)
    return BENCHMARKS[name].official(files.predicted(BENCHMARKS[name], items, outcomes))


# --- VL-RewardBench -----------------------------------------------------------------------------


def test_vl_rewardbench_leaves_undecided_items_out_of_its_denominators(tmp_path: Path) -> None:
    outcomes = ("right", "wrong", "right", "right", "wrong", "wrong", "right", "tie")
    metrics = official_metrics("vl_rewardbench", files.vl_parquet, tmp_path, outcomes)
    # general 1 of 2; hallucination 2 of 3 with the tie left out; reasoning 1 of 2
    assert (metrics["general"], metrics["hallucination"], metrics["reasoning"]) == (0.5, pytest.approx(2 / 3), 0.5)
    assert metrics["overall"] == pytest.approx(4 / 7)
    assert metrics["macro"] == pytest.approx((0.5 + 2 / 3 + 0.5) / 3)
    assert metrics["agree_rate"] == pytest.approx(4 / 8, abs=1e-6)
    assert "script_stops" not in metrics


def test_vl_rewardbench_reports_where_its_script_divides_by_zero(tmp_path: Path) -> None:
    metrics = official_metrics("vl_rewardbench", files.vl_parquet, tmp_path, files.VL_OUTCOMES)
    assert metrics["script_stops"] == "ZeroDivisionError: no verdict in rlaif-v"
    assert metrics["hallucination"] == 1.0  # two right, one unparsed, one tie


def test_vl_rewardbench_without_a_group_has_no_macro_average(tmp_path: Path) -> None:
    rows = files.vl_rows("a.png")[:5]
    metrics = official_metrics("vl_rewardbench", lambda f: files.vl_parquet(f, rows), tmp_path, ("right",) * 5)
    assert (metrics["reasoning"], metrics["macro"], metrics["overall"]) == (None, None, 1.0)
    assert "reasoning" in metrics["script_stops"]


@pytest.mark.parametrize(
    ("item_id", "source"),
    [
        ("hallucination_pair-12", "povid"),
        ("RLAIF-V-3", "rlaif-v"),
        ("RLHF-V-3", "rlhf-v"),
        ("rlhf-v-3", "vlfeedback"),  # the official split is case-sensitive
        ("wildvision-battle-1", "wildvision-battle"),
        ("mathverse_1063", "reasoning_tasks"),
        ("mmmu_pro_1", "reasoning_tasks"),
        ("LRVInstruction-0000", "vlfeedback"),
        ("svit7", "vlfeedback"),
    ],
)
def test_the_source_is_the_part_of_the_id_before_the_first_dash(item_id: str, source: str) -> None:
    assert vl_rewardbench.source_of(item_id) == source


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Overall Judgment: Answer 2 is better.", "2"),
        ("Overall Judgment: Answer 1 is better. No: Answer 2 is better.", "2"),  # the last one counts
        ("therefore, Answer 1 is the slightly better one", "1"),
        ("Answer 2 is better.", None),
        ("Overall Judgment: Answer 2 is clearly better.", None),
    ],
)
def test_the_official_pattern_reads_a_verdict(text: str, number: str | None) -> None:
    match = VERDICT.search(text)
    assert (match and match[1]) == number


def test_vl_rewardbench_predictions_record_which_answer_was_first(tmp_path: Path) -> None:
    items = read("vl_rewardbench", files.vl_parquet, tmp_path)
    assert {item.first for item in items} == {0, 1}
    for item, row in zip(items, files.predicted(BENCHMARKS["vl_rewardbench"], items, files.VL_OUTCOMES), strict=True):
        meta = row["meta"]
        assert meta["random_number"] == item.first
        assert set(row) == {
            "id", "query", "response", "ranking", "models", "judge", "rationale", "query_source", "meta",
        }  # fmt: skip
        assert vl_rewardbench.status_of(row) == meta["flag_status"]
        if meta["flag_status"] != "doesntMatch":
            shown = [0, 1] if item.first == 0 else [1, 0]
            picked = shown[meta["filter_number"] - 1]
            assert meta["filter_choice"] == f"Overall Judgment: Answer {meta['filter_number']} is better."
            assert (row["ranking"][picked] == 0) is (meta["flag_status"] == "agree")


def test_items_with_the_same_id_have_different_keys(tmp_path: Path) -> None:
    items = read("vl_rewardbench", files.vl_parquet, tmp_path)
    assert items[2].item_id == items[7].item_id
    assert items[2].key != items[7].key
    assert (items[2].better, items[7].better) == (0, 1)


# --- Multimodal RewardBench ---------------------------------------------------------------------


def test_multimodal_rewardbench_draws_missing_verdicts_in_the_order_of_lines(tmp_path: Path) -> None:
    metrics = official_metrics("multimodal_rewardbench", files.mm_json, tmp_path, files.MM_OUTCOMES)
    # random.seed(123) gives 0.05 (A) and 0.09 (A): the unparsed row's label is B, the tied row's A
    assert metrics == {
        "all": pytest.approx(4 / 6),
        "safety/bias": 1.0,
        "safety/toxicity": 0.0,
        "reasoning/math": 1.0,
        "reasoning/coding": 0.0,
        "vqa": 1.0,
        "open_generation/correctness_task": 1.0,
    }


def test_multimodal_rewardbench_letters_stand_for_outputs_in_any_order(tmp_path: Path) -> None:
    items = read("multimodal_rewardbench", files.mm_json, tmp_path)
    rows = files.predicted(BENCHMARKS["multimodal_rewardbench"], items, ("right",) * 6)
    assert [row["output"] for row in rows] == ["[[A]]", "[[B]]"] * 3
    assert [row["Label"] for row in rows] == ["A", "B"] * 3
    assert {row["Meta"]["shown_first"] for row in rows} == {"Output1", "Output2"}


# --- MM-RLHF-RewardBench ------------------------------------------------------------------------


def test_mm_rlhf_acc_plus_counts_an_id_under_its_first_task(tmp_path: Path) -> None:
    metrics = official_metrics("mm_rlhf_rewardbench", files.rlhf_jsonl, tmp_path, files.RLHF_OUTCOMES)
    # pairs: 5 of 8; ids: a and d of five. Id d is short and mcq: it counts as correct under mcq only, and in both denominators
    assert (metrics["acc"], metrics["acc_plus"]) == (5 / 8, 2 / 5)
    assert (metrics["mcq_acc"], metrics["mcq_acc_plus"]) == (1.0, 1.0)
    assert (metrics["short_acc"], metrics["short_acc_plus"]) == (1.0, 0.0)
    assert (metrics["long_acc"], metrics["long_acc_plus"]) == (0.5, 0.0)
    assert (metrics["safety_acc"], metrics["video_acc"]) == (0.0, 0.0)  # a tie and a quarantined video are wrong


def test_mm_rlhf_predictions_keep_all_columns_and_add_rewards(tmp_path: Path) -> None:
    items = read("mm_rlhf_rewardbench", files.rlhf_jsonl, tmp_path)
    assert items[-1].problem == "video_not_supported"
    rows = files.predicted(BENCHMARKS["mm_rlhf_rewardbench"], items, files.RLHF_OUTCOMES)
    for before, after in zip(files.rlhf_rows(), rows, strict=True):
        assert {key: after[key] for key in before} == before
        assert set(after) - set(before) == {"rewards", "shown_first"}
    assert rows[0]["rewards"] == [0.9, 0.2]
    assert rows[4]["rewards"][0] == rows[4]["rewards"][1]


# --- POPE ---------------------------------------------------------------------------------------


def test_pope_by_hand(tmp_path: Path) -> None:
    metrics = official_metrics("pope", files.pope_files, tmp_path, files.POPE_OUTCOMES * 3)
    # yes: right, wrong, right; no: right, wrong, undecided, which the script reads as yes
    # TP 2, FN 1, TN 1, FP 2
    assert list(metrics) == ["coco_pope_random", "coco_pope_popular", "coco_pope_adversarial"]
    assert metrics["coco_pope_popular"] == {
        "accuracy": 0.5, "precision": 0.5, "recall": pytest.approx(2 / 3), "f1": pytest.approx(4 / 7),
        "yes_ratio": pytest.approx(4 / 6),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("Yes, there is.", True),
        ("No, there is no cup.", False),
        ("no", False),
        ("It is not there.", False),
        ("NO", True),
        ("Nope", True),
        ("I cannot see it", True),
        ("Yes. No.", True),  # the first sentence only
        ("undecided", True),
        ("", True),
    ],
)
def test_the_official_parser_reads_nearly_everything_as_yes(text: str, yes: bool) -> None:
    assert pope.says_yes(text) is yes


def test_pope_without_a_predicted_yes_stops_its_script(tmp_path: Path) -> None:
    outcomes = tuple("wrong" if label == "yes" else "right" for label in files.POPE_LABELS)
    metrics = official_metrics("pope", files.pope_files, tmp_path, outcomes * 3)["coco_pope_random"]
    assert (metrics["accuracy"], metrics["precision"], metrics["f1"]) == (0.5, None, None)
    assert "ZeroDivisionError" in metrics["script_stops"]


def test_always_yes_has_the_known_pope_metrics(tmp_path: Path) -> None:
    outcomes = tuple("right" if label == "yes" else "wrong" for label in files.POPE_LABELS)
    metrics = official_metrics("pope", files.pope_files, tmp_path, outcomes * 3)["coco_pope_random"]
    assert (metrics["accuracy"], metrics["f1"], metrics["yes_ratio"]) == (0.5, pytest.approx(2 / 3), 1.0)


def test_pope_writes_an_answer_file_for_each_question_file(tmp_path: Path) -> None:
    items = read("pope", files.pope_files, tmp_path)
    written = BENCHMARKS["pope"].files(files.predicted(BENCHMARKS["pope"], items, files.POPE_OUTCOMES * 3))
    answers = [json.loads(line) for line in written["answers/coco_pope_popular.jsonl"].splitlines()]
    assert [a["answer"] for a in answers] == ["Yes", "No", "No", "Yes", "Yes", "undecided"]
    assert [a["question_id"] for a in answers] == [1, 2, 3, 4, 5, 6]
    assert len(written["predictions.jsonl"].splitlines()) == 18


# --- AMBER --------------------------------------------------------------------------------------


def test_amber_by_hand(tmp_path: Path) -> None:
    metrics = official_metrics("amber", files.amber_files, tmp_path, files.AMBER_OUTCOMES)
    # truth   no no yes no no yes no; answered No Yes Yes No "" No No: right are 1, 3, 4 and 7
    # 4 answers No (3 of them right), 5 true No: P 3/4.001, R 3/5.001, F1 from the rounded 75.0 and 60.0
    assert metrics["discriminative"] == {"accuracy": 57.1, "precision": 75.0, "recall": 60.0, "f1": 66.7}
    # one of two: P 1/1.001 = 99.9, R 1/2.001 = 50.0, F1 2 * 0.999 * 0.5 / (1.499 + 0.001)
    assert metrics["existence"] == {"accuracy": 50.0, "precision": 99.9, "recall": 50.0, "f1": 66.6}
    # three kinds: each denominator starts at 0.001, so 2/3.003, 1/1.003, 1/2.003
    assert metrics["attribute"] == {"accuracy": 66.6, "precision": 99.7, "recall": 49.9, "f1": 66.5}
    assert metrics["relation"] == {"accuracy": 50.0, "precision": 50.0, "recall": 99.9, "f1": 66.6}


def test_amber_always_no_is_perfect_on_existence(tmp_path: Path) -> None:
    truth = [str(t) for kind, t in files.AMBER_TYPES if kind != "generative"]
    outcomes = tuple("right" if t == "no" else "wrong" for t in truth)
    metrics = official_metrics("amber", files.amber_files, tmp_path, outcomes)
    assert metrics["existence"]["recall"] == 100.0
    assert metrics["discriminative"]["recall"] == 100.0
    assert metrics["discriminative"]["accuracy"] == 71.4


def test_amber_accepts_only_the_exact_words() -> None:
    def row(response: str) -> Row:
        return {"id": 1, "type": "relation", "truth": "no", "response": response}

    assert amber.official([row("No")])["relation"]["accuracy"] == 99.9
    for response in ("no", "NO", "No.", ""):
        assert amber.official([row(response)])["relation"]["accuracy"] == 0.0


def test_amber_skips_captions_with_a_log_line(tmp_path: Path) -> None:
    messages: list[str] = []
    files.amber_files(tmp_path)
    items = BENCHMARKS["amber"].read(tmp_path, messages.append)
    assert [item.item_id for item in items] == [str(i) for i in range(2, 9)]
    assert len(messages) == 1
    assert messages[0].startswith("skipped 1 generative rows")
    written = BENCHMARKS["amber"].files(files.predicted(BENCHMARKS["amber"], items, files.AMBER_OUTCOMES))
    answers = json.loads(written["predictions.json"])
    assert answers[0] == {"id": 2, "response": "No"}
    assert [a["response"] for a in answers] == ["No", "Yes", "Yes", "No", "", "No", "No"]


# --- HallusionBench -----------------------------------------------------------------------------


def test_hallusionbench_by_hand(tmp_path: Path) -> None:
    metrics = official_metrics("hallusionbench", files.hallusion_json, tmp_path, files.HALLUSION_OUTCOMES)
    # right: VD 1 of 4; VS 3 of 6 with the unsure answer without a figure
    assert (metrics["aAcc"], metrics["VD_aAcc"], metrics["VS_aAcc"]) == (0.4, 0.25, 0.5)
    # figures: VD 0 (1 of 2), VD 1 (0 of 2), VS 1 (1 of 2), VS 2 (1 of 2): none whole
    assert (metrics["fAcc"], metrics["inconsistent"], metrics["wrong"]) == (0.0, 0.75, 0.25)
    # question pairs: only VS question 0 is right on all its rows
    assert metrics["qAcc"] == 0.25
    # easy groups: VD 0 and VS 0 of four; hard ones: VS 0 of four
    assert (metrics["easy_aAcc"], metrics["hard_aAcc"]) == (0.5, 0.25)
    # causes of the six errors (an unsure VS row without a figure is no error):
    # VD 0/1 vision; VD 1/0 vision, answer differs from the original; VD 1/1 vision; VS 0/1 language;
    # VS 1/1 language, the same wrong answer; VS 2/1 unsure after a wrong original, mixed
    assert (metrics["LH"], metrics["VI"], metrics["Mixed"]) == (2 / 6, 3 / 6, 1 / 6)
    # the script counts 9 of 10 answers as yes, 5 are true: 9 - 5 of 10
    assert metrics["yes_diff"] == pytest.approx(0.4)
    assert metrics["false_positive_ratio"] == pytest.approx(5 / 6)


def test_hallusionbench_all_right_stops_its_script_after_the_leaderboard(tmp_path: Path) -> None:
    metrics = official_metrics("hallusionbench", files.hallusion_json, tmp_path, ("right",) * 10)
    assert (metrics["aAcc"], metrics["fAcc"], metrics["qAcc"], metrics["false_positive_ratio"]) == (1.0, 1.0, 1.0, None)
    assert "after the leaderboard" in metrics["script_stops"]


def test_hallusionbench_without_hard_questions_stops_its_script(tmp_path: Path) -> None:
    rows = [row for row in files.hallusion_rows() if row["visual_input"] != "2"]
    metrics = official_metrics(
        "hallusionbench", lambda f: files.hallusion_json(f, rows), tmp_path, ("right",) * len(rows)
    )
    assert metrics["hard_aAcc"] is None
    assert metrics["script_stops"] == "ZeroDivisionError: no hard VD, hard VS questions"


def test_hallusionbench_reports_the_assertion_of_its_script(tmp_path: Path) -> None:
    rows = [*files.hallusion_rows(), files.hallusion_rows()[0]]
    metrics = official_metrics("hallusionbench", lambda f: files.hallusion_json(f, rows), tmp_path, ("right",) * 11)
    assert metrics["script_stops"].startswith("AssertionError: VD_chart_0_0_0")


def test_hallusionbench_files_make_the_script_run_without_gpt4(tmp_path: Path) -> None:
    items = read("hallusionbench", files.hallusion_json, tmp_path)
    assert [item.image is None for item in items] == [row["filename"] is None for row in files.hallusion_rows()]
    bench = BENCHMARKS["hallusionbench"]
    written = bench.files(files.predicted(bench, items, files.HALLUSION_OUTCOMES))
    vs = json.loads(written["hallusion_output_vs_model.json"])
    assert [row["gpt4v_output_gpt_check"] for row in vs] == ["2", "0", "1", "0", "1", "2"]
    assert [row["same"] for row in vs] == ["1", "1", "0", "1", "0", "0"]
    assert len(json.loads(written["HallusionBench_result.json"])) == 10


# --- properties for any outcome -----------------------------------------------------------------

OUTCOMES = st.sampled_from(("right", "wrong", "tie", "unparsed", "quarantined"))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Item]]:
    """The items of all made-up benchmarks."""
    writers: dict[str, Callable[[Path], object]] = {
        "vl_rewardbench": files.vl_parquet, "multimodal_rewardbench": files.mm_json, "pope": files.pope_files,
        "mm_rlhf_rewardbench": files.rlhf_jsonl, "amber": files.amber_files, "hallusionbench": files.hallusion_json,
        "labels": files.label_lines,
    }  # fmt: skip
    return {name: read(name, write, tmp_path_factory.mktemp(name)) for name, write in writers.items()}


def test_own_labels_are_reported_by_their_groups_and_ties_of_people_are_left_out(tmp_path: Path) -> None:
    """Equal rewards of the model are another tie: that pair has a better response, which the model did not find."""
    files.label_lines(tmp_path)
    said: list[str] = []
    bench = BENCHMARKS["labels"]
    items = bench.read(tmp_path, said.append)
    assert said == ["1 pairs without a better response (tie) are left out"]
    assert [item.better_and_worse for item in items] == [(f"A cup {i}.", f"No cup at all {i}.") for i in range(5)]
    assert len({item.item_id for item in items}) == 5
    outcomes = ("right", "wrong", "tie", "right", "right")
    judged = {(i.key, i.first): files.judged(i, o) for i, o in zip(items, outcomes, strict=True)}
    found = summary.build_summary(bench, items, judged, {})
    accuracies = {name: (group["accuracy"], group["n"]) for name, group in found["groups"].items()}
    assert accuracies == {"all": (1.0, 1), "counting": (0.5, 2), "places": (0.0, 1), "text in images": (1.0, 1)}
    assert (found["n"], found["ties"], found["overall"], found["macro"], found["official"]) == (5, 1, 0.6, 0.625, {})
    preferred = [
        json.loads(line)["preferred"]
        for line in bench.files(summary.prediction_rows(bench, items, judged))["predictions.jsonl"].splitlines()
    ]
    assert preferred == ["chosen", "rejected", None, "chosen", "chosen"]


@pytest.mark.parametrize("name", BENCHMARKS)
@settings(deadline=None)
@given(data=st.data())
def test_undecided_items_count_as_wrong_and_every_file_is_json(
    everything: dict[str, list[Item]], name: str, data: st.DataObject
) -> None:
    items, bench = everything[name], BENCHMARKS[name]
    outcomes = data.draw(st.lists(OUTCOMES, min_size=len(items), max_size=len(items)))
    judged = {(i.key, i.first): files.judged(i, o) for i, o in zip(items, outcomes, strict=True)}
    metrics = summary.build_summary(bench, items, judged, {})
    assert metrics["overall"] == pytest.approx(outcomes.count("right") / len(items), abs=1e-6)
    lenient = {"vl_rewardbench": "overall", "multimodal_rewardbench": "all", "hallusionbench": "aAcc"}
    official = metrics["official"].get(lenient.get(name, ""))
    assert official is None or official >= metrics["overall"] - 1e-6
    json.loads(json.dumps(metrics, allow_nan=False))
    for file, text in bench.files(summary.prediction_rows(bench, items, judged)).items():
        for part in text.splitlines() if file.endswith("l") else [text]:
            json.loads(part)
