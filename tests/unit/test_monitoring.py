"""The metrics of a run: what is recorded, that nothing is counted twice, and that nothing that fails ends a run."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit import made_up
from vlrm_ray import config as configuration
from vlrm_ray import monitoring
from vlrm_ray.monitoring import CATALOGUE, Definition, bins
from vlrm_ray.pipeline.monitor import RunMonitor, short
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.recorder import Recorder, Series
from vlrm_ray.pipeline.rounds import Fleet as RoundsFleet
from vlrm_ray.pipeline.rounds import Rounds
from vlrm_ray.pipeline.stages import Commit, Tally
from vlrm_ray.pipeline.usage import Usage, role_of
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import to_table

Key = tuple[str, ...]


class Shown:
    """Stands for Ray: sums of counters, last values of gauges, values of histograms; by name and values of the tags."""

    def __init__(self) -> None:
        self.values: dict[Key, float] = {}
        self.observed: dict[Key, list[float]] = {}

    def series(self, definition: Definition) -> Series:
        return partial(self._record, definition)

    def _record(self, definition: Definition, value: float, tags: Mapping[str, str]) -> None:
        assert set(tags) == {monitoring.RUN, *definition.tags}
        key = (definition.name, *(tags[tag] for tag in definition.tags))
        if definition.kind == "histogram":
            self.observed.setdefault(key, []).append(value)
        elif definition.kind == "counter":
            self.values[key] = self.values.get(key, 0) + value
        else:
            self.values[key] = value

    def of(self, name: str) -> dict[Key, float]:
        return {key[1:]: round(value, 6) for key, value in self.values.items() if key[0] == name}


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def log() -> list[str]:
    """The lines that a recorder has logged."""
    return []


@pytest.fixture
def recorder(shown: Shown, log: list[str]) -> Iterator[Recorder]:
    """A recorder that records everything without an error."""
    yield Recorder("run", log.append, shown.series)
    assert log == []


# --- catalogue and recorder ---------------------------------------------------------------------


def test_names_are_stable_and_described() -> None:
    for name, metric in CATALOGUE.items():
        assert name.startswith("vlrm_")
        assert metric.description.endswith(".")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert min(metric.buckets, default=1) > 0, "Ray refuses other bounds"
        assert list(metric.buckets) == sorted(metric.buckets)
    assert CATALOGUE["vlrm_pairs"].exported() == ("ray_vlrm_pairs_total",)
    assert CATALOGUE["vlrm_round"].exported() == ("ray_vlrm_round",)
    assert "ray_vlrm_margin_bucket" in CATALOGUE["vlrm_margin"].exported()


def test_values_are_counted_in_the_bucket_that_prometheus_would_choose() -> None:
    counts = bins("vlrm_margin", [-0.4, 0.0, 0.05, 0.051, 1.0, 1.2])
    assert (counts[0], counts[1], counts[2], counts[-1]) == (2, 1, 1, 2)
    assert len(counts) == len(CATALOGUE["vlrm_margin"].buckets)


def test_gauges_are_repeated_until_they_are_forgotten(recorder: Recorder, shown: Shown) -> None:
    """Ray drops those that are not set again."""
    recorder.record("vlrm_round", 2)
    recorder.record("vlrm_train_loss", 0.5)
    recorder.record("vlrm_evaluation", 0.7, {"metric": "pair_accuracy", "round": "1"})
    recorder.record("vlrm_rows", 5, {"stage": "generate"})
    recorder.forget_gauges(monitoring.TRAIN)
    shown.values.clear()
    recorder.repeat_gauges()
    assert shown.values == {("vlrm_round",): 2, ("vlrm_evaluation", "pair_accuracy", "1"): 0.7}


def test_binned_values_are_recorded_within_their_buckets(recorder: Recorder, shown: Shown) -> None:
    counts = bins("vlrm_margin", [-0.4, 0.07, 0.07, 1.0001])
    recorder.record_bins("vlrm_margin", counts, {"outcome": "kept"})
    values = shown.observed["vlrm_margin", "kept"]
    assert bins("vlrm_margin", values) == counts
    assert all(value >= 0 for value in values), "Ray drops negative ones"


def test_a_counter_takes_no_zero_because_ray_refuses_it(recorder: Recorder, shown: Shown) -> None:
    recorder.record("vlrm_rows", 0, {"stage": "generate"})
    assert shown.values == {}


def test_what_fails_is_never_raised_but_logged_once(log: list[str]) -> None:
    def broken(definition: Definition) -> Any:
        raise RuntimeError("Ray is gone\nTraceback ...")

    recorder = Recorder("run", log.append, broken)
    for _ in range(3):
        recorder.record("vlrm_round", 1)
        recorder.record("vlrm_version", 1)  # the same error
    assert log == ["metrics: vlrm_round: Ray is gone"]
    recorder.record("vlrm_unknown", 1)
    assert log[1:] == ["metrics: vlrm_unknown: 'vlrm_unknown'"]


def test_without_ray_nothing_is_recorded(log: list[str]) -> None:
    Recorder("run", log.append).record("vlrm_round", 1)
    assert log == []


# --- rounds -------------------------------------------------------------------------------------


def test_a_part_is_counted_by_verdict_outcome_and_reason(tmp_path: Path, recorder: Recorder, shown: Shown) -> None:
    monitor = RunMonitor(made_up.config(), Ledger(str(tmp_path)), recorder)
    pairs = made_up.pair("a", (0.9, 0.8)), made_up.pair("b", (0.3,), (0.7,))
    for tally in Tally.of_table(Commit(monitor.config, monitor.ledger)(to_table([made_up.row(pairs, ["a"])]))):
        monitor.committed(tally)
    assert shown.of("vlrm_candidates") == {("full",): 4}
    assert shown.of("vlrm_verdicts") == {("attribute", "supported"): 2, ("attribute", "contradicted"): 2}
    assert shown.of("vlrm_pairs") == {("kept", ""): 1, ("dropped", "margin"): 1}
    assert bins("vlrm_margin", shown.observed["vlrm_margin", "kept"]) == bins("vlrm_margin", [0.8])
    assert bins("vlrm_margin", shown.observed["vlrm_margin", "refused"]) == bins("vlrm_margin", [-0.4])
    assert bins("vlrm_reward", shown.observed["vlrm_reward", "chosen"]) == bins("vlrm_reward", [0.9, 0.8, 0.3])
    assert len(shown.observed["vlrm_label_mass", "rejected"]) == 2


def test_reasons_are_tags_without_their_details() -> None:
    assert short("refused by the engine: CUDA error at 0x7f") == "refused by the engine"
    assert len(short("x" * 500)) <= 60


def test_a_run_that_resumes_shows_its_finished_rounds(tmp_path: Path, recorder: Recorder, shown: Shown) -> None:
    ledger = made_up.ledger_of_one_round(tmp_path)
    monitor = RunMonitor(made_up.config(), ledger, recorder)
    monitor.start(Fleet())
    monitor.close()
    assert shown.of("vlrm_version") == {(): 1}
    assert shown.of("vlrm_evaluation")["hallucination_pair_accuracy", "1"] == 1


def test_a_new_run_shows_the_version_that_it_begins_with(tmp_path: Path, recorder: Recorder, shown: Shown) -> None:
    """Grafana lists the runs that have a version."""
    monitor = RunMonitor(made_up.config(), Ledger(str(tmp_path)), recorder)
    monitor.start(Fleet())
    monitor.close()
    assert shown.of("vlrm_version") == {(): 0}


def test_a_run_that_resumes_in_a_training_shows_its_round(tmp_path: Path, recorder: Recorder, shown: Shown) -> None:
    ledger = made_up.ledger_of_one_round(tmp_path, until="select")
    rounds = Rounds(made_up.config(), ledger, cast(RoundsFleet, Fleet()), Progress())
    rounds.monitor.recorder = recorder
    rounds.gather(1)
    assert shown.of("vlrm_round") == {(): 1}


def test_the_step_of_a_training_is_recorded_without_what_is_unknown(
    tmp_path: Path, recorder: Recorder, shown: Shown
) -> None:
    monitor = RunMonitor(made_up.config(), Ledger(str(tmp_path)), recorder)
    step = {"round": 1, "step": 1, "steps": 2, **dict.fromkeys(monitoring.STEP_FIELDS, 2.0), "mfu": None, "skipped": 0}
    monitor.trained_step({"round": 1, "rows": {}})
    monitor.trained_step({"round": 1, "train": step})
    monitor.trained_step({"round": 1, "train": step})
    assert shown.of("vlrm_train_loss") == {(): 2}
    assert shown.of("vlrm_train_tokens") == {(): 4}
    assert shown.of("vlrm_train_mfu") == shown.of("vlrm_train_skipped") == {}


# --- usage --------------------------------------------------------------------------------------


class Fleet:
    """Stands for a fleet, with what it reports."""

    def __init__(self) -> None:
        self.board = made_up.FakeBoard()
        self.engines: dict[str, dict[str, Any]] = {}

    def loads(self) -> Mapping[str, Mapping[str, Any]]:
        return self.engines


def load(running: int = 0, waiting: int = 0, tokens: int = 0, busy: float = 0.0) -> dict[str, Any]:
    return {"running": running, "waiting": waiting, "finished": 0, "tokens": tokens, "busy_seconds": busy}


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("vlrm_ray.pipeline.usage.time", clock)
    return clock


GPUS = (
    "policy.engine.actors=2", "policy.engine.gpus=1", "critic.engine.actors=1", "critic.engine.gpus=1",
    "critic.engine.tensor_parallel=2", "train.workers=4", "train.gpus=1",
)  # fmt: skip


def sampled(usage: Usage, clock: Clock, seconds: float = 10.0) -> None:
    clock.now += seconds
    usage.sample()


def test_differences_are_counted_also_when_a_count_starts_again(recorder: Recorder, shown: Shown, clock: Clock) -> None:
    fleet = Fleet()
    usage = Usage(configuration.load(), fleet, recorder)
    fleet.board.rows = {"generate": 40, "detect cache hits": 3}
    fleet.engines = {"policy-0": load(2, 5, tokens=100, busy=4.0)}
    fleet.board.busy = {"detect-0": 1.5, "policy-0": 9.0}
    sampled(usage, clock)
    fleet.board.rows, fleet.engines = {"generate": 60, "detect cache hits": 3}, {"policy-0": load(tokens=30, busy=1.0)}
    sampled(usage, clock)  # the engine was started again
    fleet.board.rows, fleet.board.busy = {"generate": 5}, {"detect-0": 0.5}
    sampled(usage, clock)  # the next round
    assert shown.of("vlrm_rows") == {("generate",): 65}
    assert shown.of("vlrm_cache_hits") == {("detect",): 3}
    assert shown.of("vlrm_engine_tokens") == {("generate", "policy-0"): 130}
    assert shown.of("vlrm_busy_seconds") == {("generate", "policy-0"): 5.0, ("expert", "detect-0"): 2.0}
    assert shown.of("vlrm_engine_waiting") == {("generate", "policy-0"): 0}


def test_other_counts_of_a_stage_are_no_stages(recorder: Recorder, shown: Shown, clock: Clock) -> None:
    fleet = Fleet()
    usage = Usage(configuration.load(), fleet, recorder)
    fleet.board.rows = {
        "self-label": 4,
        "generate cut": 3,
        "critique refused by critic-3 only": 2,
        "read cache hits": 1,
    }
    sampled(usage, clock)
    assert shown.of("vlrm_rows") == {("self-label",): 4}
    assert shown.of("vlrm_cache_hits") == {("read",): 1}


def test_an_engine_that_does_not_answer_has_no_work_and_is_not_counted_again(
    recorder: Recorder, shown: Shown, clock: Clock
) -> None:
    fleet = Fleet()
    usage = Usage(configuration.load(), fleet, recorder)
    for engines in ({"critic-0": load(3, 4, 100, 5.0)}, {}, {"critic-0": load(1, 0, 120, 6.0)}):
        fleet.engines = engines
        sampled(usage, clock)
    assert shown.of("vlrm_engine_tokens") == {("judge", "critic-0"): 120}
    assert shown.of("vlrm_engine_running") == {("judge", "critic-0"): 1}


def test_idle_fraction_weighs_roles_by_their_gpus(recorder: Recorder, shown: Shown, clock: Clock) -> None:
    """Eight GPUs: two generators, a critic on two, four train workers."""
    fleet = Fleet()
    usage = Usage(configuration.load(None, GPUS), fleet, recorder)
    fleet.engines = {"policy-0": load(busy=10.0), "policy-1": load(busy=5.0), "critic-0": load(busy=2.5)}
    sampled(usage, clock)
    assert shown.of("vlrm_gpu_idle_fraction") == {
        ("generate",): 0.25, ("judge",): 0.75, ("train",): 1.0, ("all",): pytest.approx(1 - (15 + 5) / 80),
    }  # fmt: skip


def test_engines_that_were_added_count_also_while_they_have_nothing_to_do(
    recorder: Recorder, shown: Shown, clock: Clock
) -> None:
    """Two generators are planned and four are there, of which one works."""
    fleet = Fleet()
    elastic = ["policy.engine.max_actors=4", "policy.engine.reproducible=false"]
    usage = Usage(configuration.load(None, [*GPUS, *elastic]), fleet, recorder)
    fleet.engines = {f"policy-{i}": load(busy=10.0 * (i == 0)) for i in range(4)}
    sampled(usage, clock)
    assert shown.of("vlrm_gpu_idle_fraction")["generate",] == 0.75
    assert shown.of("vlrm_gpu_idle_fraction")["all",] == pytest.approx(0.9)  # of ten GPUs


def test_experts_without_gpus_count_for_none(recorder: Recorder, shown: Shown, clock: Clock) -> None:
    """Two detectors with a quarter of a GPU each are busy for a tenth of the time; the readers work on CPUs all the time."""
    fleet = Fleet()
    pools = ["experts.detector.pool.gpus=0.25", "experts.detector.pool.min=2", "experts.detector.pool.max=2"]
    usage = Usage(configuration.load(None, [*GPUS, *pools, "experts.reader.pool.gpus=0"]), fleet, recorder)
    fleet.board.busy = {"detect-0": 1.0, "detect-1": 1.0, "read-0": 10.0}
    sampled(usage, clock)
    assert shown.of("vlrm_gpu_idle_fraction")["expert",] == pytest.approx(0.9)
    # of 8 GPUs in 10 s: while detectors have half of one, the train workers have none
    assert shown.of("vlrm_gpu_idle_fraction")["all",] == pytest.approx(1 - 0.5 / 80)


def test_phased_roles_take_turns_on_the_same_gpus(recorder: Recorder, shown: Shown, clock: Clock) -> None:
    fleet = Fleet()
    usage = Usage(configuration.load(None, [*GPUS, "cluster.placement=phased"]), fleet, recorder)
    fleet.board.trained = [{"seconds": 10.0, "wait_seconds": 2.0}]
    sampled(usage, clock)
    assert shown.of("vlrm_gpu_idle_fraction")["all",] == pytest.approx(0.2)


def test_work_that_is_reported_late_is_spread_over_samples(recorder: Recorder, shown: Shown, clock: Clock) -> None:
    """A step of 25 s is reported at its end; a role is never more than busy."""
    fleet = Fleet()
    usage = Usage(configuration.load(None, GPUS), fleet, recorder)
    fleet.board.trained = [{"seconds": 25.0, "wait_seconds": None}]
    idle = []
    for _ in range(3):
        sampled(usage, clock)
        idle.append(shown.of("vlrm_gpu_idle_fraction")["train",])
    assert idle == [0.0, 0.0, 0.5]


def test_a_pool_is_idle_soon_after_it_stopped_though_its_calls_were_longer_than_a_sample(
    recorder: Recorder, shown: Shown, clock: Clock
) -> None:
    """Four detectors, one of them planned, report a call of 20 s each, one in each sample of 5 s."""
    fleet = Fleet()
    pool = ["experts.detector.pool.gpus=0.25", "experts.detector.pool.max=4", "experts.reader.pool.gpus=0"]
    usage = Usage(configuration.load(None, [*GPUS, *pool]), fleet, recorder)
    idle = []
    for call in range(44):
        if call < 40:
            fleet.board.busy[f"detect-{call % 4}"] = fleet.board.busy.get(f"detect-{call % 4}", 0.0) + 20.0
        sampled(usage, clock, 5.0)
        idle.append(shown.of("vlrm_gpu_idle_fraction")["expert",])
    assert idle[:43] == [0.0] * 43  # the last call is spread over four samples
    assert idle[43] == 1.0


def test_without_gpus_each_engine_and_train_worker_counts(recorder: Recorder, shown: Shown, clock: Clock) -> None:
    fleet = Fleet()
    usage = Usage(configuration.load(None, ["critic.engine.actors=2", "train.workers=1"]), fleet, recorder)
    fleet.engines = {name: load(busy=10.0) for name in ("policy-0", "critic-0", "critic-1")}
    sampled(usage, clock)
    assert shown.of("vlrm_gpu_idle_fraction") == {("generate",): 0, ("judge",): 0, ("train",): 1, ("all",): 0.25}


def test_more_actors_than_planned_count_too(recorder: Recorder, shown: Shown, clock: Clock) -> None:
    fleet = Fleet()
    usage = Usage(configuration.load(None, GPUS), fleet, recorder)
    fleet.engines = {f"policy-{i}": load(busy=5.0) for i in range(4)}
    sampled(usage, clock)
    assert shown.of("vlrm_gpu_idle_fraction")["generate",] == 0.5


def test_a_fleet_that_cannot_be_asked_does_not_end_the_run(shown: Shown, log: list[str], clock: Clock) -> None:
    class Dead(Fleet):
        def loads(self) -> Mapping[str, Mapping[str, Any]]:
            raise RuntimeError("the board is dead")

    usage = Usage(configuration.load(), Dead(), Recorder("run", log.append, shown.series))
    sampled(usage, clock)
    sampled(usage, clock)
    assert log == ["metrics: the board is dead"]


@pytest.mark.parametrize(
    ("actor", "role"),
    [("policy-3", "generate"), ("critic-0", "judge"), ("extractor-0", "extract"), ("read-1", "expert"), ("verify-0", "cpu"), ("train", "train")],
)  # fmt: skip
def test_roles_follow_from_names(actor: str, role: str) -> None:
    assert role_of(actor) == role
