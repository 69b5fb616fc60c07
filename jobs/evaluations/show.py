"""Look at one prompt of a run: picture, boxes, words, responses with verdicts, evidence, pairs, critiques.

    python jobs/evaluate.py show --run runs/scenes                       lists some prompts
    python jobs/evaluate.py show --run runs/scenes --prompt 8a51         writes runs/scenes/prompts/8a51….html
    python jobs/evaluate.py show --run runs/scenes --prompt 8a51 --out page.html

The beginning of an id is enough. The page is one file that opens by a double click.
"""

import argparse
from pathlib import Path

from vlrm_ray import report
from vlrm_ray.store.ledger import Ledger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--run", required=True, metavar="FOLDER", help="folder of the run, or its URI")
    parser.add_argument("--prompt", metavar="ID", help="id of the prompt, or its beginning; without it some are listed")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the page")


def run(arguments: argparse.Namespace) -> None:
    """Find the prompt, and write its page."""
    ledger = Ledger(arguments.run)
    if not arguments.prompt:
        for row in report.some_prompts(ledger):
            print(report.prompt_line(row))
        return
    row = report.find_prompt(ledger, arguments.prompt)
    page = report.page_of_prompt(ledger, row)
    if arguments.out:
        report.put_file(arguments.out, page)
        print(arguments.out)
        return
    name = f"prompts/{row.prompt.prompt_id}.html"
    ledger.put(name, page)
    print(ledger.path(name))
