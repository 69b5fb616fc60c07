"""Lookup of single prompts in a run, for the command `evaluate.py show`."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vlrm_ray.errors import UserError
from vlrm_ray.report.gallery import iter_rows
from vlrm_ray.report.text import replace_invisible
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, from_table

MAX_LISTED = 12
"""Number of prompts that are listed if the user names none."""


def check_run(ledger: Ledger) -> None:
    """Raise UserError unless the folder is that of a run."""
    if ledger.get("config.json") is None:
        raise UserError(f"--run {ledger.uri}: not a run (no config.json); give a folder such as runs/<name>")


def sample_prompts(ledger: Ledger) -> list[Row]:
    """Up to `MAX_LISTED` prompts of the newest round with data, preferably prompts with pairs.

    Raises:
        UserError: the folder is not a run, or no part is committed yet.
    """
    check_run(ledger)
    for round_ in reversed(ledger.rounds()):
        with_pairs = list(islice((row for row in iter_rows(ledger, round_) if row.pairs), MAX_LISTED))
        if rows := with_pairs or list(islice(iter_rows(ledger, round_), MAX_LISTED)):
            return rows
    raise UserError(f"--run {ledger.uri}: no part is committed yet; try again after the run's first part")


def prompt_line(row: Row) -> str:
    """One line about a prompt: id, round, outcome and question."""
    outcome = f"{len(row.selected)} of {len(row.pairs)} pairs kept"
    question = replace_invisible(row.prompt.question).replace("\n", " ")[:80]
    return f"{row.prompt.prompt_id}  round {row.round}  {row.quarantined or outcome:22}  {question}"


def find_prompt(ledger: Ledger, prefix: str) -> Row:
    """The prompt whose id starts with a prefix; of several rounds, the row of the last one.

    Raises:
        UserError: the folder is not a run, no id starts with the prefix, or more than one does.
    """
    check_run(ledger)
    rows = {row.prompt.prompt_id: row for row in _matching(ledger, prefix)}
    if not rows:
        raise UserError(
            f"--prompt {prefix}: no prompt id of {ledger.uri} starts with it; omit --prompt to list some prompts"
        )
    if len(rows) > 1:
        some = ", ".join(sorted(rows)[:4])
        raise UserError(f"--prompt {prefix}: {len(rows)} prompt ids start with it ({some}, ...); give more characters")
    return next(iter(rows.values()))


def _matching(ledger: Ledger, prefix: str) -> Iterator[Row]:
    for round_ in ledger.rounds():
        for part in ledger.parts(round_):
            table = ledger.get_part(round_, "rows", part)
            ids = [prompt["prompt_id"] for prompt in table.column("prompt").to_pylist()]
            hits = [i for i, prompt_id in enumerate(ids) if prompt_id.startswith(prefix)]
            yield from from_table(table.take(hits)) if hits else ()


def write_file(path: Path, content: bytes) -> None:
    """Write a page to a local file, and its folder if missing; raises UserError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot write the file ({error.strerror or error}); choose another path") from None
