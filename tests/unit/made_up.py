"""A synthetic run for tests of the report: two pairs of one prompt, and an evaluation before and after training."""

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from vlrm_ray.config import Config
from vlrm_ray.evaluation.metrics import share
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline import row_accounting
from vlrm_ray.pipeline.board_client import BoardClient
from vlrm_ray.pipeline.row_counts import RowCounts
from vlrm_ray.pipeline.stages import Commit
from vlrm_ray.preferences.critique import format_critique
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger
from vlrm_ray.store.rows import Row, to_table
from vlrm_ray.types import (  # fmt: skip
    Candidate,
    CheckedClaim,
    Claim,
    ClaimType,
    Detection,
    Finding,
    ImageCondition,
    Noun,
    Pair,
    Prompt,
    ScoredCritique,
    SelectedPair,
    Verdict,
    Word,
)

TRAINING: dict[str, Any] = {
    "steps": 3, "skipped": 1, "dropped": {"longer_than_max_tokens": 2}, "first_loss": 1.5, "last_loss": 0.5,
    "best_accuracy": 0.75, "tokens": 900, "tokens_per_second": 1234.5, "wait_share": 0.015, "memory_gb": 1.25,
    "curve": [
        {"step": 1, "loss": 1.5, "accuracy": 0.5},
        {"step": 2, "loss": None, "accuracy": None},
        {"step": 3, "loss": 0.5, "accuracy": 0.75},
    ],
}  # fmt: skip
STAGES = (*ROLLOUT_STAGES, "train", "publish", "evaluate")


def config() -> Config:
    return Config(name="made-up", rounds=1)


def candidate(name: str, text: str, verdict: Verdict) -> Candidate:
    claim = Claim(ClaimType.ATTRIBUTE, Noun("circle"), "red", span=(0, min(10, len(text))))
    return Candidate(
        name, text, ImageCondition.FULL, (CheckedClaim(claim, Finding(verdict, 0.9, objects=(0,), words=(0,))),)
    )


def critiques(rewards: Sequence[float], text: str) -> tuple[ScoredCritique, ...]:
    return tuple(ScoredCritique(format_critique(text, text, reward > 0.5), reward, 1 - reward) for reward in rewards)


def pair(
    name: str, chosen: Sequence[float] = (0.9,), rejected: Sequence[float] = (0.1,), text: str = "The circle is red."
) -> Pair:
    """A pair whose critiques have these rewards; `text` stands for every text that a model writes."""
    return Pair(
        name,
        candidate(f"{name}-chosen", text, Verdict.SUPPORTED),
        candidate(f"{name}-rejected", text + "!", Verdict.CONTRADICTED),
        critiques(chosen, text),
        critiques(rejected, text),
    )


def row(pairs: Sequence[Pair], keep: Sequence[str], image: str = "a.png", sha256: str = "", text: str = "What?") -> Row:
    """A row in which the pairs in `keep` are selected, and all others dropped for their margin."""
    selected = [SelectedPair(p, p.chosen_critiques[0], p.rejected_critiques[0]) for p in pairs if p.pair_id in keep]
    candidates = tuple(c for p in pairs for c in (p.chosen, p.rejected))
    return Row(
        part=0, round=1, prompt=Prompt("feedbeef01", image, sha256, text), asked=len(candidates), candidates=candidates,
        width=64, height=48, objects=(Detection("circle", (4, 4, 20, 20), 0.9, "red"),), words=(Word(text[:40] or "?", (30, 4, 60, 20), 0.8),),
        pairs=tuple(pairs), selected=tuple(selected), rejected={p.pair_id: "margin" for p in pairs if p.pair_id not in keep},
    )  # fmt: skip


class FakeBoard(BoardClient):
    """Stands for the progress board, with what has been reported to it."""

    def __init__(self) -> None:
        self.handle: Any = None
        self.rows: dict[str, int] = {}
        self.busy: dict[str, float] = {}
        self.trained: list[dict[str, Any]] = []

    def counts(self) -> dict[str, int]:
        return self.rows

    def seconds(self) -> dict[str, float]:
        return {}

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        return {}

    def actor_seconds(self) -> dict[str, float]:
        return self.busy

    def reset_counts(self, *, only_times: bool = False) -> None: ...

    def steps(self, start: int) -> tuple[int, list[dict[str, Any]]]:
        return len(self.trained), self.trained[start:]


def write_image(folder: Path) -> tuple[str, str]:
    """Write an image for a row; returns its path and sha256."""
    sink = io.BytesIO()
    Image.new("RGB", (64, 48), "white").save(sink, "PNG")
    path = folder / "images" / "a.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sink.getvalue())
    return str(path), sha256_of(sink.getvalue())


def evaluation_result(hits: str, start: float, image: str = "a.png", text: str = "Is it red?") -> dict[str, Any]:
    """An evaluation with one digit per pair in `hits`: 1 if it is judged correctly, else 0."""
    metric = share([hit == "1" for hit in hits]).as_json()
    critique = asdict(ScoredCritique(format_critique(text, text, True), 0.8, 0.2))
    sample = {"item_id": "x-0", "kind": "attribute", "image": image, "question": text, "chosen": text, "rejected": text}
    names = ("hallucination_pair_accuracy", "blind_hallucination_pair_accuracy", "attribute_pair_accuracy")
    return {
        "metrics": dict.fromkeys(names, metric),
        "version": 0,
        "reliability": [{"low": 0.8, "high": 0.9, "n": 4, "mean_reward": 0.85, "right": 0.5}],
        "hits": {"hallucination_pair_accuracy": hits},
        "samples": [sample | {"chosen_critique": critique, "rejected_critique": critique}],
        **times(start),
    }


def times(start: float) -> dict[str, float]:
    return {"seconds": 1.0, "began": start, "ended": start + 1}


def ledger_of_one_round(
    folder: Path, before: str = "1100", after: str = "1111", text: str = "The circle is red.", until: str = "evaluate"
) -> Ledger:
    """A run with one round that is finished up to the stage `until`."""
    ledger = Ledger(str(folder))
    image, sha256 = write_image(folder)
    ledger.put_json("config.json", config().model_dump(mode="json", exclude={"cluster", "rounds"}))
    ledger.finish(0, "evaluate", evaluation_result(before, 1000.0, image, text))
    rows = [row([pair("a", text=text), pair("b", (0.5,), (0.5,), text)], ["a"], image, sha256, text)]
    spans = {"policy-0": [(1001.0, 1003.0)], "critic-0": [(1003.0, 1005.0)]}
    Commit(Config(), ledger)(to_table(rows))
    for stage, (_, row_counts) in row_accounting.stage_tables(rows).items():
        result = {"rows": row_counts.as_json(), "parts": 1, "wall_seconds": 4.0, **times(1001.0)}
        ledger.finish(1, stage, result | ({"spans": spans} if stage == "select" else {}))
    later = {
        "train": {"rows": RowCounts(1, 1).as_json(), "metrics": {}, "steps": TRAINING, **times(1005.0)},
        "publish": {"version": 1, "files": {}, **times(1006.0)},
        "evaluate": evaluation_result(after, 1007.0, image, text),
    }
    for stage, result in later.items():
        if STAGES.index(stage) <= STAGES.index(until):
            ledger.finish(1, stage, result)
    return ledger
