"""Records of finished runs, stored in study.json."""

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
from vlrm_ray.store.filesystem import write_file
from vlrm_ray.store.ledger import Ledger

LATER_KEYS = (
    "max_rounds",
    "policy.engine.reproducible",
    "critic.engine.reproducible",
    "policy.engine.max_actors",
    "critic.engine.max_actors",
    "prompts.allow_hosts",
    "prompts.max_pixels",
    "prompts.recolor",
    "quarantine_limit",
    "offline",
    "trackers",
    "evaluation.holdout",
    "evaluation.benchmarks",
    "experts.uncalibrated",
    "experts.detector.calibration",
    "experts.detector.min_score",
    "pairing.min_confidence",
    "pairing.min_verified",
    "selection.mastered",
    "selection.checked",
    "selection.own",
    *(
        f"train.{key}"
        for key in (
            "max_tokens", "packing", "shared_prefix", "checkpointing", "compile", "loader_workers", "lr_scheduler", "warmup_ratio",
            "min_lr_ratio", "freeze", "average", "checkpoint_steps", "max_skipped", "step_timeout", "initial", "replay",
            "description_weight",
        )
    ),
)  # fmt: skip
"""Configuration keys that are younger than the committed results. With their defaults they change no result."""
LATER_ARMS = ("either_side", "recolored", "recolored_more")
"""Arms that are younger than the committed results."""
DEFAULTS_OF_THE_RESULTS = {"critic.writer": "newest", "selection.sides": "both"}
"""Keys that are younger than the committed results, with the value that stands for how these were made."""
TIMED = ("select", "train", "evaluate")
"""Stages whose times are recorded; `select` stands for all of gathering."""
FORMER_VALUES = {"train.micro_batch": 16, "train.lr": 1e-3}
"""Values in the committed results of keys that were removed, or whose default now depends on the model's size."""
RunRecord = dict[str, Any]
"""The record of one run, a JSON object; see `run_record`."""


class Results:
    """The records of finished runs by arm and seed, kept in a file that is rewritten after each run."""

    def __init__(self, path: Path, method: str, *committed: Path) -> None:
        """Load earlier results of the same method.

        Args:
            path: file of the results. It need not exist.
            method: the method's fingerprint (`method_fingerprint`).
            committed: results to start from if `path` does not exist; those of another method are ignored.

        Raises:
            UserError: if `path` holds results of another method.
        """
        self.path, self.method = path, method
        self.content: dict[str, Any] = {"method": method, "arms": {}}
        for file in (path, *committed):
            if file.is_file():
                content = json.loads(file.read_text())
                if content.get("method") == method:
                    self.content = content
                    return
                if file == path:
                    raise UserError(
                        f"{path} holds results of another method ({content.get('method')}, expected {method}), as the "
                        "configuration or the assets have changed; move the file away to start a new study"
                    )

    def run(self, arm: str, seed: int) -> RunRecord | None:
        """The record of a finished run, or None."""
        record = self.content["arms"].get(arm, {}).get(str(seed))
        return None if record is None else dict(record)

    def add(self, arm: str, seed: int, record: RunRecord) -> None:
        """Add the record of a finished run, and write the file."""
        self.content["arms"].setdefault(arm, {})[str(seed)] = record
        self.write()

    def write(self) -> None:
        """Write the file atomically."""
        write_file(str(self.path.absolute()), (json.dumps(self.content, indent=1) + "\n").encode())

    def seeds(self, arm: str) -> list[int]:
        """Seeds of the arm's finished runs, sorted."""
        return sorted(map(int, self.content["arms"].get(arm, {})))


def method_fingerprint(base: Config) -> str:
    """Fingerprint of everything the results depend on: the method's configuration, the arms and the shipped assets.

    `LATER_ARMS` are left out: an arm that is added does not change the results of the others.
    """
    settings = base.model_dump(mode="json", exclude={"cluster", "name", "folder", "cache", "seed"})
    defaults = Config().model_dump(mode="json")
    _drop_later_keys(settings, defaults)
    _restore_former_values(settings, defaults)
    arms = {
        name: (arm.overrides, arm.ground_truth, arm.single_round)
        for name, arm in ARMS.items()
        if name not in LATER_ARMS
    }
    return digest(settings, arms, CALIBRATION_PAIRS, fingerprint(Path(asset_path(ASSETS))))


def _drop_later_keys(settings: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Drop `LATER_KEYS` that have their default, and `DEFAULTS_OF_THE_RESULTS` that have their value."""
    for dotted in (*LATER_KEYS, *DEFAULTS_OF_THE_RESULTS):
        *path, key = dotted.split(".")
        section, default = settings, defaults
        for name in path:
            section, default = section[name], default[name]
        if section[key] == DEFAULTS_OF_THE_RESULTS.get(dotted, default[key]):
            del section[key]


def _restore_former_values(settings: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Give the `FORMER_VALUES` to keys that have their default or no longer exist."""
    for dotted, former in FORMER_VALUES.items():
        section, key = dotted.split(".")
        if settings[section].get(key) == defaults[section].get(key):
            settings[section][key] = former


def run_record(config: Config, ledger: Ledger, seconds: float, bench: Sequence[tuple[str, str, str]]) -> RunRecord:
    """The record of a finished run: metrics by round, outcomes by item, and the bag-of-words baseline.

    Args:
        config: the run's configuration.
        ledger: the run's ledger.
        seconds: duration of the run.
        bench: (question, chosen, rejected) of the bench's pairs, to test the baseline on.
    """
    rounds = [ledger.result(r, "evaluate") or {} for r in range(config.most_rounds + 1)]
    last = rounds[-1]
    return {
        "rounds": [{"round": i, "metrics": result["metrics"]} for i, result in enumerate(rounds)],
        "hits": {"first": rounds[0]["hits"], "last": last["hits"], **_hits_between(rounds)},
        "prior": {"first": rounds[0]["prior"], "last": last["prior"]},
        "reliability": last["reliability"],
        "temperature": last["temperature"],
        "pairs": [(ledger.result(r, "select") or {})["rows"]["kept"] for r in range(1, config.most_rounds + 1)],
        "bag_of_words": bag_of_words(pairs_of(config, ledger), bench).as_json(),
        "seconds": round(seconds),
        "seconds_by_round": [_seconds(ledger, r) for r in range(1, config.most_rounds + 1)],
        "cpu_seconds_by_round": [_cpu_seconds(ledger, r) for r in range(1, config.most_rounds + 1)],
    }


def _hits_between(rounds: Sequence[RunRecord]) -> dict[str, Any]:
    """Outcomes after each round, by names such as "round 1", if all rounds were judged on the same items."""
    sizes = [{name: len(bits) for name, bits in result["hits"].items()} for result in rounds]
    if any(size != sizes[0] for size in sizes):
        return {}
    return {f"round {number}": result["hits"] for number, result in enumerate(rounds) if number}


def _seconds(ledger: Ledger, round_: int) -> dict[str, float]:
    """Duration of each stage of a round in seconds."""
    results = {stage: ledger.result(round_, stage) or {} for stage in TIMED}
    return {stage: round(result.get("ended", 0.0) - result.get("began", 0.0), 1) for stage, result in results.items()}


def _cpu_seconds(ledger: Ledger, round_: int) -> dict[str, float]:
    """CPU seconds of the same stages; {} if they were not measured."""
    results = {stage: ledger.result(round_, stage) or {} for stage in TIMED}
    return {stage: result["cpu_seconds"] for stage, result in results.items() if "cpu_seconds" in result}


def pairs_of(config: Config, ledger: Ledger) -> list[tuple[str, str, str]]:
    """(question, chosen, rejected) of all pairs that a run was trained on."""
    from vlrm_ray.reward.training.training_data import TrainingPairs

    pairs = []
    for round_ in range(1, config.most_rounds + 1):
        data = TrainingPairs(ledger, round_)
        found = data.read(range(len(data)))
        pairs += [(found[i].question, found[i].chosen, found[i].rejected) for i in range(len(data))]
    return pairs


def metric(run: Mapping[str, Any], name: str, round_: int = -1) -> float:
    """Value of a metric after a round, by default the last one."""
    return float(run["rounds"][round_]["metrics"][name]["value"])
