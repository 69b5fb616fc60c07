"""The GPUs of a run by role: the plan, the metrics and the report count the same ones, and rounds record what they had."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_monitoring import Clock, Fleet, Shown, load, sampled
from tests.unit.test_monitoring import clock as clock
from tests.unit.test_monitoring import log as log
from tests.unit.test_monitoring import recorder as recorder
from tests.unit.test_monitoring import shown as shown
from tests.unit.test_outcomes import FakeFleet, run_of
from vlrm_ray import config as configuration
from vlrm_ray.config import Config
from vlrm_ray.pipeline import resource_plan
from vlrm_ray.pipeline.recorder import Recorder
from vlrm_ray.pipeline.usage import Usage
from vlrm_ray.pipeline.utilization import advice, idle, record

ROOT = Path(__file__).parents[2]
ONE_GPU = re.findall(
    r"(?<= )[a-z_.]+=[\w.]+",
    (ROOT / "docs" / "cluster.md")
    .read_text()
    .partition("\n## One GPU of 80 GB\n")[2]
    .partition("```sh")[2]
    .partition("```")[0],
)
"""The settings of the recipe for one GPU."""
LLM = ["experts.extractor=llm", "experts.extractor_model=some/model"]
CASES = [
    ([], 8),
    (["experts.reader.pool.gpus=0.5", "experts.reader.pool.max=4", "experts.detector.pool.min=2"], 8),
    (LLM, 9),
    (ONE_GPU, 1),
    (["cluster.overlap=1"], 8.25),
    (["cluster.overlap=1", "experts.detector.pool.min=2", "experts.reader.pool.gpus=0.5"], 9),
]
"""Settings that differ from the shipped configuration for GPUs, and the GPUs that the run has at the same time."""


def shipped(*overrides: str) -> Config:
    return configuration.load(ROOT / "jobs" / "configs" / "qwen2_5_vl_7b.yaml", overrides)


def round_at(start: float, work: float, train: float, config: Config | None = None, **actors: int) -> dict[str, Any]:
    """A round whose `actors` work from a time on, and which then trains; it records the GPUs of `config`, if there is one."""
    spans = {f"{name}-{i}": [[start, start + work]] for name, count in actors.items() for i in range(count)}
    recorded = record(config) if config else {}
    began = start + work
    training = {"began": began, "ended": began + train, "seconds": train, "steps": {"seconds": train}}
    return {"select": {"spans": spans} | recorded, "train": training | recorded}


def json_of(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


@pytest.mark.parametrize(("overrides", "gpus"), CASES)
def test_plan_metrics_and_report_count_the_same_gpus(
    overrides: list[str], gpus: float, recorder: Recorder, shown: Shown, clock: Clock
) -> None:
    config = shipped(*overrides)
    assert resource_plan.peak(config)[1] == gpus
    fleet = Fleet()
    usage = Usage(config, fleet, recorder)
    fleet.engines = {"policy-0": load(busy=10.0)}
    sampled(usage, clock)
    busy = config.policy.engine.gpus
    assert shown.of("vlrm_gpu_idle_fraction")["all",] == pytest.approx(1 - busy / gpus)
    found = idle(json_of(config), {1: round_at(0, 100, 100, config), 2: round_at(200, 100, 100, config)})
    assert found["gpus"] == gpus


def test_one_gpu_whose_roles_take_turns_is_never_idle_while_one_of_them_works() -> None:
    """Engines and the detector share the GPU for 500 s, then the training has it for 500 s."""
    config = shipped(*ONE_GPU)
    rounds = {n: round_at(1000 * n, 500, 500, config, policy=1, critic=1, detect=1) for n in (1, 2)}
    found = idle(json_of(config), rounds)
    assert (found["gpus"], found["seconds"], found["idle"]) == (1, 1000, 0)


@pytest.mark.parametrize("grown", [1, 3])
def test_a_pool_has_the_actors_that_worked_and_not_those_that_it_might_have(grown: int) -> None:
    """The detector's pool may grow to 4; as many as there were worked for half of the time."""
    config = shipped("cluster.overlap=1")
    rounds = {n: round_at(200 * n, 100, 100, config, policy=2, critic=3, detect=grown) for n in (1, 2)}
    found = idle(json_of(config), rounds)
    assert found["gpus"] == 8 + 0.25 * grown
    assert found["idle_by_role"]["detect"] == 0.5


def test_the_engine_of_the_claim_extractor_is_among_the_gpus() -> None:
    config = shipped(*LLM)
    rounds = {n: round_at(200 * n, 100, 100, config, policy=2, critic=3, extractor=1) for n in (1, 2)}
    assert idle(json_of(config), rounds)["idle_by_role"]["extract"] == 0.5


def test_experts_of_different_sizes_weigh_by_their_own_gpus(recorder: Recorder, shown: Shown, clock: Clock) -> None:
    """A detector with a quarter of a GPU works all the time, a reader with a half does nothing."""
    fleet = Fleet()
    usage = Usage(shipped("experts.reader.pool.gpus=0.5"), fleet, recorder)
    fleet.board.busy = {"detect-0": 10.0}
    sampled(usage, clock)
    assert shown.of("vlrm_gpu_idle_fraction")["expert",] == pytest.approx(1 - 0.25 / 0.75)


BEFORE = shipped()
AFTER = shipped("policy.engine.actors=4", "critic.engine.actors=4", "train.workers=8")


def test_the_advice_takes_the_seconds_of_a_round_with_the_gpus_that_it_had() -> None:
    """Round 1 ran with 2, 3 and 3 GPUs and took 100 s of rollout and 300 s of training: 900 GPU seconds on 8 GPUs are 112.5 s."""
    rounds = {1: round_at(0, 100, 300, BEFORE, policy=2, critic=3)}
    found = advice(json_of(AFTER), rounds)
    assert found["gpus"] == {"generate": 4, "judge": 4, "train": 8}
    assert found["seconds"] == pytest.approx(max(200 / 4, 300 / 4) + 900 / 8, abs=0.1)


def test_a_training_of_a_later_session_counts_with_its_own_workers() -> None:
    """The first session made the candidates, the second one trained."""
    first, second = (round_at(0, 100, 300, config, policy=2, critic=3) for config in (BEFORE, AFTER))
    found = advice(json_of(AFTER), {1: {"select": first["select"], "train": second["train"]}})
    assert found["seconds"] == pytest.approx(300 / 4 + 300, abs=0.1)


def test_idle_time_is_that_of_the_gpus_of_each_round() -> None:
    """8 GPUs for 200 s, of which 3 train for 100 s; then 16 GPUs for 200 s, of which 8 train for 100 s. No engine is used."""
    rounds = {1: round_at(0, 100, 100, BEFORE), 2: round_at(200, 100, 100, BEFORE), 3: round_at(400, 100, 100, AFTER)}
    rounds[2]["train"] |= record(AFTER)
    found = idle(json_of(AFTER), rounds)
    assert (found["gpus"], found["seconds"]) == (12, 400)
    assert found["idle"] == pytest.approx(1 - (3 * 100 + 8 * 100) / (8 * 200 + 16 * 200), abs=1e-4)
    assert found["idle_by_role"]["train"] == 0.5


def test_a_run_from_before_gpus_were_recorded_is_read_by_its_configuration() -> None:
    """Its configuration may have keys and values that this version does not know, and may lack others."""
    content = json_of(BEFORE)
    content["experts"]["detector"]["nms"] = 0.5
    content["critic"]["writer"] = "oldest"
    del content["policy"]["engine"]["max_actors"]
    old = {n: round_at(200 * n, 100, 100, policy=2, critic=3) for n in (1, 2)}
    new = {n: round_at(200 * n, 100, 100, BEFORE, policy=2, critic=3) for n in (1, 2)}
    assert idle(content, old) == idle(json_of(BEFORE), new)
    assert idle(content, old)["gpus"] == 8
    assert advice(content, old)["seconds"] == 200


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that end at once."""

    def fit(config: Config, ledger: Any, *_: Any, **__: Any) -> tuple[str, dict[str, Any]]:
        folder = Path(ledger.path("trained"))
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        return str(folder), {"loss": 1.0}

    monkeypatch.setattr("vlrm_ray.reward.training.fit.fit", fit)


class TrainedFleet(FakeFleet):
    """A fleet whose critics make room for a training."""

    def release_devices(self) -> None: ...

    def reacquire_devices(self) -> None: ...


@pytest.mark.usefixtures("trains")
def test_rounds_record_the_gpus_that_they_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that was gathered with some numbers of actors, and trained after a resume with others."""
    run, _ = run_of(tmp_path, monkeypatch, ["", ""])
    run.config = BEFORE
    run.gather(1)
    selected = run.ledger.result(1, "select") or {}
    assert selected["devices"]["generate"] == {"actors": 2, "most": 2, "gpus": 1.0, "phases": ["rollout", "training"]}
    assert selected["devices"]["detect"] == {"actors": 1, "most": 4, "gpus": 0.25, "phases": ["rollout"]}
    assert "read" not in selected["devices"]  # it works on CPUs
    run.config, run.fleet = AFTER, TrainedFleet()
    run._train_and_publish(1, {"rows": {"kept": 1}}, 0)
    assert (run.ledger.result(1, "train") or {})["devices"]["train"]["actors"] == 8
