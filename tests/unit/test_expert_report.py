"""The quality report of the experts, and the `verify` command on one image."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vlrm_ray.claims import make_extractor
from vlrm_ray.config import Config
from vlrm_ray.evaluation.reliability_diagram import draw
from vlrm_ray.scenes.shifts import IN_DISTRIBUTION, labelled_image
from vlrm_ray.scenes.statements import Statement
from vlrm_ray.scenes.verdict_quality import ExpertsUnderTest, Outcome, figures, figures_of, outcome_of, reliability
from vlrm_ray.types import CheckedClaim, Claim, ClaimType, Finding, Noun, Verdict

ROOT = Path(__file__).parents[2]
S, C, U = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNVERIFIABLE


def outcome(verdict: Verdict, true: bool, confidence: float = 0.97) -> Outcome:
    return Outcome(Statement(ClaimType.COUNT, "", true), verdict, confidence)


def test_figures_are_precision_and_recall() -> None:
    outcomes = [
        outcome(C, False),
        outcome(C, False),
        outcome(C, True),
        outcome(S, True),
        outcome(U, False),
        outcome(U, True),
    ]
    found = figures(outcomes)["count"]
    assert (found["precision_contradicted"], found["recall_contradicted"]) == (round(2 / 3, 4), round(2 / 3, 4))
    assert (found["precision_supported"], found["recall_supported"]) == (1.0, round(1 / 3, 4))
    assert (found["unverifiable"], found["n"]) == (round(2 / 6, 4), 6)
    assert figures(outcomes)["text"]["precision_supported"] is None


def test_one_contradicted_claim_contradicts_a_statement() -> None:
    claim = Claim(ClaimType.COUNT, Noun("star"))
    checked = [CheckedClaim(claim, Finding(v, c)) for v, c in ((S, 0.99), (C, 0.96), (U, 0.0))]
    assert outcome_of(Statement(ClaimType.COUNT, "", False), checked).verdict is C
    assert outcome_of(Statement(ClaimType.COUNT, "", False), []).verdict is U


def test_a_statement_of_which_one_claim_is_open_is_not_supported() -> None:
    claim = Claim(ClaimType.OBJECT, Noun("star"))
    sure, less, opened = (
        CheckedClaim(claim, Finding(v, c, reason=r)) for v, c, r in ((S, 0.99, ""), (S, 0.97, ""), (U, 0.0, "crowd"))
    )
    both = outcome_of(Statement(ClaimType.OBJECT, "", True), [sure, less])
    assert (both.verdict, both.confidence) == (S, 0.97)
    half = outcome_of(Statement(ClaimType.OBJECT, "", True), [sure, opened])
    assert (half.verdict, half.confidence, half.reason) == (U, 0.0, "crowd")


def test_reliability_compares_confidence_with_accuracy(tmp_path: Path) -> None:
    bins = reliability([outcome(S, True), outcome(S, False), outcome(C, False, 1.0), outcome(U, True, 0.0)])
    assert [(b["n"], b["accuracy"]) for b in bins] == [(2, 0.5), (1, 1.0)]
    draw({"some": bins}, tmp_path / "diagram.svg")
    assert "<svg" in (tmp_path / "diagram.svg").read_text()


@pytest.fixture(scope="module")
def shipped() -> ExpertsUnderTest:
    from actors.local import load_vision_experts
    from vlrm_ray.experts.verifier import Verifier

    config = Config()
    return ExpertsUnderTest(load_vision_experts(config), make_extractor("rule"), Verifier.from_config(config.experts))


@pytest.mark.parametrize("kind", [IN_DISTRIBUTION, "small_objects", "overlap"])
def test_the_shipped_experts_are_seldom_wrong_and_abstain_under_shift(shipped: ExpertsUnderTest, kind: str) -> None:
    outcomes = [o for batch in shipped.run(kind, range(74_000_000, 74_000_040)) for o in batch]
    found = figures_of(outcomes)
    wrong = [o for o in outcomes if o.verdict is not U and not o.right]
    assert len(wrong) <= 2, wrong
    unverifiable = found["unverifiable"]
    assert unverifiable is not None
    assert unverifiable < 0.2 if kind == IN_DISTRIBUTION else unverifiable > 0.3


def test_verify_prints_claims_verdicts_and_evidence_of_one_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.evaluations import verify

    labelled = labelled_image(IN_DISTRIBUTION, 74_000_000)
    labelled.rendered.image.save(tmp_path / "image.png")
    obj = labelled.scene.shapes[0]
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    text = f"There is a {obj.shape}. There is no {obj.shape}."
    options = ["--image", str(tmp_path / "image.png"), "--text", text]
    verify.run(parser.parse_args([*options, "--json"]))
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert [c["finding"]["verdict"] for c in printed["claims"]] == ["supported", "contradicted"]
    assert obj.shape in [o["name"] for o in printed["evidence"]["objects"]]
    verify.run(parser.parse_args(options))
    assert f"not: object {obj.shape}" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"GIF89a no image"])
def test_a_missing_or_broken_image_ends_with_one_line_and_status_2(tmp_path: Path, content: bytes | None) -> None:
    image = tmp_path / "image.png"
    if content is not None:
        image.write_bytes(content)
    command = [
        sys.executable,
        str(ROOT / "jobs" / "evaluate.py"),
        "verify",
        "--image",
        str(image),
        "--text",
        "A dog.",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
