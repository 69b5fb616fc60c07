"""`evaluate.py claims` as its users run it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def claims(*options: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "jobs/evaluate.py", "claims", *options]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, timeout=120)


def test_each_line_of_text_gives_one_object() -> None:
    lines = ["There are two dogs left of a car.", "", "Zürich “OPEN” \x1b[31m\x0b\u2028 ☃ {\"a\"}", "<b>", "\x00"]  # fmt: skip
    done = claims("--file", "-", "--json", stdin="\n".join(lines).encode() + b"\n\xff\xfe A cat.\r\n")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [f["text"] for f in found[:-1]] == lines
    assert found[0]["claims"][2] == {
        "type": "relation", "subject": "dog", "value": "left_of", "object": "car", "negated": False, "hedged": False, "span": [10, 32],
    }  # fmt: skip
    assert [c["subject"] for c in found[-1]["claims"]] == ["cat"]


def test_a_bare_answer_is_read_with_the_question() -> None:
    done = claims("--file", "-", "--json", "--question", "Is there a dog?", stdin=b"No.")
    assert json.loads(done.stdout)["claims"][0] | {"span": None} == {
        "type": "object", "subject": "dog", "value": None, "object": None, "negated": True, "hedged": False, "span": None,
    }  # fmt: skip


def test_people_see_the_words_behind_each_claim_and_no_control_characters() -> None:
    done = claims("--file", "-", stdin=b"A red \x1b[2Jcircle.")
    assert "attribute circle red" in done.stdout.decode()
    assert b"\x1b" not in done.stdout


def test_the_gold_file_is_measured_with_its_failures_listed() -> None:
    done = claims("--gold", "tests/data/photo_claims.yaml")
    shown = done.stdout.decode()
    assert "held out: 50 responses, F1 0." in shown
    assert "missed" in shown


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = claims("--file", str(tmp_path / "none.txt"))
    assert done.returncode == 2
    assert done.stderr.decode().strip().count("\n") == 0
    assert "cannot be read" in done.stderr.decode()
