"""The Ray Data graph of a round: from prompts to selected critiques, in one streaming execution.

    ingest ─► generate ─► detect ─► read ─► (self-label) ─► verify + pair ─► critique + select ─► driver

    stage              runs in                      consumes                 fills in
    ingest             tasks                        prompt refs              image hash, or a quarantine reason
    generate           tasks that call the policy   question, image          candidates
    detect             pool of detector actors      image                    objects, faint boxes, quality
    read               pool of reader actors        image                    words
    self-label         tasks that call the critics  candidates               the candidates' rewards
    verify + pair      one task at a time           candidates, evidence     claims with verdicts, pairs
    critique + select  tasks that call the critics  pairs, evidence          critiques, selected and rejected pairs

`read` runs only with `experts.reader.enabled`, `self-label` only with `pairing.labels: self`.

A block of the dataset is one part: `part_rows` prompts that pass all stages together. A part is always sent to the
same engine actor, in one call for each image condition, so a part that is made again gives the same batch. Parts are
committed, or made again, as a whole.

Backpressure: a task that calls an engine blocks until the engine answers. Such a stage runs one task more than it has
engine actors, so that one part is ready when an engine becomes free. Further parts wait in the object store, whose
size Ray Data limits by pausing the stages before. The same happens when the driver commits results too slowly.

Actor classes and handles are arguments: this module imports no engine library.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.actor import ActorHandle
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

from vlrm_ray.claims import GenerateFunction, make_extractor
from vlrm_ray.config import Config, Pool, asset_path
from vlrm_ray.engines import Completion, Request, Sampling, scored_critique
from vlrm_ray.errors import BadImage
from vlrm_ray.experts.evidence import describe_evidence
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.ids import digest, fingerprint, seed_of
from vlrm_ray.pipeline.resource_plan import STAGE_CPUS
from vlrm_ray.pipeline.stage_actors import ProgressReporter, StageActors
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.preferences.pairing import make_pairs
from vlrm_ray.preferences.selection import select
from vlrm_ray.store.cache import AnswerCache
from vlrm_ray.store.images import validate_image
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
Critiques = tuple[ScoredCritique, ...] | str
"""The scored critiques of a side, or the reason why the engine refused to write them."""


def configure_ray_data() -> None:
    """Configure Ray Data for small blocks in a fixed order, without its own progress output. Call once, in the driver."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    context.execution_no_progress_timeout_s = 900


def build_graph(
    config: Config, round_: int, parts: dict[int, list[PromptRef]], stage_actors: StageActors, store: Ledger
) -> ray.data.Dataset:
    """Build the lazy dataset of a round; iterating over it runs all stages.

    Args:
        config: configuration of the run.
        round_: number of the round.
        parts: prompts by part number; each part becomes one block, in this order.
        stage_actors: the actors to work with.
        store: ledger that caches the experts' evidence and, with `config.cache`, the candidates.
    """
    policy, critics, board = stage_actors.policy, stage_actors.critics, stage_actors.board
    detector, reader = config.experts.detector, config.experts.reader
    rows = ray.data.from_arrow([_prompt_table(part, prompt_refs) for part, prompt_refs in parts.items()])
    rows = _map_in_tasks(rows, Ingest(round_, config, board), len(policy) + 1)
    rows = _map_in_tasks(rows, Generate(config, policy, board, store if config.cache else None), len(policy) + 1)
    rows = _map_in_pool(rows, stage_actors.detector, (detector, store, board), detector.pool)
    if reader.enabled:
        rows = _map_in_pool(rows, stage_actors.reader, (reader, store, board), reader.pool)
    if config.pairing.labels == "self":
        rows = _map_in_tasks(rows, SelfLabel(config, critics, board), len(critics) + 1)
    rows = _map_in_tasks(rows, VerifyAndPair(config, stage_actors), 1)
    return _map_in_tasks(rows, Critique(config, critics, board), len(critics) + 1)


def _map_in_tasks(rows: ray.data.Dataset, step: Callable[[pa.Table], pa.Table], concurrency: int) -> ray.data.Dataset:
    return rows.map_batches(
        step, batch_size=None, batch_format="pyarrow", compute=TaskPoolStrategy(concurrency), num_cpus=STAGE_CPUS
    )


def _map_in_pool(rows: ray.data.Dataset, expert: type, arguments: tuple[object, ...], pool: Pool) -> ray.data.Dataset:
    return rows.map_batches(
        expert,
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=pool.min, max_size=pool.max),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
    )


def _prompt_table(part: int, prompt_refs: Sequence[PromptRef]) -> pa.Table:
    return pa.table(
        {
            "part": [part] * len(prompt_refs),
            "image": [ref.image for ref in prompt_refs],
            "question": [ref.question for ref in prompt_refs],
            "problem": [ref.problem for ref in prompt_refs],
        }
    )


class Ingest:
    """Ingest stage: reads, checks and hashes each image; quarantines the rows with a problem or without a usable image."""

    def __init__(self, round_: int, config: Config, board: ProgressReporter) -> None:
        self.round, self.seed, self.board = round_, config.seed, board

    def __call__(self, table: pa.Table) -> pa.Table:
        """Turn a table of prompt refs (columns part, image, question, problem) into rows."""
        start, rows = time.monotonic(), []
        for ref in table.to_pylist():
            sha256, problem = "", ref["problem"]
            if not problem:
                try:
                    sha256 = validate_image(ref["image"])
                except BadImage as error:
                    problem = str(error)
            prompt_id = digest("prompt", sha256 or ref["image"], ref["question"], self.round, self.seed)
            prompt = Prompt(prompt_id, ref["image"], sha256, ref["question"])
            rows.append(Row(ref["part"], self.round, prompt, problem))
        self.board.add("prompts", len(rows), time.monotonic() - start)
        return to_table(rows)


class Generate:
    """Generate stage: samples responses of the policy with the whole image, with a degraded image and without one."""

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
        """Fill in `candidates`. Ids and seeds are derived from content, so a part that is made again is the same."""
        start, rows = time.monotonic(), from_table(table)
        usable = [row for row in rows if not row.quarantined]
        refused: dict[str, str] = {}
        texts = {
            condition: self._texts(usable, condition, refused) for condition, n in self.counts.items() if n and usable
        }
        for index, row in enumerate(usable):
            row.quarantined = refused.get(row.prompt.prompt_id, "")
            if row.quarantined:
                continue
            row.asked = sum(self.counts.values())
            row.candidates = tuple(
                Candidate(self._id(row, condition, sample), text, condition)
                for condition, answers in texts.items()
                for sample, text in enumerate(answers[index])
                if text
            )
        count = sum(len(row.candidates) for row in usable)
        self.board.add("generate", count, time.monotonic() - start, f"policy-{_actor_of(rows, self.actors)}")
        return to_table(rows)

    def _texts(self, rows: Sequence[Row], condition: ImageCondition, refused: dict[str, str]) -> list[tuple[str, ...]]:
        """The responses to each row's prompt, from the cache where it has them.

        A prompt that the engine refuses has none, and its id and the reason are added to `refused`.
        """

        def generate(indices: list[int]) -> list[tuple[str, ...]]:
            requests = self._requests([rows[i] for i in indices], condition)
            answers = _generate(self.actors, rows, requests, self._sampling(self.counts[condition]))
            refused.update(
                (rows[i].prompt.prompt_id, group[0].refused)
                for i, group in zip(indices, answers, strict=True)
                if group[0].refused
            )
            return [() if group[0].refused else tuple(answer.text for answer in group) for group in answers]

        if condition not in self.caches:
            return generate(list(range(len(rows))))
        ids = [row.prompt.prompt_id for row in rows]
        return self.caches[condition].get_or_compute(ids, generate, store=lambda texts: bool(texts))

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
        prompt, policy = row.prompt, self.policy
        settings = (policy.model, policy.max_tokens, policy.temperature, policy.top_p)
        return digest(
            "candidate", prompt.sha256, prompt.question, row.round, condition, sample, settings, self.config.seed
        )


class SelfLabel:
    """Self-label stage: scores each candidate with the reward model, without the experts' evidence.

    This is the usual way to label preference data, which the experts replace.
    """

    def __init__(self, config: Config, critics: Sequence[ActorHandle[Any]], board: ProgressReporter) -> None:
        self.critic, self.board, self.actors = config.critic, board, critics
        self.critique_format = FORMATS[config.critic.format]

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in the candidates' `reward`, each by one greedy critique."""
        start, rows = time.monotonic(), from_table(table)
        requests = [self._request(row, candidate) for row in rows for candidate in row.candidates]
        answers = _generate(self.actors, rows, requests, Sampling(self.critic.max_tokens)) if requests else []
        # a candidate whose critique the engine refuses has no reward, and is in no pair
        rewards = iter([None if group[0].refused else scored_critique(group[0]).reward for group in answers])
        for row in rows:
            row.candidates = tuple(replace(candidate, reward=next(rewards)) for candidate in row.candidates)
        self.board.add("self-label", len(requests), time.monotonic() - start, f"critic-{_actor_of(rows, self.actors)}")
        return to_table(rows)

    def _request(self, row: Row, candidate: Candidate) -> Request:
        return Request(self.critique_format.prompt(row.prompt.question, candidate.text), row.prompt.image)


class VerifyAndPair:
    """Verify and pair stage: extracts claims, checks them against the experts' evidence, and makes pairs."""

    def __init__(self, config: Config, stage_actors: StageActors) -> None:
        self.extractor = make_extractor(config.experts.extractor, _remote_generate(stage_actors.extractor))
        self.verifier = stage_actors.verifier or Verifier.from_config(config.experts)
        self.rule, self.board = config.pairing, stage_actors.board

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in each candidate's claims with their verdicts, and the row's `pairs` and `unused`."""
        start, rows = time.monotonic(), from_table(table)
        claims = iter(self.extractor.claims_batch([(c.text, r.prompt.question) for r in rows for c in r.candidates]))
        for row in rows:
            row.candidates = tuple(self._verified(row, candidate, next(claims)) for candidate in row.candidates)
            pairs, row.unused = make_pairs(row.prompt, row.candidates, self.rule)
            row.pairs = tuple(pairs)
        self.board.add("verify", sum(len(row.candidates) for row in rows), time.monotonic() - start)
        self.board.add("pair", sum(len(row.pairs) for row in rows))
        return to_table(rows)

    def _verified(self, row: Row, candidate: Candidate, claims: Sequence[Claim]) -> Candidate:
        return replace(candidate, claims=self.verifier.check_all(claims, row.evidence))


class Critique:
    """Critique and select stage: writes K critiques of each side of a pair, then selects by margin.

    The critics get the experts' evidence as the prefix of the critique or as a hint in the prompt.
    """

    def __init__(self, config: Config, critics: Sequence[ActorHandle[Any]], board: ProgressReporter) -> None:
        self.critic, self.rule, self.board = config.critic, config.selection, board
        self.critique_format = FORMATS[config.critic.format]
        self.with_evidence = config.pairing.labels == "experts"
        self.actors = critics

    def __call__(self, table: pa.Table) -> pa.Table:
        """Fill in the pairs' critiques, `selected` and `rejected`."""
        start, rows = time.monotonic(), from_table(table)
        sides = [
            (row, pair, candidate) for row in rows for pair in row.pairs for candidate in (pair.chosen, pair.rejected)
        ]
        critiques = iter(self._critiques(rows, sides) if sides else [])
        for row in rows:
            judged = [self._judged(pair, next(critiques), next(critiques)) for pair in row.pairs]
            row.pairs = tuple(pair for pair, _ in judged)
            row.selected = tuple(o for _, o in judged if isinstance(o, SelectedPair))
            row.rejected = {pair.pair_id: o for pair, o in judged if isinstance(o, str)}
        count = len(sides) * (self.critic.k if self.critique_format.has_critique else 1)
        self.board.add("critique", count, time.monotonic() - start, f"critic-{_actor_of(rows, self.actors)}")
        self.board.add("select", sum(len(row.selected) for row in rows))
        return to_table(rows)

    def _judged(self, pair: Pair, chosen: Critiques, rejected: Critiques) -> tuple[Pair, SelectedPair | str]:
        """A pair with its critiques, and what is selected of it or the reason why not."""
        refused = [side for side in (chosen, rejected) if isinstance(side, str)]
        pair = replace(
            pair,
            chosen_critiques=() if isinstance(chosen, str) else chosen,
            rejected_critiques=() if isinstance(rejected, str) else rejected,
        )
        return pair, refused[0] if refused else select(pair, self.rule)

    def _critiques(self, rows: Sequence[Row], sides: Sequence[Side]) -> list[Critiques]:
        """The scored critiques of each side, or the reason why the engine refused them."""
        requests = [self._request(*side) for side in sides]
        if not self.critique_format.has_critique:  # no text to generate: the correct label with the model's reward
            actor = self.actors[_actor_of(rows, self.actors)]
            scores: list[Completion] = ray.get(actor.score.remote(requests))
            labels = [YES if candidate is pair.chosen else NO for _, pair, candidate in sides]
            return [
                score.refused or (replace(scored_critique(score), text=label),)
                for score, label in zip(scores, labels, strict=True)
            ]
        sampling = Sampling(self.critic.max_tokens, self.critic.temperature, n=self.critic.k)
        answers = _generate(self.actors, rows, requests, sampling)
        return [
            group[0].refused or tuple(_with_prefix(request, answer) for answer in group)
            for request, group in zip(requests, answers, strict=True)
        ]

    def _request(self, row: Row, pair: Pair, candidate: Candidate) -> Request:
        evidence = describe_evidence(row.evidence) if self.with_evidence else None
        prefix = self.critique_format.prefix(evidence)
        text = self.critique_format.prompt(row.prompt.question, candidate.text, None if prefix else evidence)
        seed = seed_of("critique", pair.pair_id, candidate.candidate_id)
        return Request(text, row.prompt.image, seed=seed, prefix=prefix)


def _with_prefix(request: Request, answer: Completion) -> ScoredCritique:
    """The full critique: the prefix that the engine was given, and what it wrote after it."""
    critique = scored_critique(answer)
    return replace(critique, text=f"{request.prefix} {critique.text}".strip())


def _remote_generate(actor: ActorHandle[Any] | None) -> GenerateFunction | None:
    """The `generate` method of an engine that runs in an actor, as a plain function; None without an actor."""
    if actor is None:
        return None

    def generate(requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        answers: list[list[Completion]] = ray.get(actor.generate.remote(list(requests), sampling))
        return answers

    return generate


def _generate(
    actors: Sequence[ActorHandle[Any]], rows: Sequence[Row], requests: list[Request], sampling: Sampling
) -> list[list[Completion]]:
    """Generate on the actor that this part is always sent to: an unchanged part is an unchanged batch."""
    actor = actors[_actor_of(rows, actors)]
    answers: list[list[Completion]] = ray.get(actor.generate.remote(requests, sampling))
    return answers


def _actor_of(rows: Sequence[Row], actors: Sequence[ActorHandle[Any]]) -> int:
    """Index of the actor that a part's rows are sent to."""
    return rows[0].part % len(actors)
