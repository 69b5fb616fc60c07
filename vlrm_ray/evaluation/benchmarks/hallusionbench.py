"""HallusionBench (Guan et al. 2023), scored like the repository's `evaluation.py`, without calls to GPT-4.

VD questions are about a figure (visual dependent); VS questions can be answered without one (visual supplement). A row
without visual input is judged without an image. An undecided answer is "unsure", which the official rule accepts as
correct for a VS question without a figure.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import StrictStr

from vlrm_ray.evaluation.benchmarks import yes_no
from vlrm_ray.evaluation.benchmarks.files import Record, find_files, read_rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row, ratio

CHECK = "gpt4v_output_gpt_check"
WRONG, RIGHT, UNSURE = "0", "1", "2"
"""Values of the column `CHECK`, in which the official script stores GPT-4's verdict on an answer."""
_LABEL_TO_ANSWER = {"0": yes_no.NO, "1": yes_no.YES}


class Question(Record):
    """A row of `HallusionBench.json`."""

    category: Literal["VD", "VS"]
    subcategory: StrictStr
    visual_input: Literal["0", "1", "2"]
    set_id: StrictStr
    figure_id: StrictStr
    sample_note: Any = ""
    question_id: StrictStr
    question: StrictStr
    gt_answer: Literal["0", "1"]
    gt_answer_details: Any = ""
    filename: StrictStr | None = None


def read(folder: Path, log: LogFn) -> list[Item]:
    """Read the items of `HallusionBench.json`."""
    items: list[Item] = []
    for path in find_files(folder, ("HallusionBench.json", "data/HallusionBench.json"), "HallusionBench.json"):
        for number, row in read_rows(path, Question):
            columns = row.model_dump()
            items.append(
                Item(
                    len(items), _question_name(columns, "figure_id"), (row.category, f"{row.category}/{row.subcategory}"),
                    row.question, None if row.visual_input == "0" else row.filename or "",
                    yes_no.answers(row.question), _LABEL_TO_ANSWER[row.gt_answer], columns, f"{path} row {number}",
                )
            )  # fmt: skip
    return items


def predict(item: Item, judgement: Judgement) -> Row:
    """The file's row with the prediction and the verdict that GPT-4 would give on it."""
    check = UNSURE if judgement.pick is None else RIGHT if judgement.is_correct(item) else WRONG
    return {**item.row, "model_prediction": yes_no.word(judgement.pick, "Uncertain"), CHECK: check}


def files(predictions: Sequence[Row]) -> dict[str, str]:
    """The input of `evaluation.py`, and the two cache files that make it run without GPT-4 (`load_json = True`)."""
    with_same = _with_same(predictions)
    named = {
        f"hallusion_output_{c.lower()}_model.json": [r for r in with_same if r["category"] == c] for c in ("VD", "VS")
    }
    contents = {"predictions.json": list(predictions), "HallusionBench_result.json": list(predictions), **named}
    return {name: json.dumps(content, indent=1) + "\n" for name, content in contents.items()}


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """The leaderboard's accuracies per question (aAcc), figure (fAcc) and question pair (qAcc), and the diagnostics."""
    rows = [{**row, "correct": _correct(row)} for row in _with_same(predictions)]
    originals = {_question_name(r): r[CHECK] for r in rows if r["figure_id"] == "0"}
    figures = _group_correct((r for r in rows if r["category"] != "VS" or r["figure_id"] != "0"), _figure_name)
    causes = Counter(_cause(r, originals.get(_question_name(r))) for r in rows)
    metrics: dict[str, Any] = {
        "aAcc": ratio(sum(r["correct"] for r in rows), len(rows)),
        "fAcc": _all_correct(figures),
        "qAcc": _all_correct(_group_correct(rows, _question_name)),
        "easy_aAcc": _all_correct(_group_correct((r for r in rows if r["visual_input"] != "2"), _question_name)),
        "hard_aAcc": _all_correct(_group_correct((r for r in rows if r["visual_input"] == "2"), _question_name)),
        **_by_category(rows),
        **_consistency(figures),
        **_bias(rows),
        **{cause: ratio(causes[cause], sum(causes.values()) - causes[""]) for cause in ("LH", "VI", "Mixed")},
    }
    return metrics | _script_stops(rows, originals)


def _question_name(row: Row, *more: str) -> str:
    """Name of a question; the same question about several figures of a set has one name."""
    return "_".join(row[key] for key in ("category", "subcategory", "set_id", *more, "question_id"))


def _figure_name(row: Row) -> str:
    return "_".join(row[key] for key in ("category", "subcategory", "set_id", "figure_id"))


def _correct(row: Row) -> bool:
    unsure_allowed = row["category"] == "VS" and row["figure_id"] == "0"
    return row[CHECK] in ((RIGHT, UNSURE) if unsure_allowed else (RIGHT,))


def _group_correct(rows: Iterable[Row], name: Callable[[Row], str]) -> dict[str, list[bool]]:
    groups: dict[str, list[bool]] = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row["correct"])
    return groups


def _all_correct(groups: dict[str, list[bool]]) -> float | None:
    """Share of the groups whose rows are all correct."""
    return ratio(sum(map(all, groups.values())), len(groups))


def _by_category(rows: Sequence[Row]) -> dict[str, float | None]:
    return {
        f"{category}_aAcc": ratio(sum(r["correct"] for r in selected), len(selected))
        for category in ("VD", "VS")
        for selected in [[r for r in rows if r["category"] == category]]
    }


def _consistency(figures: dict[str, list[bool]]) -> dict[str, float | None]:
    wrong = sum(not any(correct) for correct in figures.values())
    inconsistent = sum(any(correct) and not all(correct) for correct in figures.values())
    return {"inconsistent": ratio(inconsistent, len(figures)), "wrong": ratio(wrong, len(figures))}


def _bias(rows: Sequence[Row]) -> dict[str, float | None]:
    """Share of yes answers, counted like the script does, minus the true share; share of the errors that are a yes."""
    predicted = sum(r["correct"] == (r["gt_answer"] == "1") for r in rows)
    true = sum(r["gt_answer"] == "1" for r in rows)
    errors = [r["gt_answer"] == "1" for r in rows if not r["correct"]]
    return {
        "yes_diff": ratio(predicted - true, len(rows)),
        "false_positive_ratio": ratio(errors.count(False), len(errors)),
    }


def _with_same(predictions: Sequence[Row]) -> list[Row]:
    """Add the column `same`: whether the prediction equals the one for the original figure of the set."""
    originals = {_question_name(row): row["model_prediction"] for row in predictions if row["figure_id"] == "0"}
    return [
        {**row, "same": str(int(originals.get(_question_name(row)) == row["model_prediction"]))} for row in predictions
    ]


def _cause(row: Row, original: str | None) -> str:
    """Cause of an error: language hallucination (LH), visual illusion (VI) or Mixed; empty if there is no error."""
    check, same = row[CHECK], row["same"] == "1"
    if check == RIGHT:
        return ""
    if row["figure_id"] == "0":
        return "VI" if row["category"] == "VD" else "LH" if check == WRONG else ""
    if row["category"] == "VD":
        return "Mixed" if original == RIGHT and check == WRONG and same else "VI"
    if original == WRONG:
        return "LH" if check == WRONG and same else "Mixed"
    changed = original == RIGHT and check == WRONG and row["visual_input"] == "2"
    return "LH" if changed and same else "VI"


def _script_stops(rows: Sequence[Row], originals: dict[str, str]) -> dict[str, str]:
    """The error with which the official script would stop on these rows, under `script_stops`, if there is one."""
    names = Counter(_question_name(row, "figure_id") for row in rows)
    parts = [(c, hard) for c in ("VD", "VS") for hard in (False, True)]
    empty = [p for p in parts if not any((r["category"], r["visual_input"] == "2") == p for r in rows)]
    if max(names.values(), default=0) > 1:
        return {"script_stops": f"AssertionError: {names.most_common(1)[0][0]} occurs twice"}
    orphan = next((_question_name(row) for row in rows if _question_name(row) not in originals), None)
    if orphan:
        return {"script_stops": f"KeyError: {orphan} has no row with figure_id 0"}
    if empty:
        listed = ", ".join(f"{'hard' if hard else 'easy'} {category}" for category, hard in empty)
        return {"script_stops": f"ZeroDivisionError: no {listed} questions"}
    if all(row["correct"] for row in rows):
        return {"script_stops": "ZeroDivisionError: no errors to take shares of, after the leaderboard is printed"}
    return {}


HALLUSIONBENCH = Benchmark("hallusionbench", read, predict, files, official, yes_no=True)
