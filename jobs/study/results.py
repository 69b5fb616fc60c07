"""Records of finished runs, stored in study.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.study.arms import ARMS
from vlrm_ray.config import ASSETS, Config, asset_path
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.metrics import Metric, share
from vlrm_ray.evaluation.words import TIE, TextPair, WordModel, sides_of
from vlrm_ray.ids import fingerprint
from vlrm_ray.pipeline.run_config import differences
from vlrm_ray.scenes.bench import CALIBRATION_PAIRS
from vlrm_ray.store.filesystem import write_file
from vlrm_ray.store.ledger import Ledger

TIMED = ("select", "train", "evaluate")
"""Stages whose times are recorded; `select` stands for all of gathering."""
BINDING = "study-arm.json"
"""File of a run's folder with its method and the definition of its arm."""
CARDS = ("card.json", "MODEL_CARD.md")
"""Files that describe an asset, on which no result depends."""
RunRecord = dict[str, Any]
"""The record of one run, a JSON object; see `run_record`."""
Method = dict[str, Any]
"""What the results of a study depend on, a JSON object; see `method_of`."""


class Results:
    """The records of finished runs by arm and seed, kept in a file that is rewritten after each run.

    A record counts only while its arm is defined as it was when the run was made.
    """

    def __init__(self, path: Path, method: Method, *committed: Path) -> None:
        """Load earlier results of the same method.

        Args:
            path: file of the results. It need not exist.
            method: what the results depend on (`method_of`).
            committed: results to start from if `path` does not exist; those of another method are ignored.

        Raises:
            UserError: if `path` holds results of another method.
        """
        self.path, self.method = path, method
        self.content: dict[str, Any] = {"method": method, "arms": {}}
        for file in (path, *committed):
            if file.is_file():
                content = json.loads(file.read_text())
                if is_method(content.get("method"), method):
                    self.content = content
                    return
                if file == path:
                    raise UserError(
                        f"{path} holds results of another method, as the configuration or the assets have changed; give another "
                        "--out to start a new study, as the runs in that folder are of the other method too"
                    )

    def run(self, arm: str, seed: int) -> RunRecord | None:
        """The record of a finished run, or None."""
        return self._runs(arm).get(seed)

    def add(self, arm: str, seed: int, record: RunRecord) -> None:
        """Add the record of a finished run, and write the file."""
        runs = self._runs(arm) | {seed: record | {"arm": ARMS[arm].definition()}}
        self.content["arms"][arm] = {str(number): run for number, run in runs.items()}
        self.write()

    def write(self) -> None:
        """Write the file atomically."""
        write_file(str(self.path.absolute()), (json.dumps(self.content, indent=1) + "\n").encode())

    def seeds(self, arm: str) -> list[int]:
        """Seeds of the arm's finished runs, sorted."""
        return sorted(self._runs(arm))

    @property
    def arms(self) -> list[str]:
        """The arms with finished runs, in the order of `ARMS`."""
        return [arm for arm in ARMS if self._runs(arm)]

    def _runs(self, arm: str) -> dict[int, RunRecord]:
        """Records by seed of the runs that were made by the arm's present definition."""
        runs, definition = self.content["arms"].get(arm, {}), ARMS[arm].definition()
        return {int(seed): record for seed, record in runs.items() if record["arm"] == definition}

    def bind(self, arm: str, ledger: Ledger) -> None:
        """Store the method and the arm in a new run's folder, or check that an interrupted run has the same.

        Raises:
            UserError: if the run was started with another method, or with another definition of the arm.
        """
        current = {"method": self.method, "arm": ARMS[arm].definition()}
        stored = ledger.get_json(BINDING)
        if stored is None:
            ledger.put_json(BINDING, current)
        elif stored["arm"] != current["arm"] or not is_method(stored["method"], self.method):
            raise UserError(
                f"{ledger.root} was started with another method or another definition of the arm {arm}; move that folder away"
            )


def method_of(base: Config) -> Method:
    """Everything that the results of all arms depend on: the method's configuration and the shipped assets."""
    return {
        "settings": base.model_dump(mode="json", exclude={"cluster", "name", "folder", "cache", "seed"}),
        "calibration_pairs": CALIBRATION_PAIRS,
        "assets": fingerprint(Path(asset_path(ASSETS)), without=CARDS),
    }


def is_method(stored: Method, method: Method) -> bool:
    """Whether stored results are those of a method, by the rule by which a run is resumed (`run_config.differences`)."""
    if not isinstance(stored, dict) or {**stored, "settings": None} != {**method, "settings": None}:
        return False
    return not differences(stored["settings"], method["settings"])


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
        "bag_of_words": _bag_of_words(pairs_of(config, ledger), bench).as_json(),
        "seconds": round(seconds),
        "seconds_by_round": [_seconds(ledger, r) for r in range(1, config.most_rounds + 1)],
        "cpu_seconds_by_round": [_cpu_seconds(ledger, r) for r in range(1, config.most_rounds + 1)],
    }


def _bag_of_words(train: Sequence[TextPair], test: Sequence[TextPair]) -> Metric:
    """Accuracy on test pairs of a model of words that is fitted to the training pairs; ties count as wrong."""
    return share([difference > TIE for difference in WordModel.fit(sides_of(train)).differences(sides_of(test))])


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
