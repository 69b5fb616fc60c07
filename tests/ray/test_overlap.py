"""With `cluster.overlap` a run makes candidates while it trains, and ends with the same results as without."""

import time
from pathlib import Path
from typing import Any

import pytest

from jobs import iterate
from tests import simulated_run
from tests.simulated_run import SimulatedFleet, prompt_file
from vlrm_ray import config as configuration
from vlrm_ray.engines import Health
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.reward.training import fit
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger
from vlrm_ray.store.prepared_parts import PreparedParts

pytestmark = pytest.mark.usefixtures("ray_cluster")
SETTINGS = (
    "rounds=2", "prompts.per_round=16", "part_rows=4", "policy.samples=4", "policy.engine.reproducible=true",
    "critic.engine.reproducible=true", "critic.engine.actors=2", "experts.reader.enabled=false", "train.cpus=0.1",
    "train.epochs=2", "evaluation.pairs=0", "evaluation.holdout=0.3",
)  # fmt: skip
PARTS, PROMPTS = 4, 16


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight images with eight questions each."""
    return prompt_file(tmp_path_factory.mktemp("prompts"))


@pytest.fixture(autouse=True)
def _simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.fleet.Fleet", SimulatedFleet)
    monkeypatch.setattr(fit, "fit", simulated_run.fit)


def run(folder: Path, prompts: str, *overrides: str) -> Ledger:
    config = configuration.load(None, [*SETTINGS, f"prompts.source={prompts}", f"folder={folder}", *overrides])
    ledger = Ledger(str(folder / config.name))
    iterate.run_rounds(config, ledger, Progress(), lambda: None)
    return ledger


def results(ledger: Ledger) -> dict[str, Any]:
    """Everything that a run found, without its times."""
    found: dict[str, Any] = {}
    for round_ in range(3):
        for stage in (*ROLLOUT_STAGES, "publish", "evaluate"):
            result = ledger.result(round_, stage) or {}
            found[f"{round_} {stage}"] = {k: result.get(k) for k in ("rows", "sha256", "files", "version", "metrics")}
    return found


@pytest.mark.parametrize("writer", ["newest", "base"])
def test_the_next_round_starts_while_this_one_trains_and_the_results_are_the_same(
    writer: str, tmp_path: Path, prompts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(tmp_path, prompts, f"critic.writer={writer}", "name=alone")
    trained: list[int] = []

    def until_something_is_made_ahead(*arguments: Any, **named: Any) -> Any:
        ledger, round_ = arguments[1:3]
        while round_ == 1 and not (PreparedParts(ledger, 2).numbers() or ledger.parts(2)):
            time.sleep(0.05)
        trained.append(round_)
        return simulated_run.fit(*arguments, **named)

    monkeypatch.setattr(fit, "fit", until_something_is_made_ahead)
    overlapped = run(tmp_path, prompts, f"critic.writer={writer}", "name=overlapped", "cluster.overlap=1")
    assert trained == [1, 2]
    assert results(overlapped) == results(alone)
    overlap = (overlapped.result(2, "select") or {})["overlap"]
    assert overlap["parts_ahead"] == PARTS
    assert (overlap["critic_version"], overlap["critic_staleness"]) == ((0, 1) if writer == "base" else (1, 0))
    assert not PreparedParts(overlapped, 2).numbers()


def test_a_run_that_ends_in_a_training_goes_on_with_what_was_made_ahead(
    tmp_path: Path, prompts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part is prepared, the others are not: the results are those of a run that made nothing ahead."""
    settings = ("critic.writer=newest", "evaluation.holdout=0")
    expected = results(run(tmp_path, prompts, *settings, "name=whole"))
    prepared = PreparedParts(Ledger(str(tmp_path / "cut")), 2)

    def killed(*_: Any, **__: Any) -> Any:
        while not prepared.numbers():
            time.sleep(0.05)
        raise UserError("killed")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="killed"):
        patch.setattr(fit, "fit", killed)
        run(tmp_path, prompts, *settings, "name=cut", "cluster.overlap=1")
    for number in prepared.numbers()[1:]:
        prepared.remove(number)
    ledger = run(tmp_path, prompts, *settings, "name=cut")
    assert results(ledger) == expected
    assert not prepared.numbers()


def test_the_first_graph_starts_while_the_engines_do_and_the_results_are_the_same(
    tmp_path: Path, prompts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = results(run(tmp_path, prompts, "rounds=1", "name=after"))
    prompts_before_ready: list[int] = []

    class SlowToStart(SimulatedFleet):
        """Its engines are ready when all prompts have passed the first stage of the graph."""

        def ready(self) -> list[Health]:
            deadline = time.monotonic() + 120
            while self.board.counts().get("prompts", 0) < PROMPTS and time.monotonic() < deadline:
                time.sleep(0.05)
            prompts_before_ready.append(self.board.counts().get("prompts", 0))
            return super().ready()

    monkeypatch.setattr("actors.fleet.Fleet", SlowToStart)
    monkeypatch.setattr("vlrm_ray.pipeline.rounds.begins_early", lambda config: True)  # as with GPUs
    ledger = run(tmp_path, prompts, "rounds=1", "name=meanwhile")
    assert prompts_before_ready == [PROMPTS]
    assert results(ledger) == expected
    assert ledger.result(1, "select") is not None
