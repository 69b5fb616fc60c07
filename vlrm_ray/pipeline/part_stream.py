"""The parts of a round: which of them are still to be made, and the graphs that make them."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa
import ray.data

from vlrm_ray.config import Config
from vlrm_ray.errors import RoundFailed
from vlrm_ray.pipeline import prompts, remedies
from vlrm_ray.pipeline.background import repeated
from vlrm_ray.pipeline.begun_graph import BegunGraph, tables
from vlrm_ray.pipeline.graph import Parts, build_candidates_graph, build_graph
from vlrm_ray.pipeline.quarantine import QuarantineLimit
from vlrm_ray.pipeline.refusals import RefusalGuard
from vlrm_ray.pipeline.stage_actors import StageActors
from vlrm_ray.pipeline.stages import Tally
from vlrm_ray.pipeline.stages.critics import waits_for_newest
from vlrm_ray.store.cache_keys import CacheKeys
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prepared_parts import PreparedParts

KEYS_SECONDS = 300.0
"""Interval at which the keys of new cached answers are read while a round is gathered, so that little is left at its end."""
CLOSE_SECONDS = 10
"""Time that a graph gets to end, after its engines."""


@dataclass(frozen=True)
class _Begun:
    """A round whose graph has begun, the parts that it makes, and whether others were made before."""

    round: int
    parts: Parts
    resumed: bool
    graph: BegunGraph


class _AllRefused(RoundFailed):
    """The policy's engine refuses everything from the start of a round."""


class PartStream:
    """Streams the parts of a round through the graph, which commits them."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        store: Ledger,
        stage_actors: Callable[[], StageActors],
        committed: Callable[[Tally], None] = lambda _: None,
    ) -> None:
        """Prepare the streams of a run.

        Args:
            config: configuration of the run.
            ledger: where the parts are committed.
            store: ledger of the caches, whose keys are collected.
            stage_actors: returns the actors to work with.
            committed: called with the tally of each part that has been committed.
        """
        self.config, self.ledger, self.store, self.stage_actors = config, ledger, store, stage_actors
        self.committed, self.keys = committed, CacheKeys(store)
        self.ahead_of_critics = waits_for_newest(config)
        self._parts: tuple[int, Parts] = (0, {})
        self._begun: _Begun | None = None

    def parts(self, round_: int) -> Parts:
        """The prompts of a round, by part."""
        if self._parts[0] != round_:
            refs, size = prompts.prompts_of_round(self.config, round_, self.store), self.config.part_rows
            self._parts = round_, {i: refs[i * size : (i + 1) * size] for i in range(-(-len(refs) // size))}
        return self._parts[1]

    def todo(self, round_: int) -> tuple[Parts, int]:
        """The parts of a round that are not committed, and the number of prompts of all of its parts.

        If an earlier session has ended because too many prompts or pairs were quarantined, the parts with them are among these
        again, unless `quarantine_limit` was raised.
        """
        parts = self.parts(round_)
        total = sum(map(len, parts.values()))
        if self._begun and self._begun.round == round_:
            return self._begun.parts, total
        self._quarantine_limit(round_).remove_parts()
        committed = set(self.ledger.parts(round_))
        return {i: part for i, part in parts.items() if i not in committed}, total

    def todo_ahead(self, round_: int) -> Parts:
        """The parts of a round that `work_ahead` has something to do for."""
        prepared = set(PreparedParts(self.ledger, round_).numbers()) if self.ahead_of_critics else set()
        return {i: part for i, part in self.todo(round_)[0].items() if i not in prepared}

    def made_ahead(self, round_: int) -> int:
        """Number of the parts of a round that `work_ahead` has made; to be asked before `gather`."""
        return len(PreparedParts(self.ledger, round_).numbers() if self.ahead_of_critics else self.ledger.parts(round_))

    def begin(self, round_: int) -> None:
        """Start the graph of a round that `gather` will follow: its pools of actors start, and wait for the engines.

        Not if its calls might not wait as long as engines may take to start.
        """
        parts, _ = self.todo(round_)
        if parts and self.config.cluster.call_timeout >= 2 * self.config.cluster.start_timeout:
            resumed = self._is_resumed(round_)
            self._begun = _Begun(round_, parts, resumed, BegunGraph(self._whole_graph(round_, parts)))

    def has_begun(self, round_: int) -> bool:
        """Whether the graph of a round was started by `begin`, and `gather` has not followed it to its end."""
        return self._begun is not None and self._begun.round == round_

    def gather(self, round_: int, parts: Parts, done: Callable[[int], None]) -> None:
        """Make parts, starting from their candidates if these are prepared.

        Args:
            round_: number of the round.
            parts: the parts to make.
            done: called with a number of prompts that have just been finished.

        Raises:
            UserError: the policy's engine refuses the first prompts of the round, so it is the engine that is at fault;
                or more prompts or pairs than `quarantine_limit` are quarantined.
        """
        begun = self._begun if self.has_begun(round_) else None
        resumed = begun.resumed if begun else self._is_resumed(round_)
        tallies = begun.graph.tables() if begun else tables(self._whole_graph(round_, parts))
        self._run(round_, resumed, tallies, done, lambda: False)
        self._begun = None

    def close(self) -> None:
        """Wait until a graph that was begun and not followed to its end has ended, as it does when the engines are closed."""
        if self._begun:
            self._begun.graph.wait(CLOSE_SECONDS)

    def work_ahead(self, round_: int, parts: Parts, done: Callable[[int], None], stopped: Callable[[], bool]) -> None:
        """Make what can be made of parts before the version exists that the round before trains; as `gather`.

        These are the candidates, or, if the critiques are written by the untrained model, the whole parts.

        Args:
            round_: number of the round.
            parts: the parts, as `todo_ahead` gives them.
            done: called with a number of prompts that have just been finished.
            stopped: whether to end early, asked after each part.
        """
        resumed = self._is_resumed(round_)
        if self.ahead_of_critics:
            actors = self.stage_actors()
            graph = build_candidates_graph(self.config, round_, parts, actors, self.ledger, self.store)
        else:
            graph = self._whole_graph(round_, parts)
        self._run(round_, resumed, tables(graph), done, stopped)

    def _whole_graph(self, round_: int, parts: Parts) -> ray.data.Dataset:
        prepared = PreparedParts(self.ledger, round_).numbers()
        return build_graph(self.config, round_, parts, self.stage_actors(), self.ledger, self.store, prepared)

    def _quarantine_limit(self, round_: int) -> QuarantineLimit:
        return QuarantineLimit(self.config.quarantine_limit, self.ledger, round_)

    def _is_resumed(self, round_: int) -> bool:
        """Whether parts of a round have been committed or prepared; to be asked before the graph that makes the others."""
        return bool(self.ledger.parts(round_) or PreparedParts(self.ledger, round_).numbers())

    def _run(
        self,
        round_: int,
        resumed: bool,
        tallies: Generator[pa.Table, None, None],
        done: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> None:
        """Follow a graph. What an error makes worthless is removed once the graph has ended and commits nothing more."""
        try:
            reading = repeated(self.keys.read, KEYS_SECONDS, "reading the keys of cached answers")
            with closing(tallies), reading:  # an error must not leave the graph running
                limit = self._quarantine_limit(round_)
                guard = RefusalGuard(answered=resumed)
                for table in tallies:
                    for tally in Tally.of_table(table):
                        if guard.add(sum(tally.refused.values()) < tally.prompts, tally.refused):
                            remedy = remedies.for_prompts(guard.reason)
                            raise _AllRefused(f"the policy's engine {guard.text('prompts')}; {remedy}")
                        done(tally.prompts)
                        self.committed(tally)
                        limit.check(tally)
                    if stopped():
                        break
        except _AllRefused:
            self.ledger.remove_round(round_)  # nothing of it was made before
            raise
        self.keys.write()
