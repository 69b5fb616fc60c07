"""VL-RewardBench (Li et al. 2024): pairs from six sources, scored like the repository's `cal.py`.

The official formula leaves items without a verdict out of the denominators. The split by source is the one of `cal.py`
after its commit "Fix povid bug", where POVID's ids begin with `hallucination`.
"""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Len
from pydantic import StrictInt, StrictStr, field_validator

from vlrm_ray.evaluation.benchmarks.files import Record, find_files, image_of, json_lines, read_rows
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Judgement, LogFn, Row, ratio

GROUPS = ("general", "hallucination", "reasoning")
_GROUP = {
    "vlfeedback": "general", "wildvision-battle": "general", "povid": "hallucination",
    "rlhf-v": "hallucination", "rlaif-v": "hallucination", "reasoning_tasks": "reasoning",
}  # fmt: skip
"""Group of each source."""
_SOURCE = {
    "RLAIF": "rlaif-v", "RLHF": "rlhf-v", "mathverse": "reasoning_tasks", "mmmu": "reasoning_tasks",
    "wildvision": "wildvision-battle", "hallucination": "povid",
}  # fmt: skip
"""Source by the first part of an id; all other ids are of vlfeedback."""
VERDICT = re.compile(
    r"(?:Overall Judgment|Therefore)\s*.*\s*-*\s*Answer\s*(\d+)\s*is\s*(?:the\s*)?(?:slightly\s*)?better",
    re.IGNORECASE,
)
"""The official pattern of a verdict. Search it in a text without newlines and `*`; it finds the last verdict."""


class Pair(Record):
    """A row of the public file."""

    id: StrictStr
    query: StrictStr
    response: Annotated[list[StrictStr], Len(2, 2)]
    human_ranking: Annotated[list[StrictInt], Len(2, 2)]
    image: Any
    models: tuple[Any, ...] = ()
    judge: Any = ""
    rationale: Any = ""
    query_source: Any = ""

    @field_validator("human_ranking")
    @classmethod
    def _ranks(cls, ranks: list[int]) -> list[int]:
        if sorted(ranks) != [0, 1]:
            raise ValueError("expected the ranks 0 (better) and 1")
        return ranks


def source_of(item_id: str) -> str:
    """The source data set of an item, from the part of its id before the first `_` or `-`."""
    return _SOURCE.get(re.split("[_-]", item_id, maxsplit=1)[0], "vlfeedback")


def read(folder: Path, log: LogFn) -> list[Item]:
    """Read the items of `data/test-*.parquet`, or of a JSON or JSON-lines file with the same columns."""
    patterns = ("data/*.parquet", "*.parquet", "data.json", "data.jsonl", "*.jsonl", "*.json")
    items: list[Item] = []
    for path in find_files(folder, patterns, "VL-RewardBench's Parquet, JSON or JSON-lines file"):
        for number, row in read_rows(path, Pair):
            source = source_of(row.id)
            image, problem = image_of(row.image)
            columns = row.model_dump(
                include={"id", "query", "response", "models", "judge", "rationale", "query_source"}
            )
            items.append(
                Item(
                    len(items), row.id, (_GROUP[source], source), row.query, image, (row.response[0], row.response[1]),
                    row.human_ranking.index(0), columns | {"ranking": row.human_ranking}, f"{path} row {number}", problem,
                )
            )  # fmt: skip
    return items


def predict(item: Item, judgement: Judgement) -> Row:
    """Prediction row; `random_number` is 1 if the second response was shown as Answer 1."""
    number = -1 if judgement.pick is None else 1 + (judgement.pick != judgement.first)
    text = f"No verdict: {judgement.status}." if number < 0 else f"Overall Judgment: Answer {number} is better."
    status = "doesntMatch" if number < 0 else "agree" if judgement.is_correct(item) else "reject"
    meta = {"random_number": judgement.first, "filter_choice": text, "filter_number": number, "flag_status": status}
    return {**item.row, "meta": meta}


def status_of(row: Row) -> str:
    """`agree`, `reject` or `doesntMatch`, parsed from the judge's text like the official script does."""
    meta = row["meta"]
    match = VERDICT.search(meta["filter_choice"].replace("\n", "").replace("*", ""))
    if match is None:
        return "doesntMatch"
    rejected = row["ranking"].index(1 if meta["random_number"] == 0 else 0) + 1
    return "reject" if int(match[1]) == rejected else "agree"


def official(predictions: Sequence[Row]) -> dict[str, Any]:
    """The official metrics at k=1.

    Of rows with the same id, query and responses, only the first one after the script's shuffle counts.
    """
    counts: dict[str, dict[str, int]] = {}
    seen: set[str] = set()
    for row in _shuffled(list(predictions)):
        key = row["id"] + row["query"] + "\t".join(sorted(row["response"]))
        if key not in seen:
            seen.add(key)
            counts_of_source = counts.setdefault(source_of(row["id"]), {"agree": 0, "reject": 0, "doesntMatch": 0})
            counts_of_source[status_of(row)] += 1
    agree = {g: sum(c["agree"] for s, c in counts.items() if _GROUP[s] == g) for g in GROUPS}
    parsed = {g: sum(c["agree"] + c["reject"] for s, c in counts.items() if _GROUP[s] == g) for g in GROUPS}
    shares = {group: ratio(agree[group], parsed[group]) for group in GROUPS}
    defined = [share for share in shares.values() if share is not None]
    metrics: dict[str, Any] = {
        **shares,
        "overall": ratio(sum(agree.values()), sum(parsed.values())),
        "macro": sum(defined) / 3 if len(defined) == 3 else None,
        "agree_rate": sum(agree.values()) / (len(seen) + 1e-6),
    }
    without_verdict = [s for s, c in counts.items() if c["agree"] + c["reject"] == 0] + [
        g for g in GROUPS if not parsed[g]
    ]
    if not without_verdict:
        return metrics
    return metrics | {"script_stops": f"ZeroDivisionError: no verdict in {', '.join(without_verdict)}"}


def _shuffled(values: list[Row]) -> list[Row]:
    """The rows in the order in which the official script processes them."""
    rng = random.Random(1234)
    for i in range(len(values)):
        j = rng.randint(0, len(values) - 1)
        values[i], values[j] = values[j], values[i]
    return values


VL_REWARDBENCH = Benchmark(
    "vl_rewardbench", read, predict, lambda predictions: {"predictions.jsonl": json_lines(predictions)}, official
)
