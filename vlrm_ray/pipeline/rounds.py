"""One round, from prompts to a published reward model.

    prompts ─► generate ─► verify ─► pair ─► critique ─► select ─► train ─► publish ─► evaluate
               └──────────── one Ray Data execution: gather ──────────┘

    stage     consumes                      waits for            produces
    gather    prompts, newest version       policy, experts,     parts of generate, verify, pair,
                                            critics              critique, select
    train     parts of select               all of gather        a Hugging Face folder
    publish   that folder                   train                versions/k, critics that hold it
    evaluate  ScenesBench, the critics      publish              metrics

Each stage commits its result to the ledger and is skipped where that result is there already.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from vlrm_ray.config import Config, asset_path
from vlrm_ray.engines import Completion, Request
from vlrm_ray.errors import UserError
from vlrm_ray.ids import canonical, digest, fingerprint
from vlrm_ray.pipeline import part_statistics, prompts, row_accounting
from vlrm_ray.pipeline.graph import StageActors, build
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.reward import temperature_scaling
from vlrm_ray.scenes import evaluation
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import from_table
from vlrm_ray.types import PromptRef, RowCounts

Facts = dict[str, Any]


class Fleet(Protocol):
    """The long-lived actors, as a round needs them."""

    def stage_actors(self) -> StageActors:
        """What the graph works with."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Rows that left each stage of the graph so far."""
        ...

    def seconds(self) -> Mapping[str, float]:
        """Busy seconds of each stage of the graph so far."""
        ...

    def spans(self) -> Mapping[str, list[tuple[float, float]]]:
        """When each actor of the graph was at work so far, in Unix time."""
        ...

    def clear(self) -> None:
        """Begin counting anew."""
        ...

    def judge(self, requests: list[Request], done: Callable[[int], None]) -> list[Completion]:
        """One greedy critique for each request."""
        ...

    def load(self, version: int) -> float:
        """Give all critics a version; returns how far the canary's score moved."""
        ...

    def release_devices(self) -> None:
        """Free the devices for training, where the placement asks for it."""
        ...

    def reacquire_devices(self) -> None:
        """Undo `release_devices`."""
        ...


class Rounds:
    """Runs the stages of a run's rounds."""

    def __init__(self, config: Config, ledger: Ledger, fleet: Fleet, progress: Progress) -> None:
        self.config, self.ledger, self.fleet, self.progress = config, ledger, fleet, progress
        self.store = Ledger(config.cache) if config.cache else ledger

    def gather(self, round_: int) -> None:
        """Generate, verify, pair, critique and select; parts that are committed are not made again."""
        if self.ledger.result(round_, "select"):
            return
        asks = prompts.prompts_of_round(self.config, round_, self.store)
        size = self.config.part_rows
        parts = {i: asks[i * size : (i + 1) * size] for i in range(-(-len(asks) // size))}
        missing = {i: part for i, part in parts.items() if self.ledger.part_facts(round_, "select", i) is None}
        self.fleet.clear()
        with self.progress.stage(f"round {round_}: gather", len(asks), "prompts", self.fleet.counts) as meter:
            meter.add(sum(len(p) for i, p in parts.items() if i not in missing))
            began = time.monotonic()
            if missing:
                self._stream(round_, missing, meter.add)
            outcome = self._finish_gathering(round_, len(parts), _times(began))
            meter.close(outcome)

    def _stream(self, round_: int, parts: dict[int, list[PromptRef]], done: Callable[[int], None]) -> None:
        graph = build(self.config, round_, parts, self.fleet.stage_actors(), self.store)
        for block in graph.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            if block.num_rows == 0:
                continue
            rows = from_table(block)
            for stage, (table, row_counts) in row_accounting.stage_tables(rows).items():
                more = {"statistics": part_statistics.count_rows(rows)} if stage == "select" else {}
                self.ledger.put_part(round_, stage, rows[0].part, table, {"row_counts": asdict(row_counts)} | more)
            done(len(rows))

    def _finish_gathering(self, round_: int, parts: int, took: Facts) -> str:
        busy, spans = self.fleet.seconds(), self.fleet.spans()
        kept: list[str] = []
        for stage in row_accounting.DATA_STAGES:
            total, hashes = RowCounts(), []
            for part in range(parts):
                facts = self.ledger.part_facts(round_, stage, part)
                assert facts is not None, f"part {part} of {stage} was not committed"
                total.add(RowCounts(**facts["row_counts"]))
                hashes.append(facts["sha256"])
            total.check(stage)
            kept.append(f"{stage} {total.kept}")
            self.ledger.finish(
                round_,
                stage,
                {
                    "rows": total.as_json(),
                    "sha256": hashes,
                    "parts": parts,
                    "seconds": busy.get(stage, 0.0)
                    + (busy.get("detect", 0.0) + busy.get("read", 0.0) if stage == "verify" else 0.0),
                    "wall_seconds": took["seconds"],
                    "began": took["began"],
                    "ended": took["ended"],
                }
                | ({"spans": spans} if stage == "select" else {}),
            )
        return "kept: " + ", ".join(kept)

    def train(self, round_: int) -> None:
        """Fine-tune the newest version on the selected pairs, and publish the outcome."""
        if self.ledger.result(round_, "publish"):
            return
        selected = self.ledger.result(round_, "select")
        assert selected is not None, "gather comes first"
        base = self.base_version(round_)
        if selected["rows"]["kept"] == 0:
            self.progress.log(
                f"round {round_}: no pair was kept ({_reasons(selected['rows'])}), so nothing is trained; try a lower selection.margin or more prompts"
            )
            self.ledger.finish(round_, "train", {"rows": RowCounts().as_json(), "seconds": 0.0, "metrics": {}})
            self.ledger.finish(round_, "publish", {"version": base, "files": {}, "seconds": 0.0})
            return
        self._fit(round_, selected, base)

    def base_version(self, round_: int) -> int:
        """The version a round starts from: that of the round before, not the newest folder.

        A driver killed between writing a version and finishing the round makes that version again.
        """
        before = self.ledger.result(round_ - 1, "publish") or {"version": 0}
        return int(before["version"])

    def _fit(self, round_: int, selected: Facts, base: int) -> None:
        from vlrm_ray.reward.fit import fit

        start = self.ledger.fetch_version(base) if base else asset_path(self.config.critic.model)
        kept = selected["rows"]["kept"]
        self.fleet.release_devices()
        with self.progress.stage(f"round {round_}: train on {kept} pairs") as meter:
            began = time.monotonic()
            folder, metrics = fit(self.config, self.ledger, round_, selected["parts"], start)
            meter.close(f"loss {metrics['loss']:.3f}")
        row_counts = RowCounts(rows_in=kept, kept=kept)
        self.ledger.finish(round_, "train", {"rows": row_counts.as_json(), "metrics": metrics} | _times(began))
        self.fleet.reacquire_devices()
        began = time.monotonic()
        version = base + 1
        files = self.ledger.publish(version, folder)
        moved = self.fleet.load(version)
        self.progress.log(f"round {round_}: published version {version}; critics hold it (canary moved by {moved:.3g})")
        self.ledger.finish(round_, "publish", {"version": version, "files": files} | _times(began))
        self.ledger.remove(f"train/round-{round_:04d}")

    def evaluate(self, round_: int) -> None:
        """Measure the newest version on ScenesBench."""
        settings = self.config.evaluation
        if settings.pairs == 0 or self.ledger.result(round_, "evaluate"):
            return
        from vlrm_ray.scenes.bench import CALIBRATION, CALIBRATION_PAIRS, items

        wording, version = FORMATS[self.config.critic.format], self.ledger.newest_version()
        if (known := self._known(version)) is not None:
            self.ledger.finish(round_, "evaluate", known)
            return
        bench = items(settings.split, settings.pairs, self.store)
        held_out = items(CALIBRATION, CALIBRATION_PAIRS, self.store)
        asked = evaluation.critique_count(bench, wording) + 2 * len(held_out)
        with self.progress.stage(f"round {round_}: evaluate", asked, "critiques") as meter:
            began = time.monotonic()
            ask = partial(self.fleet.judge, done=meter.add)
            temperature = evaluation.temperature(held_out, wording, ask)
            found = evaluation.judge_items(bench, wording, ask)
            metrics = {name: m.as_json() for name, m in evaluation.measure(bench, found, temperature).items()}
            shown = ("hallucination_pair_accuracy", "reasoning_pair_accuracy")
            meter.close(", ".join(f"{name} {metrics[name]['value']:.3f}" for name in shown))
        if settings.pope and round_ in (0, self.config.rounds):
            metrics |= self._pope(round_, settings.pope)
        if version:
            facts = {"temperature": temperature, "n": 2 * len(held_out), "split": CALIBRATION}
            self.ledger.annotate_version(version, temperature_scaling.FILE, facts)
        details = evaluation.details(bench, found, temperature)
        result = {"metrics": metrics, "version": version} | details | _times(began)
        self.ledger.finish(round_, "evaluate", result)
        if version == 0 and self.config.cache:
            self.store.put_json(self._start_name(), result)

    def _known(self, version: int) -> Facts | None:
        """What another run found about the same untrained start."""
        return self.store.get_json(self._start_name()) if version == 0 and self.config.cache else None

    def _start_name(self) -> str:
        from vlrm_ray.scenes.bench import CALIBRATION_PAIRS

        critic = self.config.critic
        folder = Path(asset_path(critic.model))
        model = fingerprint(folder) if folder.is_dir() else critic.model
        settings = self.config.evaluation.model_dump(mode="json")
        return f"starts/{digest(model, critic.format, critic.max_tokens, settings, CALIBRATION_PAIRS)}.json"

    def _pope(self, round_: int, pictures: int) -> Facts:
        """The figures of a POPE of rendered scenes."""
        from vlrm_ray.scenes.pope import answer_questions, measure, questions, scenes, statements

        asked = questions(scenes(pictures))
        with self.progress.stage(f"round {round_}: pope", statements(asked), "critiques") as meter:
            ask = partial(self.fleet.judge, done=meter.add)
            answers = answer_questions(asked, FORMATS[self.config.critic.format], ask, self.ledger)
            metrics = {name: metric.as_json() for name, metric in measure(asked, answers).items()}
            meter.close(", ".join(f"{name} {metric['value']:.3f}" for name, metric in metrics.items()))
        return metrics


def _times(began: float) -> Facts:
    """Seconds since `began` on the monotonic clock, and both ends in Unix time."""
    seconds, ended = time.monotonic() - began, time.time()
    return {"seconds": seconds, "began": ended - seconds, "ended": ended}


def finished(config: Config, ledger: Ledger) -> bool:
    """Whether nothing is left to do: all rounds have published, and all are measured where that is asked for."""
    published = all(ledger.result(r, "publish") for r in range(1, config.rounds + 1))
    measured = all(ledger.result(r, "evaluate") for r in range(config.rounds + 1))
    return published and (measured or config.evaluation.pairs == 0)


def claim_config(config: Config, ledger: Ledger) -> None:
    """Bind the run's folder to its configuration; a changed one is refused with the difference shown."""
    mine = config.model_dump(mode="json", exclude={"cluster", "rounds"})
    known = ledger.get_json("config.json")
    if known is None:
        ledger.put_json("config.json", mine)
        return
    changed = sorted(_differences(known, mine))
    if changed:
        raise UserError(
            f"run {config.name} was started with another configuration ({'; '.join(changed[:5])}); choose another name=, or set these back"
        )


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [d for k in {*old, *new} for d in _differences(old.get(k), new.get(k), f"{key}.{k}" if key else k)]
    return [] if canonical(old) == canonical(new) else [f"{key}: {old} -> {new}"]


def _reasons(rows: Facts) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(rows["dropped"].items())) or "there were no pairs"
