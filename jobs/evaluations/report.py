"""Write report.html and report.json of a run again, from the content of its folder.

    python jobs/evaluate.py report --run runs/scenes                     update both files in the run's folder
    python jobs/evaluate.py report --run runs/scenes --out page.html     write the page elsewhere, change nothing else

The page is one self-contained file: open it in a browser by a double click. You can write it at any time; for a
running or killed run it shows what has been committed so far. The screenshot in docs/ was made with

    chromium --headless --screenshot=docs/report.png --window-size=1200,1500 --hide-scrollbars runs/scenes/report.html
"""

import argparse
from pathlib import Path

from vlrm_ray.report.prompts import write_file
from vlrm_ray.report.reporter import REPORT_JSON, REPORT_PAGE, rebuild_report, report_page
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.ledger import Ledger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--run", required=True, metavar="FOLDER", help="folder of the run, or its URI")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write only the page, to this file")


def run(arguments: argparse.Namespace) -> None:
    """Build the report and write it."""
    ledger = Ledger(arguments.run)
    content = rebuild_report(ledger)
    page = report_page(ledger, content)
    if arguments.out:
        write_file(arguments.out, page)
        print(arguments.out)
        return
    ledger.put_json(REPORT_JSON, content)
    ledger.put(REPORT_PAGE, page)
    print(redacted(ledger.location(REPORT_PAGE)))
