"""Extract claims from each line of a text file, or measure a claim extractor on annotated responses.

    python jobs/evaluate.py claims --file LINES.txt                      print a readable list
    python jobs/evaluate.py claims --file LINES.txt --json               print one JSON object per line of text
    python jobs/evaluate.py claims --gold tests/data/photo_claims.yaml   print precision, recall and F1 per claim type
    python jobs/evaluate.py claims --gold tests/data/photo_claims.yaml --failures    and each response with an error

A JSON object is {"text", "claims": [{"type", "subject", "value", "object", "negated", "hedged", "span"}]}.
`subject` and `object` are singular nouns. `value` is the attribute, the number, the relation or the written text; it is
null for claims of type "object". `span` is [start, end] in characters of the line.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.evaluations.extractor_options import add_extractor_options, open_extractor
from vlrm_ray.claims import Extractor, gold
from vlrm_ray.errors import UserError
from vlrm_ray.types import CHECKED_TYPES, Claim, ClaimType

_MAX_PRINTED = 400
"""Characters of a text that are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--file", metavar="LINES.txt", help="responses, one per line; - reads standard input")
    source.add_argument("--gold", metavar="FILE.yaml", help="annotated responses to measure the extractor on")
    parser.add_argument("--question", default="", metavar="Q", help="the question that every line answers")
    parser.add_argument("--json", action="store_true", help="print JSON; with --gold, it lists the failures too")
    parser.add_argument("--failures", action="store_true", help="with --gold, list the missed and false claims")
    add_extractor_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """List the claims of the lines, or measure the extractor."""
    responses = gold.load_annotations(arguments.gold) if arguments.gold else []
    lines = [] if arguments.gold else _read_lines(arguments.file)
    with open_extractor(arguments) as extractor:
        if arguments.gold:
            _measure(extractor, responses, as_json=arguments.json, failures=arguments.failures)
        else:
            _list(extractor, lines, arguments.question, as_json=arguments.json)


def _read_lines(name: str) -> list[str]:
    """Lines of a file or, for "-", of standard input. Only "\\n" and "\\r\\n" end a line."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror or error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        source = "standard input" if name == "-" else name
        raise UserError(f"{source} is not UTF-8 text (line {line}); give a text file, or convert it to UTF-8") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _list(extractor: Extractor, lines: Sequence[str], question: str, *, as_json: bool) -> None:
    """Print the claims of each line."""
    extracted = extractor.claims_batch([(line, question) for line in lines])
    for line, found in zip(lines, extracted, strict=True):
        if as_json:
            print(json.dumps({"text": line, "claims": [_as_json(c) for c in found.claims]}))
        else:
            listed = [f"  {gold.claim_key(c)!s:40} {line[slice(*c.span)]!r}" for c in found.claims]
            print("\n".join([_printable(line), *listed]))


def _as_json(claim: Claim) -> dict[str, object]:
    """A claim as a JSON object."""
    return {**gold.claim_key(claim)._asdict(), "span": list(claim.span)}


def _printable(text: str) -> str:
    """The start of a text, with control characters replaced because a terminal would act on them."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_MAX_PRINTED])
    return printable + (" ..." if len(text) > _MAX_PRINTED else "")


def _measure(
    extractor: Extractor, responses: Sequence[gold.AnnotatedResponse], *, as_json: bool, failures: bool
) -> None:
    """Print the scores on the responses used for development and on those held out, and the failures if asked for."""
    for name, held_out in (("developed on", False), ("held out", True)):
        part = [r for r in responses if r.held_out is held_out]
        if not part:
            continue
        score = gold.measure(extractor, part)
        figures = {"all": _figures(score, tuple(ClaimType)), "checked": _figures(score, CHECKED_TYPES)}
        figures |= {kind.value: _figures(score, [kind]) for kind in ClaimType}
        if as_json:
            print(json.dumps({"part": name, "responses": len(part), **figures, "failures": score.failures}))
            continue
        print(f"{name}: {len(part)} responses, F1 {score.f1():.4f}")
        print(f"  {'claims':10}{'n':>6}{'precision':>11}{'recall':>8}{'F1':>7}")
        for kind, row in figures.items():
            print(f"  {kind:10}{row['n']:>6}{row['precision']:>11.3f}{row['recall']:>8.3f}{row['f1']:>7.3f}")
        for text, missed, false in score.failures if failures else ():
            print(f"  {_printable(text)}")
            print("".join(f"    missed  {c}\n" for c in missed) + "".join(f"    false   {c}\n" for c in false), end="")


def _figures(score: gold.Score, types: Sequence[str]) -> dict[str, float]:
    """Number of expected claims of some types, with precision, recall and F1."""
    return {
        "n": score.expected(types),
        "precision": round(score.precision(types), 4),
        "recall": round(score.recall(types), 4),
        "f1": round(score.f1(types), 4),
    }
