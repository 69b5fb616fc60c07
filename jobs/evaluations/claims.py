"""The claims of each line of a text file, or an extractor against sentences annotated by hand.

    python jobs/evaluate.py claims --file LINES.txt                   a readable list
    python jobs/evaluate.py claims --file LINES.txt --json            one JSON object per line of text
    python jobs/evaluate.py claims --gold tests/data/photo_claims.yaml   F1 per claim type, and every failure

A line of JSON is {"text", "claims": [{"type", "subject", "value", "object", "negated", "hedged", "span"}]}:
subject and object are singular nouns; value is the attribute, the number, the relation or the words read, null
where there is none; span is [start, end] in characters of the line.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.evaluations.extractor_options import add_options, chosen
from vlrm_ray.claims import Extractor, gold
from vlrm_ray.errors import UserError
from vlrm_ray.types import Claim, ClaimType


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `Command`."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--file", metavar="LINES.txt", help="responses, one a line; - reads standard input")
    source.add_argument("--gold", metavar="FILE.yaml", help="sentences with the claims expected")
    parser.add_argument("--question", default="", metavar="Q", help="the question that every line answers")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """See `Command`."""
    sentences = gold.load(arguments.gold) if arguments.gold else []
    lines = [] if arguments.gold else _lines(arguments.file)
    with chosen(arguments) as extractor:
        if arguments.gold:
            _measure(extractor, sentences, as_json=arguments.json)
        else:
            _list(extractor, lines, arguments.question, as_json=arguments.json)


def _lines(name: str) -> list[str]:
    """Lines as "\\n" ends them: other control characters are part of a response."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror or error}") from error
    text = content.decode("utf-8-sig", "replace")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _list(extractor: Extractor, lines: Sequence[str], question: str, *, as_json: bool) -> None:
    found = extractor.many([(line, question) for line in lines])
    for line, claims in zip(lines, found, strict=True):
        if as_json:
            print(json.dumps({"text": line, "claims": [_as_json(c) for c in claims]}))
        else:
            shown = [f"  {gold.key(c)!s:40} {line[slice(*c.span)]!r}" for c in claims]
            print("\n".join([_printable(line), *shown]))


def _as_json(claim: Claim) -> dict[str, object]:
    return {**gold.key(claim)._asdict(), "span": list(claim.span)}


def _printable(text: str) -> str:
    """The text without characters that would move a terminal's cursor, cut to what a person reads."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:400])
    return shown + (" ..." if len(text) > 400 else "")


def _measure(extractor: Extractor, sentences: Sequence[gold.Sentence], *, as_json: bool) -> None:
    for name, held_out in (("developed on", False), ("held out", True)):
        part = [s for s in sentences if s.held_out is held_out]
        if not part:
            continue
        score = gold.measure(extractor, part)
        by_type = {kind.value: round(score.f1([kind]), 4) for kind in ClaimType}
        if as_json:
            print(
                json.dumps(
                    {"part": name, "n": len(part), "f1": round(score.f1(), 4), **by_type, "failures": score.failures}
                )
            )
            continue
        print(
            f"{name}: {len(part)} responses, F1 {score.f1():.4f}  "
            + "  ".join(f"{k} {v:.3f}" for k, v in by_type.items())
        )
        for text, missed, false in score.failures:
            print(f"  {_printable(text)}")
            print("".join(f"    missed  {c}\n" for c in missed) + "".join(f"    false   {c}\n" for c in false), end="")
