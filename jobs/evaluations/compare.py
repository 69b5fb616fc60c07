"""Compare two results of the same benchmark, item by item.

    python jobs/evaluate.py compare results/before results/after

A and B are output folders of finished `evaluate.py bench` commands, their URIs, or the summary.json in them. On the items that
both results have, the command prints both accuracies, their difference with a 95 % interval (paired bootstrap), and
the p-value of an exact test, overall and for each group: McNemar's, or where one image has several items, that of random
signs of the images' differences.
"""

import argparse

from vlrm_ray.evaluation.benchmarks import compare
from vlrm_ray.pipeline.progress import Progress

SIGNIFICANCE_LEVEL = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two results."""
    parser.add_argument("a", metavar="A", help="folder of the first result, for example of the base model")
    parser.add_argument("b", metavar="B", help="folder of the second result; differences are B minus A")


def run(arguments: argparse.Namespace) -> None:
    """Print the comparison."""
    progress = Progress()
    a, b = compare.load(arguments.a), compare.load(arguments.b)
    shared = compare.common_items(a, b)
    if len(shared) != len(a.outcomes) or len(shared) != len(b.outcomes):
        progress.log(
            f"the results have different items: A has {len(a.outcomes)}, B has {len(b.outcomes)}; "
            f"comparing the {len(shared)} common ones"
        )
    differences = compare.differences(a, b)
    title = f"{a.summary['benchmark']}: A = {a.folder}, B = {b.folder}"
    progress.table(title, *compare.comparison_table(differences))
    overall = differences["overall"]
    verdict = "differ significantly" if overall.p < SIGNIFICANCE_LEVEL else "do not differ significantly"
    by_image = overall.clusters < overall.n
    test = f"exact sign-flip test of {overall.clusters} images" if by_image else "exact McNemar test"
    progress.log(f"A and B {verdict} ({test}, p = {overall.p:.3g}, {overall.n} items)")
