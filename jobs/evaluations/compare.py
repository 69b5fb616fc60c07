"""Hold two results of one benchmark side by side, item by item.

    python jobs/evaluate.py compare A B

A and B are folders that `bench --out` has finished (or the summary.json in them). Shown are the
accuracies on the items that both have, the exact McNemar test, and a paired bootstrap of the
difference, overall and for each group.
"""

import argparse
from pathlib import Path

from vlrm_ray.evaluation.benchmarks import compare
from vlrm_ray.pipeline.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two results."""
    parser.add_argument("a", metavar="A", type=Path, help="folder of a result")
    parser.add_argument("b", metavar="B", type=Path, help="folder of another one")


def run(arguments: argparse.Namespace) -> None:
    """Print the table."""
    progress = Progress()
    a, b = compare.load(arguments.a), compare.load(arguments.b)
    shared = compare.common(a, b)
    if len(shared) != len(a.outcomes) or len(shared) != len(b.outcomes):
        progress.log(
            f"the results have different items: A {len(a.outcomes)}, B {len(b.outcomes)}; "
            f"compared on the {len(shared)} that both have"
        )
    found = compare.differences(a, b)
    progress.table(f"{a.summary['benchmark']}: A = {a.folder}, B = {b.folder}", *compare.table(found))
    overall = found["overall"]
    sure = "differ" if overall.p < 0.05 else "do not differ beyond chance"
    progress.log(f"A and B {sure} (exact McNemar p = {overall.p:.3g}, {overall.n} items)")
