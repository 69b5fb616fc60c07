"""What finished runs have left, as `study.json` holds it; enough to go on elsewhere."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.study.arms import ARMS
from jobs.study.bag_of_words import bag_of_words
from vlrm_ray.config import ASSETS, Config, asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.ids import digest, fingerprint
from vlrm_ray.scenes.bench import CALIBRATION_PAIRS
from vlrm_ray.store.ledger import Ledger

Facts = dict[str, Any]


class Results:
    """The finished runs by arm and seed, in a file that is written after each."""

    def __init__(self, path: Path, method: str, committed: Path) -> None:
        self.path, self.method = path, method
        self.content: Facts = {"method": method, "arms": {}}
        for known in (path, committed):
            if known.is_file():
                content = json.loads(known.read_text())
                if content.get("method") == method:
                    self.content = content
                    return
                if known == path:
                    raise UserError(
                        f"{path} holds results of another method (configuration or assets have changed); move it away to begin anew"
                    )

    def run(self, arm: str, seed: int) -> Facts | None:
        """A finished run, or None."""
        found = self.content["arms"].get(arm, {}).get(str(seed))
        return None if found is None else dict(found)

    def add(self, arm: str, seed: int, facts: Facts) -> None:
        """Keep a finished run."""
        self.content["arms"].setdefault(arm, {})[str(seed)] = facts
        self.write()

    def write(self) -> None:
        """Write the file, all or nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".tmp")
        partial.write_text(json.dumps(self.content, indent=1) + "\n")
        partial.replace(self.path)

    def seeds(self, arm: str) -> list[int]:
        """Seeds that the arm has finished."""
        return sorted(map(int, self.content["arms"].get(arm, {})))


def method_fingerprint(base: Config) -> str:
    """Fingerprint of what results depend on: the method's configuration, the arms, the shipped models."""
    settings = base.model_dump(mode="json", exclude={"cluster", "name", "folder", "cache", "seed"})
    arms = {name: (arm.overrides, arm.truth, arm.once) for name, arm in ARMS.items()}
    return digest(settings, arms, CALIBRATION_PAIRS, fingerprint(Path(asset_path(ASSETS))))


def run_record(config: Config, ledger: Ledger, seconds: float, bench: Sequence[tuple[str, str, str]]) -> Facts:
    """What a finished run leaves: metrics by round, outcomes by item, and what a mere reader learns from its pairs."""
    rounds = [ledger.result(r, "evaluate") or {} for r in range(config.rounds + 1)]
    last = rounds[-1]
    words = bag_of_words(pairs_of(config, ledger), bench).as_json()
    return {
        "rounds": [{"round": i, "metrics": found["metrics"]} for i, found in enumerate(rounds)],
        "hits": {"first": rounds[0]["hits"], "last": last["hits"]},
        "prior": {"first": rounds[0]["prior"], "last": last["prior"]},
        "reliability": last["reliability"],
        "temperature": last["temperature"],
        "pairs": [(ledger.result(r, "select") or {})["rows"]["kept"] for r in range(1, config.rounds + 1)],
        "bag_of_words": words,
        "seconds": round(seconds),
    }


def pairs_of(config: Config, ledger: Ledger) -> list[tuple[str, str, str]]:
    """(question, chosen, rejected) of all pairs a run was trained on."""
    from vlrm_ray.store.rows import from_table

    found = []
    for round_ in range(1, config.rounds + 1):
        for part in ledger.parts(round_, "select"):
            for row in from_table(ledger.get_part(round_, "select", part)):
                found += [(row.prompt.question, pair.chosen, pair.rejected) for pair in row.selected]
    return found


def metric(run: Mapping[str, Any], name: str, round_: int = -1) -> float:
    """A metric's value after a round."""
    return float(run["rounds"][round_]["metrics"][name]["value"])
