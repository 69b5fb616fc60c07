"""HallusionBench (Guan et al. 2023), scored as the repository's `evaluation.py` does without asking GPT-4.

A row without visual input is asked without a picture. An undecided answer is "unsure": right, by the
official rule, for a VS question without a figure.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import StrictStr

from vlrm_ray.evaluation.benchmarks import yes_no
from vlrm_ray.evaluation.benchmarks.files import Record, find, rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row, ratio

CHECK = "gpt4v_output_gpt_check"
WRONG, RIGHT, UNSURE = "0", "1", "2"
_ANSWER = {"0": yes_no.NO, "1": yes_no.YES}


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
    """Items of `HallusionBench.json`."""
    items: list[Item] = []
    for path in find(folder, ("HallusionBench.json", "data/HallusionBench.json"), "HallusionBench.json"):
        for number, row in rows(path, Question):
            kept = row.model_dump()
            items.append(
                Item(
                    len(items), _name(kept, "figure_id"), (row.category, f"{row.category}/{row.subcategory}"),
                    row.question, None if row.visual_input == "0" else row.filename or "",
                    yes_no.answers(row.question), _ANSWER[row.gt_answer], kept, f"{path} row {number}",
                )
            )  # fmt: skip
    return items


def predict(item: Item, judgement: Judgement) -> Row:
    """The file's row with the prediction and what GPT-4 would have said of it."""
    check = UNSURE if judgement.pick is None else RIGHT if judgement.right(item) else WRONG
    return {**item.row, "model_prediction": yes_no.word(judgement.pick, "Uncertain"), CHECK: check}


def files(predictions: Sequence[Row]) -> dict[str, str]:
    """The input of `evaluation.py`, and the two files with which it asks no model (`load_json = True`)."""
    marked = _with_same(predictions)
    named = {
        f"hallusion_output_{c.lower()}_model.json": [r for r in marked if r["category"] == c] for c in ("VD", "VS")
    }
    every = {"predictions.json": list(predictions), "HallusionBench_result.json": list(predictions), **named}
    return {name: json.dumps(content, indent=1) + "\n" for name, content in every.items()}


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """Accuracies per question, figure and question pair as shares, and the diagnostics."""
    rows = [{**row, "correct": _correct(row)} for row in _with_same(predictions)]
    originals = {_name(r): r[CHECK] for r in rows if r["figure_id"] == "0"}
    figures = _grouped((r for r in rows if r["category"] != "VS" or r["figure_id"] != "0"), _figure)
    causes = Counter(_cause(r, originals.get(_name(r))) for r in rows)
    found: dict[str, Any] = {
        "aAcc": ratio(sum(r["correct"] for r in rows), len(rows)),
        "fAcc": _all_right(figures),
        "qAcc": _all_right(_grouped(rows, _name)),
        "easy_aAcc": _all_right(_grouped((r for r in rows if r["visual_input"] != "2"), _name)),
        "hard_aAcc": _all_right(_grouped((r for r in rows if r["visual_input"] == "2"), _name)),
        **_by_category(rows),
        **_consistency(figures),
        **_bias(rows),
        **{cause: ratio(causes[cause], sum(causes.values()) - causes[""]) for cause in ("LH", "VI", "Mixed")},
    }
    return found | _where_the_script_stops(rows, originals)


def _name(row: Row, *more: str) -> str:
    return "_".join(row[key] for key in ("category", "subcategory", "set_id", *more, "question_id"))


def _figure(row: Row) -> str:
    return "_".join(row[key] for key in ("category", "subcategory", "set_id", "figure_id"))


def _correct(row: Row) -> bool:
    excused = row["category"] == "VS" and row["figure_id"] == "0"
    return row[CHECK] in ((RIGHT, UNSURE) if excused else (RIGHT,))


def _grouped(rows: Iterable[Row], name: Callable[[Row], str]) -> dict[str, list[bool]]:
    groups: dict[str, list[bool]] = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row["correct"])
    return groups


def _all_right(groups: dict[str, list[bool]]) -> float | None:
    return ratio(sum(map(all, groups.values())), len(groups))


def _by_category(rows: Sequence[Row]) -> dict[str, float | None]:
    return {
        f"{category}_aAcc": ratio(sum(r["correct"] for r in inside), len(inside))
        for category in ("VD", "VS")
        for inside in [[r for r in rows if r["category"] == category]]
    }


def _consistency(figures: dict[str, list[bool]]) -> dict[str, float | None]:
    wrong = sum(not any(right) for right in figures.values())
    inconsistent = sum(any(right) and not all(right) for right in figures.values())
    return {"inconsistent": ratio(inconsistent, len(figures)), "wrong": ratio(wrong, len(figures))}


def _bias(rows: Sequence[Row]) -> dict[str, float | None]:
    """Share of yes answers above the true share, and the share of errors that say yes."""
    said = sum(r["correct"] == (r["gt_answer"] == "1") for r in rows)
    true = sum(r["gt_answer"] == "1" for r in rows)
    errors = [r["gt_answer"] == "1" for r in rows if not r["correct"]]
    return {"yes_diff": ratio(said - true, len(rows)), "false_positive_ratio": ratio(errors.count(False), len(errors))}


def _with_same(predictions: Sequence[Row]) -> list[Row]:
    """Mark whether a prediction is the one given for the set's original figure."""
    first = {_name(row): row["model_prediction"] for row in predictions if row["figure_id"] == "0"}
    return [{**row, "same": str(int(first.get(_name(row)) == row["model_prediction"]))} for row in predictions]


def _cause(row: Row, original: str | None) -> str:
    """Why an answer is not right: language (LH), vision (VI) or either (Mixed); empty where it is right."""
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


def _where_the_script_stops(rows: Sequence[Row], originals: dict[str, str]) -> dict[str, str]:
    names = Counter(_name(row, "figure_id") for row in rows)
    parts = [(c, hard) for c in ("VD", "VS") for hard in (False, True)]
    empty = [p for p in parts if not any((r["category"], r["visual_input"] == "2") == p for r in rows)]
    if max(names.values(), default=0) > 1:
        return {"script_stops": f"AssertionError: {names.most_common(1)[0][0]} occurs twice"}
    orphan = next((_name(row) for row in rows if _name(row) not in originals), None)
    if orphan:
        return {"script_stops": f"KeyError: {orphan} has no row with figure_id 0"}
    if empty:
        listed = ", ".join(f"{'hard' if hard else 'easy'} {category}" for category, hard in empty)
        return {"script_stops": f"ZeroDivisionError: no {listed} questions"}
    if all(row["correct"] for row in rows):
        return {"script_stops": "ZeroDivisionError: no errors to take shares of, after the leaderboard is printed"}
    return {}


HALLUSIONBENCH = Benchmark("hallusionbench", read, predict, files, official, yes_no=True)
