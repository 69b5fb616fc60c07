"""One round, from prompts to a published reward model.

    prompts ─► generate ─► verify ─► pair ─► critique ─► select ─► train ─► publish ─► evaluate
               └──── gather: one Ray Data execution (graph.py) ───┘

    method      stages                consumes                                      produces
    gather()    generate ... select   prompts, the critics' version                 parts of these five stages
    prepare()   those of the next     prompts; the critics' version                 parts, or prepared parts that gather()
                round, ahead          if it is the untrained model                  starts from
    train()     train, publish        parts of select                               versions/k, loaded into the critics
    evaluate()  evaluate              held-out data, newest version                 metrics, temperature of the reward

`gather` is the rollout and critique phase. The critics' version depends on the configuration: the untrained model with
`critic.writer: base` (the default), as long as the selection does not ask the newest version. Then `prepare` runs all five
stages; otherwise it stops before the first stage that asks the critics. Each method waits for the one before it, except
that `prepare` works in the background, until `gather` of its round. Each stage commits its result to the ledger, and is skipped
if the ledger already has the result: this is how an interrupted run resumes.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from vlrm_ray.config import Config
from vlrm_ray.engines import Completion, Request
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.evaluator import Evaluated, Evaluator, merged
from vlrm_ray.evaluation.held_out import LEAST_PAIRS
from vlrm_ray.pipeline import evaluators, part_statistics, remedies, row_accounting, training_steps, utilization
from vlrm_ray.pipeline.ahead import Ahead
from vlrm_ray.pipeline.graph import Parts
from vlrm_ray.pipeline.monitor import RunMonitor
from vlrm_ray.pipeline.part_stream import PartStream
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.recorder import Recorder
from vlrm_ray.pipeline.row_counts import RowCounts
from vlrm_ray.pipeline.run_metrics import RunMetrics
from vlrm_ray.pipeline.stage_actors import StageActors
from vlrm_ray.pipeline.stage_clock import StageClock
from vlrm_ray.pipeline.stages.critics import critic_versions, waits_for_newest
from vlrm_ray.pipeline.training_words import words_of_round
from vlrm_ray.pipeline.usage import Watched
from vlrm_ray.reward import temperature_scaling
from vlrm_ray.store.ledger import ROLLOUT_STAGES, Ledger
from vlrm_ray.store.models import VERSION, portable
from vlrm_ray.store.prepared_parts import PreparedParts

JsonDict = dict[str, Any]
CLOSE_SECONDS = 10
"""Time that work on the next round gets to end when the run ends early."""


class Fleet(Watched, Protocol):
    """The long-lived actors of a run, as far as a round uses them; `actors/fleet.py` implements it."""

    def stage_actors(self) -> StageActors:
        """The actors that the graph works with."""
        ...

    def judge(self, requests: list[Request], done: Callable[[int], None]) -> list[Completion]:
        """Write one greedy critique per request; `done` is called with the number of requests just finished."""
        ...

    def load(self, version: int, *, published: bool = False) -> float:
        """Load a version into all critics, unless they hold it and it is not new; returns the change of the canary's score."""
        ...

    def load_writers(self, newest: int) -> None:
        """Load the versions that write and judge critiques."""
        ...

    def release_devices(self) -> None:
        """Close the engines before training if the placement is `phased`."""
        ...

    def reacquire_devices(self) -> None:
        """Start the engines again after `release_devices`."""
        ...


def begins_early(config: Config) -> bool:
    """Whether pools start beside the engines: not beside engines without GPUs, whose start needs the CPUs itself."""
    return bool(config.policy.engine.gpus or config.critic.engine.gpus)


class Rounds:
    """Runs the stages of rounds. Round 0 is the baseline: it is only evaluated."""

    def __init__(self, config: Config, ledger: Ledger, fleet: Fleet, progress: Progress) -> None:
        self.config, self.ledger, self.fleet, self.progress = config, ledger, fleet, progress
        self.store = Ledger(config.cache) if config.cache else ledger
        self.monitor = RunMonitor(config, ledger, Recorder(config.name, progress.log))
        self.metrics = RunMetrics(ledger, self.monitor.trained_step)
        self.ahead, self.clock = Ahead(progress.log), StageClock()
        self.stream = PartStream(
            config, ledger, self.store, lambda: self.fleet.stage_actors(), committed=self.monitor.committed
        )

    def begin(self) -> None:
        """Start what can start while the engines do: the actors of a new run's first gathering.

        Before, the keys of cached answers are collected that a killed session has left, so that actors find them. The actors
        do not start if there is a version already: which one critics hold is known only when they have started.
        """
        self.stream.keys.update()
        is_new = not self.ledger.result(1, "select") and not self.ledger.newest_version()
        if is_new and self.config.most_rounds and begins_early(self.config):
            self.fleet.board.reset_counts()
            self.stream.begin(1)

    def gather(self, round_: int) -> None:
        """Run the rollout and critique phase: generate, verify, pair, critique and select.

        Parts that are committed are not made again.

        Raises:
            UserError: none of the round's prompts can be used. The next attempt makes all of them again.
            RoundFailed: too many prompts or pairs are quarantined, or the policy refuses all prompts; also if that was found
                while the round was gathered ahead.
        """
        self.monitor.began(round_)  # also if only its training is left
        if self.ledger.result(round_, "select"):
            PreparedParts(self.ledger, round_).clear()  # a session may have been killed before it did
            return
        self.ahead.finish(round_)
        parts, prompt_count = self.stream.todo(round_)
        if self.ahead.round != round_:  # otherwise they go on
            self.fleet.board.reset_counts(only_times=self.stream.has_begun(round_))
        already, counts_of = prompt_count - sum(map(len, parts.values())), self.fleet.board.counts
        with self.progress.stage(f"round {round_}: gather", prompt_count, "prompts", counts_of, already) as meter:
            start, ahead = self.clock.start(), self.stream.made_ahead(round_) if self.ahead.round == round_ else 0
            if parts:
                self.fleet.load_writers(self.base_version(round_))
                with self.metrics.sampled(round_, self.fleet.board.counts, self.fleet.loads):
                    self.stream.gather(round_, parts, meter.add)
            markers = self._markers(round_)
            counts = _sum_row_counts(markers)
            quarantined = self._quarantine_text(round_, counts, markers, prompt_count)
            self._finish_gather(round_, counts, markers, self.clock.times(start), ahead)
            self.monitor.gathered(round_, counts)
            PreparedParts(self.ledger, round_).clear()
            kept = ", ".join(f"{stage} {count.kept}" for stage, count in counts.items())
            meter.set_summary(f"kept: {kept}" + (f"; quarantined: {quarantined}" if quarantined else ""))

    def prepare(self, round_: int) -> None:
        """With `cluster.overlap`, start to work on a round in the background, while the round before it trains.

        The policy does not change, so the candidates can be made and verified now; they are committed as prepared parts.
        The stages from the first one that asks the critics on wait for the version that is being trained. If only the
        untrained model is asked (`critic.writer: base`), they wait for nothing, and whole parts are committed.
        """
        if not self.config.cluster.overlap or round_ > self.config.most_rounds or self.ledger.result(round_, "select"):
            return
        if parts := self.stream.todo_ahead(round_):
            self.ahead.wait()
            if not waits_for_newest(self.config):
                self.fleet.load_writers(self.base_version(round_ - 1))
            self.fleet.board.reset_counts()
            self.ahead.start(round_, partial(self._work_ahead, round_, parts))

    def _work_ahead(self, round_: int, parts: Parts) -> None:
        start, done = time.monotonic(), Counter[str]()
        self.progress.log(f"round {round_}: gather ahead ...")
        with self.metrics.sampled(round_, self.fleet.board.counts, self.fleet.loads):
            self.stream.work_ahead(round_, parts, lambda count: done.update(prompts=count), lambda: self.ahead.stopped)
        self.progress.log(
            f"round {round_}: {done['prompts']} prompts gathered ahead in {time.monotonic() - start:.1f} s"
        )

    def close(self) -> None:
        """End the work on the next round, if there is any, and the recording of metrics."""
        self.ahead.close(CLOSE_SECONDS)
        self.monitor.close()
        self.clock.close()

    def _markers(self, round_: int) -> list[JsonDict]:
        """Markers of all parts of a round, in order."""
        markers, parts = self.ledger.part_markers(round_), len(self.stream.parts(round_))
        lost = [part for part in range(parts) if part not in markers]
        assert not lost, f"round {round_}: the parts {lost[:5]} were not committed"
        return [markers[part] for part in range(parts)]

    def _quarantine_text(
        self, round_: int, counts: Mapping[str, RowCounts], markers: Sequence[JsonDict], prompt_count: int
    ) -> str:
        """Quarantined prompts and pairs by reason, with the first prompt; "" without any.

        Raises:
            UserError: all prompts are quarantined. The round's parts are removed, so that it can be made again.
        """
        prompts_lost, pairs_lost = counts["generate"].quarantined, counts["select"].quarantined
        texts = []
        if prompts_lost:
            first = next(marker["first_quarantined"] for marker in markers if marker["first_quarantined"])
            text = f"{row_accounting.counts_text(prompts_lost, prompt_count)} prompts (first: {first})"
            if sum(prompts_lost.values()) == prompt_count:
                self.ledger.remove_round(round_)
                remedy = remedies.for_prompts(max(prompts_lost, key=lambda reason: prompts_lost[reason]))
                raise UserError(f"round {round_}: no prompt can be used: {text}; {remedy}")
            texts.append(text)
        if pairs_lost:
            texts.append(f"{row_accounting.counts_text(pairs_lost, counts['select'].rows_in)} pairs")
        return "; ".join(texts)

    def _finish_gather(
        self, round_: int, counts: Mapping[str, RowCounts], markers: Sequence[JsonDict], times: JsonDict, ahead: int
    ) -> None:
        """Commit the results of the five stages from their parts, of which some were made ahead."""
        busy = self.fleet.board.seconds()
        of_round = {"spans": self.fleet.board.spans(), "overlap": {"parts_ahead": ahead} | self._staleness(round_)}
        of_round |= utilization.record(self.config)
        of_round["statistics"] = part_statistics.summed(markers)
        if words := words_of_round(self.ledger, round_, dict(enumerate(markers))):
            of_round["words"] = words
        for stage, total in counts.items():
            expert_seconds = busy.get("detect", 0.0) + busy.get("read", 0.0) if stage == "verify" else 0.0
            result = {
                "rows": total.as_json(),
                "sha256": [marker["tables"][stage]["sha256"] for marker in markers],
                "parts": len(markers),
                "seconds": busy.get(stage, 0.0) + expert_seconds,
                "wall_seconds": times["seconds"],
                "began": times["began"],
                "ended": times["ended"],
            } | {key: times[key] for key in ("cpu_seconds",) if key in times}
            self.ledger.finish(round_, stage, result | (of_round if stage == "select" else {}))

    def _staleness(self, round_: int) -> JsonDict:
        """The oldest version that worked on a round, and how many versions it is behind the newest one.

        The policy is the same in all rounds. The critics hold the newest version, because critiques wait for it, unless
        the configuration says that the untrained model writes.
        """
        newest = self.base_version(round_)
        critic = min(critic_versions(self.config, newest, 2))
        assert critic == 0 or newest - critic <= self.config.cluster.overlap
        return {"policy_staleness": 0, "critic_version": critic, "critic_staleness": newest - critic}

    def train(self, round_: int) -> None:
        """Fine-tune the round's base version on the selected pairs, and publish the result as a new version.

        If no pair was selected, the base version is kept.
        """
        if self.ledger.result(round_, "publish"):
            self.ledger.remove_training(round_)  # a session may have been killed before it did
            return
        selected = self.ledger.result(round_, "select")
        assert selected is not None, "gather comes first"
        base = self.base_version(round_)
        if selected["rows"]["kept"] == 0:
            results = {stage: (self.ledger.result(round_, stage) or {})["rows"] for stage in ROLLOUT_STAGES}
            self.progress.log(
                f"round {round_}: {row_accounting.why_nothing_is_trained(results)}; version {base} is kept"
            )
            self.ledger.finish(round_, "train", {"rows": RowCounts().as_json(), "seconds": 0.0, "metrics": {}})
            self.ledger.finish(round_, "publish", {"version": base, "files": {}, "seconds": 0.0})
            return
        self._train_and_publish(round_, selected, base)

    def base_version(self, round_: int) -> int:
        """The version that a round's training starts from; 0 is the untrained model.

        It is the version that the previous round published, not the newest folder: if the driver was killed after
        writing a version but before finishing the round, that version is made again from the same base.
        """
        previous = self.ledger.result(round_ - 1, "publish") or {"version": 0}
        return int(previous["version"])

    def _train_and_publish(self, round_: int, selected: JsonDict, base: int) -> None:
        from vlrm_ray.reward.training.fit import fit

        goes_on = base and self.config.train.initial == "newest"
        initial_model = f"{VERSION}{base}" if goes_on else portable(self.config.critic.model)
        kept = selected["rows"]["kept"]
        self.fleet.release_devices()
        with self.progress.stage(f"round {round_}: train on {kept} pairs") as meter:
            start = self.clock.start()
            with training_steps.followed(round_, self.fleet.board.steps, self.metrics, meter.set_state):
                log, board = self.progress.log, self.fleet.board.handle
                folder, metrics = fit(self.config, self.ledger, round_, initial_model, board=board, log=log)
            hashes = metrics.pop("files", {})
            meter.set_summary(f"loss {metrics['loss']:.3f}")
        steps = training_steps.summary(training_steps.records_of(round_, self.metrics), metrics.get("dropped", {}))
        rows = RowCounts(rows_in=kept, kept=kept).as_json()
        content = {"rows": rows, "metrics": metrics, "steps": steps} | utilization.record(self.config)
        self.ledger.finish(round_, "train", content | self.clock.times(start))
        self.fleet.reacquire_devices()
        start = self.clock.start()
        version = base + 1
        files = self.ledger.publish(version, folder, hashes)
        self._wait_for_critics()
        moved = self.fleet.load(version, published=True)
        self.progress.log(
            f"round {round_}: published version {version} and loaded it into the critics "
            f"(canary score changed by {moved:.3g})"
        )
        self.ledger.finish(round_, "publish", {"version": version, "files": files} | self.clock.times(start))
        self.monitor.published(round_, version)
        self.ledger.remove_training(round_)
        self._advise(round_)

    def _advise(self, round_: int) -> None:
        """After the first training, print how the GPUs would be divided best."""
        results = {n: {s: self.ledger.result(n, s) or {} for s in ("select", "train")} for n in range(1, round_ + 1)}
        found = utilization.advice(self.config.model_dump(mode="json"), results)
        if found and found["round"] == round_:
            self.progress.log(utilization.advice_text(found))

    def evaluate(self, round_: int) -> None:
        """Measure the newest version by the run's evaluators. Images that are held out are known once round 1 is gathered."""
        if self.ledger.result(round_, "evaluate") or not evaluators.is_measured(self.config):
            return
        version = self.ledger.newest_version()
        if version:  # work on the next round that uses the critics lets them hold the untrained model
            self._wait_for_critics()
        self.fleet.load(version)
        baseline = "" if version else evaluators.baseline_name(self.config)
        if baseline and (cached := self.store.get_json(baseline)) is not None:
            self.ledger.finish(round_, "evaluate", cached)
            self.monitor.evaluated(round_, cached["metrics"])
            return
        start = self.clock.start()
        results = [
            self._measured(round_, evaluator)
            for evaluator in evaluators.evaluators(self.config, round_, self.ledger, self.store)
        ]
        calibration = next((result.calibration for result in results if result.calibration), {})
        if version and calibration:
            self.ledger.annotate_version(version, temperature_scaling.FILE, calibration)
        elif version and results:
            self.progress.log(
                f"version {version}: rewards stay uncalibrated, which takes {LEAST_PAIRS} judged held-out pairs "
                "(evaluation.holdout) or ScenesBench (evaluation.pairs)"
            )
        if not results:
            self.progress.log(
                f"round {round_}: nothing is measured: no verified pair is about a held-out image; raise prompts.per_round or "
                "evaluation.holdout"
            )
        content = merged(results) | {"version": version} | self.clock.times(start)
        self.ledger.finish(round_, "evaluate", content)
        self.monitor.evaluated(round_, content["metrics"])
        if baseline:
            self.store.put_json(baseline, content)

    def _measured(self, round_: int, evaluator: Evaluator) -> Evaluated:
        with self.progress.stage(
            f"round {round_}: {evaluator.title}", evaluator.critique_count(), "critiques"
        ) as meter:
            result = evaluator.evaluate(partial(self._judge, done=meter.add))
            shown = [(name, result.metrics[name]) for name in evaluator.headline]
            meter.set_summary(", ".join(f"{name} {metric.value:.3f}" for name, metric in shown))
        return result

    def _wait_for_critics(self) -> None:
        """Wait until work on the next round no longer uses the critics, before they load another version."""
        if not waits_for_newest(self.config):
            self.ahead.wait()

    def _judge(self, requests: list[Request], done: Callable[[int], None]) -> list[Completion]:
        """`Fleet.judge`; logs how many requests the engine refused, which have no judgement.

        Raises:
            UserError: the engine refused all of them.
        """
        critiques = self.fleet.judge(requests, done)
        refused = Counter(critique.refused for critique in critiques if critique.refused)
        if refused:
            text = row_accounting.counts_text(refused, len(critiques))
            if refused.total() == len(critiques):
                raise UserError(f"the critic refused all requests: {text}; check critic.model and critic.engine")
            self.progress.log(f"requests that the critic refused, which count as undecided: {text}")
        return critiques


def _sum_row_counts(markers: Sequence[JsonDict]) -> dict[str, RowCounts]:
    """Row counts of the five stages, summed over parts."""
    counts = {stage: RowCounts.total(m["row_counts"][stage] for m in markers) for stage in ROLLOUT_STAGES}
    for stage, total in counts.items():
        total.check(stage)
    return counts
