"""Write a run's report.html and report.json again, from what its ledger holds.

    python jobs/evaluate.py report --run runs/scenes
    python jobs/evaluate.py report --run runs/scenes --out page.html    only the page, the run is left as it is

The page is one file that opens by a double click. It can be written at any time: of a run under way or
killed it shows what there is. The picture in docs/ was taken of such a page:

    chromium --headless --screenshot=docs/report.png --window-size=1200,1500 --hide-scrollbars runs/scenes/report.html
"""

import argparse
from pathlib import Path

from vlrm_ray import report
from vlrm_ray.store.ledger import Ledger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--run", required=True, metavar="FOLDER", help="folder of the run, or its URI")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page there and nothing in the run")


def run(arguments: argparse.Namespace) -> None:
    """Rebuild the report, and write it."""
    ledger = Ledger(arguments.run)
    found = report.rebuilt(ledger)
    if arguments.out:
        report.put_file(arguments.out, report.page_of(ledger, found))
        print(arguments.out)
        return
    ledger.put_json(report.JSON, found)
    ledger.put(report.PAGE, report.page_of(ledger, found))
    print(ledger.path(report.PAGE))
