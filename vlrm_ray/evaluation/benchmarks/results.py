"""What a finished benchmark leaves in its folder, and what of it a person is told."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlrm_ray.evaluation.benchmarks import compare, summary
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Status
from vlrm_ray.evaluation.benchmarks.scoring import TOO_LONG, Judgements
from vlrm_ray.evaluation.benchmarks.summary import Summary
from vlrm_ray.store.ledger import Ledger


def write(
    benchmark: Benchmark, items: Sequence[Item], judged: Judgements, details: Mapping[str, Any], out: Path
) -> Summary:
    """Write the official prediction files, `items.jsonl` for comparisons, and last `summary.json`."""
    folder = Ledger(str(out))
    for name, text in benchmark.files(summary.predictions(benchmark, items, judged)).items():
        folder.put(name, text.encode("ascii"))
    outcomes = summary.outcomes(items, judged)
    folder.put(compare.OUTCOMES, "".join(json.dumps(row) + "\n" for row in outcomes).encode())
    found = summary.summarise(benchmark, items, judged, details)
    folder.put_json(compare.SUMMARY, found)
    return found


def rates(out: Path) -> dict[str, float]:
    """What an earlier session measured: one that judges nothing measures nothing."""
    before = Ledger(str(out)).get_json(compare.SUMMARY) or {"details": {}}
    return {name: value for name, value in before["details"].items() if name.endswith("items_per_second")}


def summary_lines(found: Summary, items: Sequence[Item], judged: Judgements) -> list[str]:
    """Lines on what counted as wrong without being an answer."""
    said = []
    quarantined = found["details"]["quarantined"]
    if quarantined:
        first = next(i for i in items if judged[i.key, i.first].status is Status.QUARANTINED)
        reasons = ", ".join(f"{reason} {count}" for reason, count in quarantined.items())
        hint = "; raise critic.engine.max_model_len for the long ones" if TOO_LONG in quarantined else ""
        said.append(f"quarantined and counted as wrong: {reasons} (the first: {first.where}){hint}")
    if found["unparsed"] or found["ties"]:
        said.append(f"unparsed {found['unparsed']}, ties {found['ties']}: counted as wrong above")
    return said + summary.stops(found)
