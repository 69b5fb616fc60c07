"""The Ray Data graph of a round, prompts to selected critiques, as one streaming execution.

    ingest ─► generate ─► detect ─► read ─► verify+pair ─► critique ─► select
    tasks     policy      pool      pool    tasks          critics     (with critique)
              actors      (YOLO)    (OCR)                  actors

With `pairing.labels: self` the critics score the candidates before they are paired.

A block is a part: `part_rows` prompts that travel together, so each engine call is the same batch
however often it is made, and a part is committed or made again as a whole. Actor classes and
handles come in as arguments: this module knows no engine.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.actor import ActorHandle
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

from vlrm_ray.claims import GenerateVerb, extractor
from vlrm_ray.config import Config, Pool, asset_path
from vlrm_ray.engines import Completion, Request, Sampling, scored_critique
from vlrm_ray.errors import BadImage
from vlrm_ray.experts.evidence import describe_evidence
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.ids import digest, fingerprint, seed_of
from vlrm_ray.pipeline.resource_plan import STAGE_CPUS
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.preferences.pairing import pairs_of
from vlrm_ray.preferences.selection import select
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.images import check
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import Row, from_table, to_table
from vlrm_ray.types import (
    NO,
    YES,
    Candidate,
    Claim,
    ImageCondition,
    Pair,
    Prompt,
    PromptRef,
    ScoredCritique,
    SelectedPair,
)

Side = tuple[Row, Pair, Candidate]
"""One candidate of a pair, with the row that both belong to."""


@dataclass(frozen=True)
class StageActors:
    """What does the work: handles of long-lived actors, classes of the pools, where to report.

    `verifier` stands for the one that the configured experts' calibrations make.
    """

    policy: Sequence[ActorHandle[Any]]
    critics: Sequence[ActorHandle[Any]]
    detector: type
    reader: type
    board: "ProgressReporter"
    extractor: ActorHandle[Any] | None = None
    verifier: Verifier | None = None


class ProgressReporter:
    """Reports progress to the driver's board without waiting for it."""

    def __init__(self, board: ActorHandle[Any]) -> None:
        self.board = board

    def add(self, stage: str, rows: int, seconds: float = 0.0, actor: str = "") -> None:
        """Count rows that left a stage, and the seconds an actor was busy with them.

        A pool's actors have no names of their own: the board numbers them.
        """
        if not actor and (identity := ray.get_runtime_context().get_actor_id()):
            actor = f"#{identity}"
        self.board.add.remote(stage, rows, seconds, actor)


def tune_ray_data() -> None:
    """Tune Ray Data for many small blocks, and leave talking to the driver; called once by it."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    context.execution_no_progress_timeout_s = 900


def build(
    config: Config, round_: int, parts: dict[int, list[PromptRef]], stage_actors: StageActors, store: Ledger
) -> ray.data.Dataset:
    """The graph over the given parts, one block each, in order; `store` keeps what experts saw."""
    blocks = [_ask_table(index, asks) for index, asks in parts.items()]
    rows = ray.data.from_arrow(blocks)
    steps: list[Callable[[pa.Table], pa.Table]] = [
        _Ingest(round_, config, stage_actors.board),
        Generate(config, stage_actors.policy, stage_actors.board, store if config.cache else None),
    ]
    for step in steps:
        rows = _tasks(rows, step, len(stage_actors.policy) + 1)
    detector, reader = config.experts.detector, config.experts.reader
    rows = _pool(rows, stage_actors.detector, (detector, store, stage_actors.board), detector.pool)
    if reader.enabled:
        rows = _pool(rows, stage_actors.reader, (reader, store, stage_actors.board), reader.pool)
    if config.pairing.labels == "self":
        rows = _tasks(rows, SelfLabel(config, stage_actors.critics, stage_actors.board), len(stage_actors.critics) + 1)
    rows = _tasks(rows, VerifyAndPair(config, stage_actors), 1)
    return _tasks(rows, Critique(config, stage_actors.critics, stage_actors.board), len(stage_actors.critics) + 1)


def _tasks(rows: ray.data.Dataset, step: Callable[[pa.Table], pa.Table], size: int) -> ray.data.Dataset:
    return rows.map_batches(
        step, batch_size=None, batch_format="pyarrow", compute=TaskPoolStrategy(size), num_cpus=STAGE_CPUS
    )


def _pool(rows: ray.data.Dataset, expert: type, arguments: tuple[object, ...], pool: Pool) -> ray.data.Dataset:
    return rows.map_batches(
        expert,
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=pool.min, max_size=pool.max),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
    )


def _ask_table(part: int, asks: Sequence[PromptRef]) -> pa.Table:
    return pa.table(
        {"part": [part] * len(asks), "image": [a.image for a in asks], "question": [a.question for a in asks]}
    )


class _Ingest:
    """Open and hash each image beside its consumer; quarantine those that fail."""

    def __init__(self, round_: int, config: Config, board: ProgressReporter) -> None:
        self.round, self.seed, self.board = round_, config.seed, board

    def __call__(self, table: pa.Table) -> pa.Table:
        began, rows = time.monotonic(), []
        for ask in table.to_pylist():
            sha256, problem = "", ""
            try:
                sha256 = check(ask["image"])
            except BadImage as error:
                problem = str(error)
            prompt_id = digest("prompt", sha256 or ask["image"], ask["question"], self.round, self.seed)
            prompt = Prompt(prompt_id, ask["image"], sha256, ask["question"])
            rows.append(Row(ask["part"], self.round, prompt, problem))
        self.board.add("prompts", len(rows), time.monotonic() - began)
        return to_table(rows)


class Generate:
    """Responses of the policy: with the whole image, with a degraded one, without one."""

    def __init__(
        self, config: Config, policy: Sequence[ActorHandle[Any]], board: ProgressReporter, store: Ledger | None
    ) -> None:
        self.policy, self.config, self.board = config.policy, config, board
        self.actors = policy
        self.counts = {
            ImageCondition.FULL: self.policy.samples,
            ImageCondition.IMAGE_FREE: self.policy.image_free,
            ImageCondition.IMAGE_DEGRADED: self.policy.image_degraded,
        }
        self.caches = (
            {condition: self._cache(condition, n, store) for condition, n in self.counts.items()} if store else {}
        )

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in `candidates`; identities come from content, so a part made again is the same."""
        began, rows = time.monotonic(), from_table(table)
        good = [row for row in rows if not row.quarantined]
        texts = {condition: self._texts(good, condition) for condition, n in self.counts.items() if n and good}
        for index, row in enumerate(good):
            row.asked = sum(self.counts.values())
            row.candidates = tuple(
                Candidate(self._id(row, condition, sample), text, condition)
                for condition, answers in texts.items()
                for sample, text in enumerate(answers[index])
                if text
            )
        made = sum(len(row.candidates) for row in good)
        self.board.add("generate", made, time.monotonic() - began, f"policy-{_actor_of(rows, self.actors)}")
        return to_table(rows)

    def _texts(self, rows: Sequence[Row], condition: ImageCondition) -> list[tuple[str, ...]]:
        def ask(places: list[int]) -> list[tuple[str, ...]]:
            requests = self._requests([rows[i] for i in places], condition)
            answers = _generated(self.actors, rows, requests, self._sampling(self.counts[condition]))
            return [tuple(answer.text for answer in group) for group in answers]

        if condition not in self.caches:
            return ask(list(range(len(rows))))
        return self.caches[condition].fill([row.prompt.prompt_id for row in rows], ask)

    def _cache(self, condition: ImageCondition, n: int, store: Ledger) -> AnswerCache[str]:
        folder = Path(asset_path(self.policy.model))
        model = fingerprint(folder) if folder.is_dir() else self.policy.model
        return AnswerCache(store, f"candidates-{digest(model, condition, self._sampling(n))}", str)

    def _requests(self, rows: Sequence[Row], condition: ImageCondition) -> list[Request]:
        return [
            Request(r.prompt.question, r.prompt.image, condition, seed_of("sample", r.prompt.prompt_id, condition))
            for r in rows
        ]

    def _sampling(self, n: int) -> Sampling:
        return Sampling(self.policy.max_tokens, self.policy.temperature, self.policy.top_p, n)

    def _id(self, row: Row, condition: ImageCondition, sample: int) -> str:
        made = (self.policy.model, self.policy.max_tokens, self.policy.temperature, self.policy.top_p)
        return digest(
            "candidate", row.prompt.sha256, row.prompt.question, row.round, condition, sample, made, self.config.seed
        )


class SelfLabel:
    """The reward model's own score of each candidate, without any hint: what experts replace."""

    def __init__(self, config: Config, critics: Sequence[ActorHandle[Any]], board: ProgressReporter) -> None:
        self.critic, self.board, self.actors = config.critic, board, critics
        self.format = FORMATS[config.critic.format]

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in the candidates' `reward`, by one greedy critique each."""
        began, rows = time.monotonic(), from_table(table)
        requests = [self._request(row, candidate) for row in rows for candidate in row.candidates]
        answers = _generated(self.actors, rows, requests, Sampling(self.critic.max_tokens)) if requests else []
        rewards = iter([scored_critique(group[0]).reward for group in answers])
        for row in rows:
            row.candidates = tuple(replace(candidate, reward=next(rewards)) for candidate in row.candidates)
        self.board.add("self-label", len(requests), time.monotonic() - began, f"critic-{_actor_of(rows, self.actors)}")
        return to_table(rows)

    def _request(self, row: Row, candidate: Candidate) -> Request:
        return Request(self.format.prompt(row.prompt.question, candidate.text), row.prompt.image)


class VerifyAndPair:
    """Claims, verdicts, pairs: pure matching against what the experts saw."""

    def __init__(self, config: Config, stage_actors: StageActors) -> None:
        self.extractor = extractor(config.experts.extractor, _generate_of(stage_actors.extractor))
        self.verifier = stage_actors.verifier or Verifier.from_config(config.experts)
        self.rule, self.board = config.pairing, stage_actors.board

    def __call__(self, table: pa.Table) -> pa.Table:
        """Give each candidate its claims with verdicts, and make pairs of them."""
        began, rows = time.monotonic(), from_table(table)
        claims = iter(self.extractor.many([(c.text, r.prompt.question) for r in rows for c in r.candidates]))
        for row in rows:
            row.candidates = tuple(self._verified(row, candidate, next(claims)) for candidate in row.candidates)
            pairs, row.unused = pairs_of(row.prompt, row.candidates, self.rule)
            row.pairs = tuple(pairs)
        self.board.add("verify", sum(len(row.candidates) for row in rows), time.monotonic() - began)
        self.board.add("pair", sum(len(row.pairs) for row in rows))
        return to_table(rows)

    def _verified(self, row: Row, candidate: Candidate, claims: Sequence[Claim]) -> Candidate:
        return replace(candidate, claims=self.verifier.check_all(claims, row.evidence))


class Critique:
    """K critiques for each side, shown or given the evidence; then margin-based selection."""

    def __init__(self, config: Config, critics: Sequence[ActorHandle[Any]], board: ProgressReporter) -> None:
        self.critic, self.rule, self.board = config.critic, config.selection, board
        self.format = FORMATS[config.critic.format]
        self.hinted = config.pairing.labels == "experts"
        self.actors = critics

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in the pairs' critiques, `selected` and `rejected`."""
        began, rows = time.monotonic(), from_table(table)
        sides = [
            (row, pair, candidate) for row in rows for pair in row.pairs for candidate in (pair.chosen, pair.rejected)
        ]
        critiques = iter(self._critiques(rows, sides) if sides else [])
        for row in rows:
            row.pairs = tuple(
                replace(pair, chosen_critiques=next(critiques), rejected_critiques=next(critiques))
                for pair in row.pairs
            )
            outcomes = {pair.pair_id: select(pair, self.rule) for pair in row.pairs}
            row.selected = tuple(o for o in outcomes.values() if isinstance(o, SelectedPair))
            row.rejected = {pair_id: o for pair_id, o in outcomes.items() if isinstance(o, str)}
        asked = len(sides) * (self.critic.k if self.format.written else 1)
        self.board.add("critique", asked, time.monotonic() - began, f"critic-{_actor_of(rows, self.actors)}")
        self.board.add("select", sum(len(row.selected) for row in rows))
        return to_table(rows)

    def _critiques(self, rows: Sequence[Row], sides: Sequence[Side]) -> list[tuple[ScoredCritique, ...]]:
        requests = [self._request(*side) for side in sides]
        if not self.format.written:  # nothing to write: the label itself, with the model's reward
            actor = self.actors[_actor_of(rows, self.actors)]
            scores: list[Completion] = ray.get(actor.score.remote(requests))
            labels = [YES if candidate is pair.chosen else NO for _, pair, candidate in sides]
            return [(replace(scored_critique(s), text=label),) for s, label in zip(scores, labels, strict=True)]
        sampling = Sampling(self.critic.max_tokens, self.critic.temperature, n=self.critic.k)
        answers = _generated(self.actors, rows, requests, sampling)
        return [tuple(_whole(r, a) for a in group) for r, group in zip(requests, answers, strict=True)]

    def _request(self, row: Row, pair: Pair, candidate: Candidate) -> Request:
        evidence = describe_evidence(row.evidence) if self.hinted else None
        beginning = self.format.beginning(evidence)
        text = self.format.prompt(row.prompt.question, candidate.text, None if beginning else evidence)
        seed = seed_of("critique", pair.pair_id, candidate.candidate_id)
        return Request(text, row.prompt.image, seed=seed, prefix=beginning)


def _whole(request: Request, answer: Completion) -> ScoredCritique:
    """A critique with its beginning, which the engine was given."""
    found = scored_critique(answer)
    return replace(found, text=f"{request.prefix} {found.text}".strip())


def _generate_of(actor: ActorHandle[Any] | None) -> GenerateVerb | None:
    """The verb of an engine that lives in an actor."""
    if actor is None:
        return None

    def generate(requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        answers: list[list[Completion]] = ray.get(actor.generate.remote(list(requests), sampling))
        return answers

    return generate


def _generated(
    actors: Sequence[ActorHandle[Any]], rows: Sequence[Row], requests: list[Request], sampling: Sampling
) -> list[list[Completion]]:
    """Ask the actor that this part always goes to: an unchanged part is an unchanged batch."""
    actor = actors[_actor_of(rows, actors)]
    answers: list[list[Completion]] = ray.get(actor.generate.remote(requests, sampling))
    return answers


def _actor_of(rows: Sequence[Row], actors: Sequence[ActorHandle[Any]]) -> int:
    return rows[0].part % len(actors)
