"""Write a web page about one prompt of a run: image, evidence, responses, claims, verdicts, pairs and critiques.

    python jobs/evaluate.py show --run runs/scenes                       list some prompts
    python jobs/evaluate.py show --run runs/scenes --prompt 8a51         write runs/scenes/prompts/8a51....html
    python jobs/evaluate.py show --run runs/scenes --prompt 8a51 --out page.html

The first characters of an id suffice. The page is one self-contained file: open it in a browser by a double click.
"""

import argparse
from pathlib import Path

from vlrm_ray.report.prompts import find_prompt, prompt_line, sample_prompts, write_file
from vlrm_ray.report.reporter import prompt_page
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.ledger import Ledger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--run", required=True, metavar="FOLDER", help="folder of the run, or its URI")
    parser.add_argument(
        "--prompt", metavar="ID", help="id of the prompt or its first characters (default: list some prompts)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to write the page (default: prompts/ID.html in the run's folder)",
    )


def run(arguments: argparse.Namespace) -> None:
    """List some prompts, or find one prompt and write its page."""
    ledger = Ledger(arguments.run)
    if not arguments.prompt:
        for row in sample_prompts(ledger):
            print(prompt_line(row))
        return
    row = find_prompt(ledger, arguments.prompt)
    page = prompt_page(ledger, row)
    if arguments.out:
        write_file(arguments.out, page)
        print(arguments.out)
        return
    name = f"prompts/{row.prompt.prompt_id}.html"
    ledger.put(name, page)
    print(redacted(ledger.location(name)))
