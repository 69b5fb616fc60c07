"""The command `evaluate.py claims`."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_claims(*options: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "jobs/evaluate.py", "claims", *options]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, timeout=120)


def test_json_has_one_object_per_line() -> None:
    lines = ["There are two dogs left of a car.", "", "Zürich “OPEN” \x1b[31m\x0b\u2028 ☃ {\"a\"}", "<b>", "\x00"]  # fmt: skip
    process = run_claims("--file", "-", "--json", stdin="\n".join(lines).encode() + b"\n A cat.\r\n")
    found = [json.loads(line) for line in process.stdout.splitlines()]
    assert process.returncode == 0, process.stderr
    assert [f["text"] for f in found[:-1]] == lines
    assert found[0]["claims"][2] == {
        "type": "relation", "subject": "dog", "value": "left_of", "object": "car", "negated": False, "hedged": False, "span": [10, 32],
    }  # fmt: skip
    assert [c["subject"] for c in found[-1]["claims"]] == ["cat"]


def test_a_bare_answer_uses_the_question() -> None:
    process = run_claims("--file", "-", "--json", "--question", "Is there a dog?", stdin=b"No.")
    assert json.loads(process.stdout)["claims"][0] | {"span": None} == {
        "type": "object", "subject": "dog", "value": None, "object": None, "negated": True, "hedged": False, "span": None,
    }  # fmt: skip


def test_the_listing_shows_the_words_of_each_claim_without_control_characters() -> None:
    process = run_claims("--file", "-", stdin=b"A red \x1b[2Jcircle.")
    assert "attribute circle red" in process.stdout.decode()
    assert b"\x1b" not in process.stdout


def test_gold_prints_scores_and_failures() -> None:
    process = run_claims("--gold", "tests/data/photo_claims.yaml")
    printed = process.stdout.decode()
    assert "held out: 50 responses, F1 0." in printed
    assert "missed" not in printed
    assert "missed" in run_claims("--gold", "tests/data/photo_claims.yaml", "--failures").stdout.decode()


def test_gold_as_json_has_precision_recall_and_the_failures() -> None:
    process = run_claims("--gold", "tests/data/photo_claims.yaml", "--extractor", "parse", "--json")
    parts = [json.loads(line) for line in process.stdout.splitlines()]
    assert [(p["part"], p["responses"]) for p in parts] == [("developed on", 186), ("held out", 50)]
    assert parts[0]["relation"].keys() == {"n", "precision", "recall", "f1"}
    assert parts[0]["all"]["n"] == parts[0]["checked"]["n"] + parts[0]["state"]["n"]
    text, missed, false = parts[0]["failures"][0]
    assert text
    assert missed or false


def test_a_missing_file_gives_a_one_line_error(tmp_path: Path) -> None:
    process = run_claims("--file", str(tmp_path / "none.txt"))
    assert process.returncode == 2
    assert process.stderr.decode().strip().count("\n") == 0
    assert "cannot be read" in process.stderr.decode()


def test_a_file_that_is_no_text_is_refused() -> None:
    process = run_claims("--file", "docs/report.png")
    assert (process.returncode, process.stdout) == (2, b"")
    expected = "error: docs/report.png is not UTF-8 text (line 1); give a text file, or convert it to UTF-8"
    assert process.stderr.decode().strip() == expected


def test_the_line_that_is_not_utf_8_is_named() -> None:
    process = run_claims("--file", "-", stdin="A dog.\nA café.\n".encode("latin-1"))
    assert process.returncode == 2
    assert "standard input is not UTF-8 text (line 2)" in process.stderr.decode()
