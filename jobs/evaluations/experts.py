"""How far the experts' verdicts can be trusted: statements about fresh scenes, in distribution and under shift.

    python jobs/evaluate.py experts                    2,000 scenes, and 400 of each shift
    python jobs/evaluate.py experts --scenes 500 --json
    python jobs/evaluate.py experts --svg FILE         also draw the reliability diagram

True and false sentences of every claim type go the whole way, text to claims to verdicts. The
experts are calibrated on other scenes, parameters were chosen on a third lot (--split dev).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.local import load_vision_experts
from jobs.evaluations.extractor_options import add_options, chosen
from vlrm_ray.config import load
from vlrm_ray.errors import UserError
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, SHIFTS
from vlrm_ray.scenes.verdict_quality import (
    FIRST_SEED,
    PER_SEED,
    Experts,
    Outcome,
    figures,
    figures_of,
    reasons,
    reliability,
)

SHARE_OF_SHIFT = 5
"""One scene of each shift for so many in distribution."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--config", metavar="FILE", help="YAML file, as for jobs/iterate.py")
    parser.add_argument("--scenes", type=int, default=2000, metavar="N", help="scenes in distribution (2000)")
    parser.add_argument("--seed", type=int, default=0, help="which fresh scenes (0)")
    parser.add_argument("--split", choices=FIRST_SEED, default="test", help="choose parameters on dev, report on test")
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON, last line")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="draw the reliability diagram")


def run(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    if arguments.scenes < 1:
        raise UserError(f"--scenes must be at least 1, got {arguments.scenes}")
    from vlrm_ray.scenes.extractor_quality import extractor_f1

    progress, config = Progress(), load(arguments.config)
    vision_experts, verifier = load_vision_experts(config), Verifier.from_config(config.experts)
    with chosen(arguments) as extractor:
        experts = Experts(vision_experts, extractor, verifier)
        first = FIRST_SEED[arguments.split] + arguments.seed * PER_SEED
        found = {IN_DISTRIBUTION: _tried(experts, IN_DISTRIBUTION, first, arguments.scenes, progress)}
        for kind in SHIFTS:
            count = max(1, arguments.scenes // SHARE_OF_SHIFT)
            found[kind] = _tried(experts, kind, first, count, progress)
        f1 = {arguments.extractor: extractor_f1(extractor, max(1, arguments.scenes // SHARE_OF_SHIFT), first)}
    report = report_of(found, f1)
    _print(report, progress)
    if arguments.svg:
        from vlrm_ray.evaluation.reliability_diagram import draw

        draw(report["reliability"], arguments.svg)
    if arguments.json:
        print(json.dumps(report))


def _tried(experts: Experts, kind: str, first: int, count: int, progress: Progress) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with progress.stage(kind.replace("_", " "), count * 9, "statements") as meter:
        for batch in experts.try_out(kind, range(first, first + count)):
            outcomes += batch
            meter.add(len(batch))
    return outcomes


def report_of(found: dict[str, list[Outcome]], f1: dict[str, float]) -> dict[str, Any]:
    """The report from the outcomes in distribution and of each shift."""
    shifted = [outcome for kind in SHIFTS for outcome in found[kind]]
    both: dict[str, Sequence[Outcome]] = {IN_DISTRIBUTION: found[IN_DISTRIBUTION], "shift": shifted}
    return {
        **{name: figures(outcomes) for name, outcomes in both.items()},
        "overall": {name: figures_of(outcomes) for name, outcomes in {**both, **found}.items()},
        "shifts": {kind: figures(found[kind]) for kind in SHIFTS},
        "extractor": f1,
        "reliability": {name: reliability(outcomes) for name, outcomes in both.items()},
        "unverifiable_because": {name: reasons(outcomes) for name, outcomes in both.items()},
    }


def _print(report: dict[str, Any], progress: Progress) -> None:
    columns = ["", "contradicted: precision", "recall", "supported: precision", "recall", "unverifiable", "n"]
    keys = ("precision_contradicted", "recall_contradicted", "precision_supported", "recall_supported", "unverifiable")
    for title, name in (("in distribution", IN_DISTRIBUTION), ("under shift", "shift")):
        part = {**report[name], "all": report["overall"][name]}
        rows = [[kind, *(_percent(values[key]) for key in keys), str(values["n"])] for kind, values in part.items()]
        progress.table(title, columns, rows)
    rows = [
        [kind, *(_percent(part[key]) for key in keys), str(part["n"])]
        for kind, part in report["overall"].items()
        if kind in SHIFTS
    ]
    progress.table("by shift, all claim types", columns, rows)
    for name, bins in report["reliability"].items():
        rows = [
            [
                f"{b['from']:.2f} to {b['to']:.2f}",
                f"{b['confidence']:.3f}",
                f"{b['accuracy']:.3f}",
                _bar(b["accuracy"]),
                str(b["n"]),
            ]
            for b in bins
        ]
        progress.table(f"reliability, {name.replace('_', ' ')}", ["confidence", "mean", "right", "", "n"], rows)
    for name, why in report["unverifiable_because"].items():
        progress.log(f"unverifiable, {name.replace('_', ' ')}: " + ", ".join(f"{n} {r}" for r, n in why.items()))
    for name, f1 in report["extractor"].items():
        progress.log(f"claims found by the {name} extractor: exact-match F1 {f1:.3f}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _bar(value: float) -> str:
    return "█" * round(20 * value) + "·" * (20 - round(20 * value))
