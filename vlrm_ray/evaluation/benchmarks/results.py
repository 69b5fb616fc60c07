"""The result files of a finished benchmark, and the lines about it for the console."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlrm_ray.engines import TOO_LONG
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks import compare, summary
from vlrm_ray.evaluation.benchmarks.items import Benchmark, Item, Status
from vlrm_ray.evaluation.benchmarks.scoring import Judgements, primary_judgements
from vlrm_ray.evaluation.benchmarks.summary import Summary
from vlrm_ray.store.ledger import Ledger


def write_results(
    benchmark: Benchmark, items: Sequence[Item], judged: Judgements, details: Mapping[str, Any], out: str
) -> Summary:
    """Write the official prediction files, `items.jsonl` for comparisons, and last `summary.json`.

    Args:
        benchmark: the benchmark.
        items: its items.
        judged: judgements of all items.
        details: facts about the judge, which the summary repeats.
        out: path or URI of the output folder.

    Returns:
        The content of `summary.json`.
    """
    folder = Ledger(out)
    for name, text in benchmark.files(summary.prediction_rows(benchmark, items, judged)).items():
        folder.put(name, text.encode("ascii"))
    outcomes = summary.outcome_rows(items, judged)
    folder.put(compare.OUTCOMES, "".join(json.dumps(row) + "\n" for row in outcomes).encode())
    content = summary.build_summary(benchmark, items, judged, details)
    folder.put_json(compare.SUMMARY, content)
    return content


def check_any_judged(items: Sequence[Item], judged: Judgements, out: str, images: Path) -> None:
    """Check that the benchmark has a result: at least one item that is not quarantined.

    Args:
        items: the items.
        judged: judgements of all items.
        out: path or URI of the output folder; without a result, its `summary.json` of an earlier session is removed.
        images: folder in which the images are looked up, for the message.

    Raises:
        UserError: all items are quarantined.
    """
    judgements = primary_judgements(items, judged)
    if any(judgement.status is not Status.QUARANTINED for judgement in judgements):
        return
    Ledger(out).delete(compare.SUMMARY)
    reasons = Counter(judgement.reason for judgement in judgements)
    counts = ", ".join(f"{reason} {count} of {len(items)}" for reason, count in reasons.most_common(5))
    first = items[0]
    image = f", image {first.image[:100]}" if isinstance(first.image, str) else ""
    raise UserError(
        f"no item could be judged, so there is no accuracy: {counts} (first: {first.where}{image}); "
        f"{_remedy(reasons.most_common(1)[0][0], first, images)}, then run the same command again"
    )


def _remedy(reason: str, item: Item, images: Path) -> str:
    if reason == TOO_LONG:
        return "raise critic.engine.max_model_len"
    if reason == "image_url_not_allowed":
        return "add --allow-urls to download the images"
    if reason == "image_missing" and isinstance(item.image, str):
        name = Path(item.image).name
        folder = next((path.parent for path in images.rglob("*") if name and path.name == name), "FOLDER")
        return f"give the folder that the image paths are relative to with --images {folder}"
    return "correct the data"


def previous_rates(out: str) -> dict[str, float]:
    """Items per second that an earlier session measured; for a session that has nothing left to judge."""
    previous = Ledger(out).get_json(compare.SUMMARY) or {"details": {}}
    return {name: value for name, value in previous["details"].items() if name.endswith("items_per_second")}


def summary_lines(content: Summary, items: Sequence[Item], judged: Judgements) -> list[str]:
    """Lines about undecided items, which count as wrong, and about errors of the official script."""
    lines = []
    quarantined = content["details"]["quarantined"]
    if quarantined:
        first = next(i for i in items if judged[i.key, i.first].status is Status.QUARANTINED)
        reasons = ", ".join(f"{reason} {count}" for reason, count in quarantined.items())
        hint = "; raise critic.engine.max_model_len to judge the long ones" if TOO_LONG in quarantined else ""
        lines.append(f"quarantined items, counted as wrong: {reasons} (first: {first.where}){hint}")
    if content["unparsed"] or content["ties"]:
        lines.append(f"undecided items, counted as wrong: {content['unparsed']} unparsed, {content['ties']} ties")
    return lines + summary.script_errors(content)
