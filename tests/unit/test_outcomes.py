"""What a run says when prompts, pairs or critiques are lost: counts with reasons, and an error if nothing is left."""

import io
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from tests.unit import made_up
from vlrm_ray.config import Config, load
from vlrm_ray.engines import REFUSED, TOO_LONG, Completion, Request
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline import part_stream, prompts, rounds, row_accounting
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.stages import Commit
from vlrm_ray.preferences import pairing, selection
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.cache_keys import LEAST_SHARDS
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger
from vlrm_ray.store.rows import Row, to_table
from vlrm_ray.types import Candidate, ImageCondition, Prompt, PromptRef

PARTS = ["image_missing", "", TOO_LONG]


class FakeFleet:
    """The parts of a fleet that `gather` and `evaluate` use; its critic refuses texts with the word LONG."""

    loaded: Sequence[int] = ()
    """Versions that were loaded into the critics."""

    def __init__(self) -> None:
        self.board = made_up.FakeBoard()

    def stage_actors(self) -> Any:
        return None

    def loads(self) -> dict[str, dict[str, int]]:
        return {"policy-0": {"running": 1, "waiting": 2}}

    def load(self, version: int, *, published: bool = False) -> float:
        self.loaded = [*self.loaded, version]
        return 0.0

    def load_writers(self, newest: int) -> None: ...

    def judge(self, requests: list[Request], done: Callable[[int], None]) -> list[Completion]:
        done(len(requests))
        return [Completion("", refused=TOO_LONG) if "LONG" in request.text else Completion("x") for request in requests]


def graph_of(problems: Sequence[str]) -> Callable[..., Any]:
    """Replaces `build_graph`: quarantines the prompts that have a problem, and finds no pair in the others."""

    def build(
        config: Config, round_: int, parts: dict[int, list[PromptRef]], _: object, ledger: Ledger, *__: object
    ) -> Any:
        def batches(**_: object) -> Iterator[pa.Table]:
            for part, refs in parts.items():
                rows = [row_of(part, ref, problem, len(refs)) for ref, problem in zip(refs, problems, strict=True)]
                yield Commit(Config(), ledger)(to_table(rows))

        return types.SimpleNamespace(iter_batches=batches)

    return build


def row_of(part: int, ref: PromptRef, problem: str, part_rows: int) -> Row:
    row = Row(part, 1, Prompt(ref.image, ref.image, "", ref.question), problem, part_rows)
    if not problem:
        row.candidates = (Candidate(f"c{ref.image}", "Nothing.", ImageCondition.FULL),)
        row.asked, row.unused = 1, {f"c{ref.image}": pairing.NO_CLAIMS}
    return row


def run_of(folder: Path, monkeypatch: pytest.MonkeyPatch, problems: Sequence[str]) -> tuple[rounds.Rounds, io.StringIO]:
    refs = [PromptRef(f"/data/{i}.png", "Why?") for i in range(len(problems))]
    monkeypatch.setattr(prompts, "prompts_of_round", lambda *_: refs)
    monkeypatch.setattr(part_stream, "build_graph", graph_of(problems))
    output = io.StringIO()
    progress = Progress(Console(file=output, width=2000, soft_wrap=True))
    return rounds.Rounds(load(None, ["rounds=1"]), Ledger(str(folder)), FakeFleet(), progress), output


def test_the_gather_line_counts_what_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, output = run_of(tmp_path, monkeypatch, PARTS)
    run.gather(1)
    line = output.getvalue().splitlines()[-1]
    assert "kept: generate 1, verify 0, pair 0, critique 0, select 0; quarantined: " in line
    assert f"image_missing 1 of 3, {TOO_LONG} 1 of 3 prompts (first: /data/0.png, 'Why?': image_missing)" in line
    run.train(1)
    told = output.getvalue().splitlines()[-1]
    assert "no response makes a checkable claim (no_claim 1), so nothing is trained; ask for descriptions" in told
    assert told.endswith("version 0 is kept")


def test_the_result_of_a_round_holds_the_sums_of_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = run_of(tmp_path, monkeypatch, PARTS)
    run.gather(1)
    (marker,) = run.ledger.part_markers(1).values()
    assert (run.ledger.result(1, "select") or {})["statistics"] == marker["statistics"]


def test_before_a_round_the_keys_are_collected_that_a_killed_session_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = run_of(tmp_path, monkeypatch, [])
    answers = AnswerCache(run.ledger, "candidates-0", str)
    for index in range(LEAST_SHARDS):
        answers.put({str(index): ("Nothing.",)})
    run.begin()
    assert len(run.ledger.names("evidence/candidates-0/keys", "", ".parquet")) == 1


def test_what_a_killed_session_has_left_of_a_finished_round_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = run_of(tmp_path, monkeypatch, PARTS)
    run.gather(1)
    run.train(1)
    left = [
        tmp_path / "round-0001" / "prepared" / "part-00000.parquet",
        tmp_path / "train" / "round-0001" / "checkpoint",
    ]
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    run.gather(1)
    run.train(1)
    assert not any(file.exists() for file in left)


def test_a_round_without_losses_says_nothing_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, output = run_of(tmp_path, monkeypatch, ["", ""])
    run.gather(1)
    assert "quarantined" not in output.getvalue()


@pytest.mark.parametrize(
    ("problems", "expected"),
    [
        (
            ["image_missing"] * 6,
            "image_missing 6 of 6 prompts (first: /data/0.png, 'Why?': image_missing); correct the image paths",
        ),
        (
            [TOO_LONG] * 2,
            f"{TOO_LONG} 2 of 2 prompts (first: /data/0.png, 'Why?': {TOO_LONG}); raise policy.engine.max_model_len",
        ),
        (["image_missing", "image_undecodable"], "image_missing 1 of 2, image_undecodable 1 of 2 prompts"),
        ([f"{REFUSED}: number {i}" for i in range(9)], "4 other reasons prompts"),
        (
            [f"{REFUSED}: out of memory"] * 16,
            "refused all of the first 16 prompts (refused by the engine: out of memory)",
        ),
    ],
)
def test_a_round_without_a_usable_prompt_ends_the_run_and_can_be_made_again(
    problems: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = run_of(tmp_path, monkeypatch, problems)
    with pytest.raises(UserError) as caught:
        run.gather(1)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (run.ledger.parts(1), run.ledger.result(1, "select")) == ([], None)
    run, _ = run_of(tmp_path, monkeypatch, [""] * len(problems))  # the images are there now
    run.gather(1)
    result = run.ledger.result(1, "generate")
    assert result is not None
    assert result["rows"]["kept"] == len(problems)


@pytest.mark.parametrize(
    ("stage", "reason", "advice"),
    [
        ("generate", "empty_response", "check policy.model"),
        ("generate", TOO_LONG, "raise policy.engine.max_model_len"),
        ("verify", "no_claim", "ask for descriptions"),
        ("pair", pairing.NO_PARTNER, "raise policy.samples"),
        ("pair", pairing.NO_CLAIMS, "experts.detector"),
        ("pair", pairing.INCOMPLETE, "experts.extractor"),
        ("pair", pairing.LENGTH, "raise pairing.max_length_ratio"),
        ("critique", "no_judgement", "raise critic.max_tokens"),
        ("select", selection.MARGIN, "lower selection.margin"),
        ("select", selection.LABEL_MASS, "lower selection.label_mass"),
        ("select", selection.WRONG_CHOSEN, "raise critic.k"),
        ("select", TOO_LONG, "raise critic.engine.max_model_len"),
    ],
)
def test_the_reasons_are_those_of_the_first_stage_that_kept_nothing(stage: str, reason: str, advice: str) -> None:
    results: dict[str, dict[str, Any]] = {}
    for name in ROLLOUT_STAGES:
        before = ROLLOUT_STAGES.index(name) < ROLLOUT_STAGES.index(stage)
        results[name] = {"kept": 5 if before else 0, "dropped": {}, "quarantined": {}}
    results[stage]["dropped"] = {"other": 1, reason: 4}
    text = row_accounting.why_nothing_is_trained(results)
    assert f"({reason} 4, other 1), so nothing is trained; " in text
    assert advice in text


def test_an_evaluation_counts_refused_requests_and_ends_if_all_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, output = run_of(tmp_path, monkeypatch, [])
    fine, long = Request("fine", None), Request("LONG", None)
    assert [critique.text for critique in run._judge([fine, long], lambda count: None)] == ["x", ""]
    assert f"requests that the critic refused, which count as undecided: {TOO_LONG} 1 of 2" in output.getvalue()
    with pytest.raises(UserError, match=f"the critic refused all requests: {TOO_LONG} 1 of 1"):
        run._judge([long], lambda count: None)
