"""Measure the accuracy of the experts' verdicts on held-out scenes, in distribution and under image shifts, or on photographs.

    python jobs/evaluate.py experts                    2,000 scenes in distribution, and 400 of each shift
    python jobs/evaluate.py experts --scenes 500 --json
    python jobs/evaluate.py experts --svg FILE         also draw the reliability diagram
    python jobs/evaluate.py experts --photos           the photographs of `make photos` instead of scenes

True and false sentences of every claim type pass through the whole pipeline, from the text to its claims and their
verdicts. The experts were calibrated on other scenes, and their parameters tuned on a third set (--split dev).

Difficult sentences ("Not all circles are red", "If there were a dog, ...") are checked against the ground truth of the
scenes in place of the detectors. Each true sentence that is contradicted is listed.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.local import load_vision_experts
from jobs.evaluations.extractor_options import add_extractor_options, open_extractor
from vlrm_ray.claims import Extractor
from vlrm_ray.config import load
from vlrm_ray.errors import UserError
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.scenes.hard_statement_quality import ReadStatement, read_statements, summary
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, SHIFTS
from vlrm_ray.scenes.verdict_quality import (
    FIRST_SEED,
    PER_SEED,
    ExpertsUnderTest,
    Outcome,
    figures,
    figures_of,
    reasons,
    reliability,
)

SCENES_PER_SHIFTED = 5
"""Number of scenes in distribution for each scene of a shift."""
STATEMENTS_PER_SCENE = 9
"""Mean number of statements about a scene, for the progress bar."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--config", metavar="FILE", help="configuration in YAML, as for jobs/iterate.py")
    parser.add_argument(
        "--scenes", type=int, default=2000, metavar="N", help="number of scenes in distribution (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes (default: %(default)s)")
    parser.add_argument(
        "--split",
        choices=FIRST_SEED,
        default="test",
        help="use dev to tune parameters and test to report (default: %(default)s)",
    )
    parser.add_argument(
        "--photos",
        nargs="?",
        const="",
        metavar="DIR",
        help="measure on photographs (default: those in this node's cache); calibrate the experts first",
    )
    add_extractor_options(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON on the last line")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="write the reliability diagram to FILE")


def run(arguments: argparse.Namespace) -> None:
    """Measure the experts, and print the report."""
    if arguments.photos is not None:
        from jobs.evaluations import experts_photos

        experts_photos.run(arguments)
        return
    if arguments.scenes < 1:
        raise UserError(f"--scenes is {arguments.scenes}, expected at least 1")
    from vlrm_ray.scenes.extractor_quality import extractor_f1

    progress, config = Progress(), load(arguments.config)
    vision_experts, verifier = load_vision_experts(config), Verifier.from_config(config.experts)
    with open_extractor(arguments) as extractor:
        experts = ExpertsUnderTest(vision_experts, extractor, verifier)
        first = FIRST_SEED[arguments.split] + arguments.seed * PER_SEED
        outcomes = {IN_DISTRIBUTION: _run_experts(experts, IN_DISTRIBUTION, first, arguments.scenes, progress)}
        count = max(1, arguments.scenes // SCENES_PER_SHIFTED)
        for kind in SHIFTS:
            outcomes[kind] = _run_experts(experts, kind, first, count, progress)
        f1 = {arguments.extractor or "rule": extractor_f1(extractor, count, first)}
        hard = summary(_read_hard_statements(extractor, first, count, progress))
    report = report_of(outcomes, f1) | {"hard_statements": hard}
    _print(report, progress)
    if arguments.svg:
        from vlrm_ray.evaluation.reliability_diagram import draw

        draw(report["reliability"], arguments.svg)
    if arguments.json:
        print(json.dumps(report))


def _run_experts(experts: ExpertsUnderTest, kind: str, first: int, count: int, progress: Progress) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with progress.stage(kind.replace("_", " "), count * STATEMENTS_PER_SCENE, "statements") as meter:
        for batch in experts.run(kind, range(first, first + count)):
            outcomes += batch
            meter.add(len(batch))
    return outcomes


def _read_hard_statements(extractor: Extractor, first: int, count: int, progress: Progress) -> list[ReadStatement]:
    read = []
    with progress.stage("difficult sentences", unit="sentences") as meter:
        for one in read_statements(extractor, count, first):
            read.append(one)
            meter.add(1)
    return read


def report_of(outcomes: dict[str, list[Outcome]], f1: dict[str, float]) -> dict[str, Any]:
    """Build the report.

    Args:
        outcomes: outcomes by kind, `IN_DISTRIBUTION` and each of `SHIFTS`.
        f1: F1 of the extractor, by its name.
    """
    shifted = [outcome for kind in SHIFTS for outcome in outcomes[kind]]
    both: dict[str, Sequence[Outcome]] = {IN_DISTRIBUTION: outcomes[IN_DISTRIBUTION], "shift": shifted}
    return {
        **{name: figures(part) for name, part in both.items()},
        "overall": {name: figures_of(part) for name, part in {**both, **outcomes}.items()},
        "shifts": {kind: figures(outcomes[kind]) for kind in SHIFTS},
        "extractor": f1,
        "reliability": {name: reliability(part) for name, part in both.items()},
        "unverifiable_because": {name: reasons(part) for name, part in both.items()},
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
        progress.table(f"reliability, {name.replace('_', ' ')}", ["confidence", "mean", "accuracy", "", "n"], rows)
    for name, counts in report["unverifiable_because"].items():
        reasons_text = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        progress.log(f"unverifiable, {name.replace('_', ' ')}: {reasons_text}")
    for name, f1 in report["extractor"].items():
        progress.log(f"exact-match F1 of the {name} extractor's claims: {f1:.3f}")
    _print_hard_statements(report["hard_statements"], progress)


def _print_hard_statements(hard: dict[str, Any], progress: Progress) -> None:
    columns = ["", "true", "contradicted", "rate", "supported", "false", "contradicted", "supported"]
    rows = [
        [
            name.replace("_", " "),
            str(part["true"]),
            str(part["true_contradicted"]),
            f"{100 * part['false_contradiction_rate']:.2f} %",
            str(part["true_supported"]),
            str(part["false"]),
            str(part["false_contradicted"]),
            str(part["false_supported"]),
        ]
        for name, part in {**hard["constructions"], "all": hard["overall"]}.items()
    ]
    progress.table("difficult sentences, checked against the ground truth", columns, rows)
    for wrong in hard["false_contradictions"]:
        claims = "; ".join(wrong["contradicted"])
        question = f"{wrong['question']} " if wrong["question"] else ""
        progress.log(f"contradicted, although true: {question}{wrong['text']!r} [{claims}], scene: {wrong['scene']}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _bar(value: float) -> str:
    return "█" * round(20 * value) + "·" * (20 - round(20 * value))
