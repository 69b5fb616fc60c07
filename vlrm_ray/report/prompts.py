"""Finding single prompts of a run, for a page of their own."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vlrm_ray.errors import UserError
from vlrm_ray.report.gallery import rows_of
from vlrm_ray.report.words import visible
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, from_table

LISTED = 12
"""Prompts that are listed where none is named."""


def check_run(ledger: Ledger) -> None:
    """Raise UserError unless the folder is a run's."""
    if ledger.get("config.json") is None:
        raise UserError(f"{ledger.uri} holds no run (no config.json); give --run runs/<name>")


def some_prompts(ledger: Ledger) -> list[Row]:
    """The first prompts of the newest gathered round, those with pairs if there are any; raises UserError."""
    check_run(ledger)
    for round_ in reversed(ledger.rounds()):
        paired = list(islice((row for row in rows_of(ledger, round_) if row.pairs), LISTED))
        if found := paired or list(islice(rows_of(ledger, round_), LISTED)):
            return found
    raise UserError(f"{ledger.uri} has not gathered any prompt yet; wait for its first part")


def prompt_line(row: Row) -> str:
    """A prompt in one line."""
    outcome = f"{len(row.selected)} of {len(row.pairs)} pairs kept"
    question = visible(row.prompt.question).replace("\n", " ")[:80]
    return f"{row.prompt.prompt_id}  round {row.round}  {row.quarantined or outcome:22}  {question}"


def find_prompt(ledger: Ledger, prefix: str) -> Row:
    """The one prompt whose id begins so; raises UserError where there is none, or more than one."""
    check_run(ledger)
    found = {row.prompt.prompt_id: row for row in _matching(ledger, prefix)}
    if not found:
        raise UserError(
            f"no prompt of {ledger.uri} has an id that begins with {prefix!r}; leave --prompt out to list some"
        )
    if len(found) > 1:
        some = ", ".join(sorted(found)[:4])
        raise UserError(f"{len(found)} prompts have an id that begins with {prefix!r} ({some}, ...); give more of it")
    return next(iter(found.values()))


def _matching(ledger: Ledger, prefix: str) -> Iterator[Row]:
    for round_ in ledger.rounds():
        for part in ledger.parts(round_, "select"):
            table = ledger.get_part(round_, "select", part)
            hits = [i for i, key in enumerate(table.column("prompt_id").to_pylist()) if key.startswith(prefix)]
            yield from from_table(table.take(hits)) if hits else ()


def put_file(path: Path, content: bytes) -> None:
    """Write a page where the user wants it; raises UserError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
