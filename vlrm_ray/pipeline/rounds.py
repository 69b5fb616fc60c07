"""One round, from prompts to a published reward model.

    prompts ─► generate ─► verify ─► pair ─► critique ─► select ─► train ─► publish ─► evaluate
               └──── gather: one Ray Data execution (graph.py) ───┘

    method      stages                   consumes                         produces
    gather()    generate ... select      prompts, newest version          parts of these five stages
    train()     train, publish           parts of select                  versions/k, loaded into the critics
    evaluate()  evaluate                 held-out data, newest version    metrics, temperature of the reward

`gather` is the rollout and critique phase. Each method waits for the one before it. Each stage commits its result to
the ledger, and is skipped if the ledger already has the result: this is how an interrupted run resumes.
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
from vlrm_ray.pipeline import evaluators, prompts, row_accounting, training_steps
from vlrm_ray.pipeline.graph import build_graph
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.quarantine import QuarantineLimit
from vlrm_ray.pipeline.run_metrics import RunMetrics
from vlrm_ray.pipeline.stage_actors import StageActors
from vlrm_ray.pipeline.stages import Tally
from vlrm_ray.reward import temperature_scaling
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import VERSION, portable
from vlrm_ray.types import PromptRef, RowCounts

JsonDict = dict[str, Any]
MAX_REFUSALS_BEFORE_FIRST_ANSWER = 16
"""If the engine refuses this many prompts before it answers any, the run stops."""


class Fleet(Protocol):
    """The long-lived actors of a run, as far as a round uses them; `actors/fleet.py` implements it.

    Attributes:
        board: handle of the progress board, which collects the records of training steps.
    """

    board: Any

    def stage_actors(self) -> StageActors:
        """The actors that the graph works with."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Rows that have left each stage of the graph."""
        ...

    def seconds(self) -> Mapping[str, float]:
        """Busy seconds of each stage of the graph."""
        ...

    def steps(self, start: int) -> Sequence[JsonDict]:
        """The records of training steps that have arrived, without the first `start`; [] if it cannot be told."""
        ...

    def loads(self) -> Mapping[str, Mapping[str, int]]:
        """Running and waiting sequences of each engine."""
        ...

    def spans(self) -> Mapping[str, list[tuple[float, float]]]:
        """Busy intervals of each actor of the graph, as (start, end) in Unix time."""
        ...

    def reset_counts(self) -> None:
        """Reset all counts, seconds and spans."""
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


class Rounds:
    """Runs the stages of rounds. Round 0 is the baseline: it is only evaluated."""

    def __init__(self, config: Config, ledger: Ledger, fleet: Fleet, progress: Progress) -> None:
        self.config, self.ledger, self.fleet, self.progress = config, ledger, fleet, progress
        self.store = Ledger(config.cache) if config.cache else ledger
        self.metrics = RunMetrics(ledger)

    def gather(self, round_: int) -> None:
        """Run the rollout and critique phase: generate, verify, pair, critique and select.

        Parts that are committed are not made again.

        Raises:
            UserError: none of the round's prompts can be used. The next attempt makes all of them again.
        """
        if self.ledger.result(round_, "select"):
            return
        prompt_refs = prompts.prompts_of_round(self.config, round_, self.store)
        size = self.config.part_rows
        parts = {i: prompt_refs[i * size : (i + 1) * size] for i in range(-(-len(prompt_refs) // size))}
        committed = set(self.ledger.parts(round_))
        missing = {i: part for i, part in parts.items() if i not in committed}
        self.fleet.reset_counts()
        with self.progress.stage(f"round {round_}: gather", len(prompt_refs), "prompts", self.fleet.counts) as meter:
            meter.add(sum(len(part) for i, part in parts.items() if i in committed))
            start = time.monotonic()
            if missing:
                self.fleet.load_writers(self.base_version(round_))
                with self.metrics.sampled(round_, self.fleet.counts, self.fleet.loads):
                    self._run_parts(round_, missing, meter.add)
            markers = self._markers(round_, len(parts))
            counts = _sum_row_counts(markers)
            quarantined = self._quarantine_text(round_, counts, markers, len(prompt_refs))
            self._finish_gather(round_, counts, markers, _times(start))
            kept = ", ".join(f"{stage} {count.kept}" for stage, count in counts.items())
            meter.set_summary(f"kept: {kept}" + (f"; quarantined: {quarantined}" if quarantined else ""))

    def _run_parts(self, round_: int, parts: dict[int, list[PromptRef]], done: Callable[[int], None]) -> None:
        """Stream parts through the graph, which commits them.

        Raises:
            UserError: the policy's engine refuses the first prompts of the round, so it is the engine that is at fault;
                or more prompts than `quarantine_limit` are quarantined.
        """
        answered, refused = bool(self.ledger.parts(round_)), Counter[str]()
        limit = QuarantineLimit(self.config.quarantine_limit, self.ledger, round_)
        graph = build_graph(self.config, round_, parts, self.fleet.stage_actors(), self.ledger, self.store)
        for table in graph.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for tally in Tally.of_table(table):
                refused.update(tally.refused)
                answered = answered or sum(tally.refused.values()) < tally.prompts
                if not answered and refused.total() >= MAX_REFUSALS_BEFORE_FIRST_ANSWER:
                    self.ledger.remove(f"round-{round_:04d}")
                    reason = next(iter(refused))
                    raise UserError(
                        f"the policy's engine refused all of the first {refused.total()} prompts ({reason}); "
                        f"{prompts.remedy(reason)}"
                    )
                done(tally.prompts)
                limit.check(tally)

    def _markers(self, round_: int, parts: int) -> list[JsonDict]:
        """Markers of all parts of a round, in order."""
        markers = self.ledger.part_markers(round_)
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
                self.ledger.remove(f"round-{round_:04d}")
                remedy = prompts.remedy(max(prompts_lost, key=lambda reason: prompts_lost[reason]))
                raise UserError(f"round {round_}: no prompt can be used: {text}; {remedy}")
            texts.append(text)
        if pairs_lost:
            texts.append(f"{row_accounting.counts_text(pairs_lost, counts['select'].rows_in)} pairs")
        return "; ".join(texts)

    def _finish_gather(
        self, round_: int, counts: Mapping[str, RowCounts], markers: Sequence[JsonDict], times: JsonDict
    ) -> None:
        """Commit the results of the five stages from their parts."""
        busy, spans = self.fleet.seconds(), self.fleet.spans()
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
            }
            self.ledger.finish(round_, stage, result | ({"spans": spans} if stage == "select" else {}))

    def train(self, round_: int) -> None:
        """Fine-tune the round's base version on the selected pairs, and publish the result as a new version.

        If no pair was selected, the base version is kept.
        """
        if self.ledger.result(round_, "publish"):
            return
        selected = self.ledger.result(round_, "select")
        assert selected is not None, "gather comes first"
        base = self.base_version(round_)
        if selected["rows"]["kept"] == 0:
            results = {stage: (self.ledger.result(round_, stage) or {})["rows"] for stage in row_accounting.DATA_STAGES}
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
            start = time.monotonic()
            with training_steps.followed(round_, self.fleet.steps, self.metrics, meter.set_state):
                log, board = self.progress.log, self.fleet.board
                folder, metrics = fit(self.config, self.ledger, round_, initial_model, board=board, log=log)
            meter.set_summary(f"loss {metrics['loss']:.3f}")
        steps = training_steps.summary(training_steps.records_of(round_, self.metrics), metrics.get("dropped", {}))
        rows = RowCounts(rows_in=kept, kept=kept).as_json()
        self.ledger.finish(round_, "train", {"rows": rows, "metrics": metrics, "steps": steps} | _times(start))
        self.fleet.reacquire_devices()
        start = time.monotonic()
        version = base + 1
        files = self.ledger.publish(version, folder)
        moved = self.fleet.load(version, published=True)
        self.progress.log(
            f"round {round_}: published version {version} and loaded it into the critics "
            f"(canary score changed by {moved:.3g})"
        )
        self.ledger.finish(round_, "publish", {"version": version, "files": files} | _times(start))
        self.ledger.remove(f"train/round-{round_:04d}")

    def evaluate(self, round_: int) -> None:
        """Measure the newest version by the run's evaluators. Images that are held out are known once round 1 is gathered."""
        if self.ledger.result(round_, "evaluate") or not evaluators.is_measured(self.config):
            return
        version = self.ledger.newest_version()
        self.fleet.load(version)
        baseline = "" if version else evaluators.baseline_name(self.config)
        if baseline and (cached := self.store.get_json(baseline)) is not None:
            self.ledger.finish(round_, "evaluate", cached)
            return
        start = time.monotonic()
        results = [
            self._measured(round_, evaluator)
            for evaluator in evaluators.evaluators(self.config, round_, self.ledger, self.store)
        ]
        calibration = next((result.calibration for result in results if result.calibration), {})
        if version and calibration:
            self.ledger.annotate_version(version, temperature_scaling.FILE, calibration)
        content = merged(results) | {"version": version} | _times(start)
        self.ledger.finish(round_, "evaluate", content)
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
    counts = {stage: RowCounts() for stage in row_accounting.DATA_STAGES}
    for stage, total in counts.items():
        for marker in markers:
            total.add(RowCounts(**marker["row_counts"][stage]))
        total.check(stage)
    return counts


def _times(start: float) -> JsonDict:
    """Times of a stage that started at `start` on the monotonic clock and ends now: seconds, start and end in Unix time."""
    seconds, end = time.monotonic() - start, time.time()
    return {"seconds": seconds, "began": end - seconds, "ended": end}


def is_finished(config: Config, ledger: Ledger) -> bool:
    """Whether all rounds are published and, unless evaluation is switched off, evaluated."""
    published = all(ledger.result(r, "publish") for r in range(1, config.rounds + 1))
    evaluated = all(ledger.result(r, "evaluate") for r in range(config.rounds + 1))
    return published and (evaluated or not evaluators.is_measured(config))
