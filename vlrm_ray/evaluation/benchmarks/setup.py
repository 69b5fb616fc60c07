"""Which model judges, how it is asked, and that a result's folder belongs to one judge."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlrm_ray.config import Config, load
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks.judging import PAIRWISE, POINTWISE
from vlrm_ray.ids import digest
from vlrm_ray.preferences.critique import DETAILED, FORMATS
from vlrm_ray.reward.model_folder import CARD, check_model
from vlrm_ray.store.ledger import Ledger

_NOTHING_ELSE = (
    "policy.engine.cpus=0",
    "train.cpus=0",
    "experts.detector.pool.cpus=0",
    "experts.reader.enabled=false",
    "cluster.dashboard=false",
)
"""A benchmark starts judges only, so it asks the cluster for nothing else."""
_LARGE = (768, 8192)
"""Tokens of a critique, and of prompt and critique together, in the wording for large models."""


@dataclass(frozen=True)
class Judge:
    """A model and how it is asked.

    Attributes:
        kind: `pointwise` or `pairwise`.
        config: `critic` says everything about the model; the rest of a run asks for nothing.
        identity: equal only for judges that would give the same answers.
    """

    kind: str
    config: Config
    identity: dict[str, Any]

    @property
    def described(self) -> str:
        """For the log."""
        critic = self.config.critic
        return f"{self.kind} by {critic.model}, wording {critic.format}, k={critic.k}, {critic.engine.kind}"


def judge_of(folder: Path, kind: str | None, k: int, path: str | None, overrides: Sequence[str]) -> Judge:
    """Read the model's folder and the configuration; raises UserError.

    A published reward model says in its card which wording it was trained on; a plain VLM is asked in
    the `detailed` one and compares both answers, unless `kind` says otherwise.
    """
    if not folder.is_dir():
        raise UserError(f"--rm {folder}: there is no such folder; give a published reward model or a Hugging Face VLM")
    check_model("--rm", str(folder.resolve()))
    if any(override.startswith("critic.model=") for override in overrides):
        raise UserError("the model is given by --rm; leave critic.model out")
    card = _card(folder)
    wording = str(card["critique_format"]) if card else DETAILED.name
    sizes = _room(folder) if wording == DETAILED.name and path is None else ()
    mine = (f"critic.model={folder.resolve()}", f"critic.k={k}", f"critic.format={wording}", *_NOTHING_ELSE)
    config = load(path, [*mine, *sizes, *overrides])
    kind = kind or (POINTWISE if card else PAIRWISE)
    critic = config.critic
    identity = {
        "judge": kind,
        "model": digest(sorted((p.name, p.stat().st_size) for p in folder.iterdir() if p.is_file()), card),
        **critic.model_dump(mode="json", include={"format", "k", "max_tokens", "temperature"}),
        "engine": critic.engine.model_dump(mode="json", include={"kind", "dtype", "max_model_len"}),
        "label_mass": config.selection.label_mass,
    }
    return Judge(kind, config, identity)


def bind(out: Path, benchmark: str, judge: Judge) -> None:
    """Tie a result's folder to a benchmark and a judge; raises UserError where it belongs to others."""
    ledger = Ledger(str(out))
    mine = {"benchmark": benchmark, **judge.identity}
    known = ledger.get_json("bench.json")
    if known is None:
        ledger.put_json("bench.json", mine)
        return
    changed = [f"{key}: {known.get(key)} -> {value}" for key, value in mine.items() if known.get(key) != value]
    if changed:
        raise UserError(f"{out} holds results of another judge ({'; '.join(changed)[:200]}); choose another --out")


def _card(folder: Path) -> dict[str, Any] | None:
    file = folder / CARD
    if not file.is_file():
        return None
    try:
        card: dict[str, Any] = json.loads(file.read_text())
        wording = card["critique_format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a reward model's card: expected JSON with critique_format ({error})") from None
    if wording not in FORMATS:
        raise UserError(f"{file}: critique_format: expected one of {', '.join(FORMATS)}, got {wording!r}")
    return card


def _room(folder: Path) -> tuple[str, str]:
    """Room for a large model's critique, within what the model can take."""
    settings = json.loads((folder / "config.json").read_text())
    longest = settings.get("text_config", settings).get("max_position_embeddings", _LARGE[1])
    total = min(_LARGE[1], int(longest))
    return f"critic.max_tokens={min(_LARGE[0], total // 2)}", f"critic.engine.max_model_len={total}"
