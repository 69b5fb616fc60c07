"""The long-lived actors of a run: started once, loaded with each new version, closed at the end."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util import list_named_actors

from actors.engine_hosts import ClaimExtractorHost, CritiqueWriter, PolicyGenerator
from actors.experts import DetectorExpert, TextExpert
from actors.progress_board import ProgressBoard
from vlrm_ray.config import Config, Engine, asset_path
from vlrm_ray.engines import Completion, EngineSettings, Health, Request, Sampling, batches
from vlrm_ray.errors import UserError
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.pipeline.graph import ProgressReporter, StageActors
from vlrm_ray.reward.canary import check_canary
from vlrm_ray.store.ledger import Ledger

EXTRACTOR_LENGTH = 2048
"""Prompt and answer of the LLM claim extractor together, in tokens, at least."""
NAME_RELEASE_SECONDS = 30
"""How long a cluster may take to free the name of a killed actor."""
REQUESTS_PER_CALL = 256
"""Requests in one call to a critic, outside the graph."""


class Fleet:
    """Policy generators, critique writers and the progress board. Nothing is detached: the driver owns them."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        experts: tuple[type, type] = (DetectorExpert, TextExpert),
        verifier: Verifier | None = None,
        *,
        restarts: int = 2,
        board: ActorHandle[Any] | None = None,
    ) -> None:
        self.config, self.ledger, self.experts, self.verifier = config, ledger, experts, verifier
        self.restarts = restarts
        self.board = board or ray.remote(ProgressBoard).options(name="progress-board", num_cpus=0).remote()
        self.policy: list[ActorHandle[Any]] = []
        self.critics: list[ActorHandle[Any]] = []
        self.extractors: list[ActorHandle[Any]] = []

    def start(self, *, policy: bool = True) -> list[Health]:
        """Start all engines, or the critics alone, and wait until each answers.

        Raises UserError with what a user has to mend.
        """
        config = self.config
        writer, critic = (
            engine_settings(config.policy.engine, config.policy.model),
            engine_settings(config.critic.engine, config.critic.model),
        )
        self.policy = [
            self._remote(PolicyGenerator, config.policy.engine, f"policy-{i}").remote(f"policy-{i}", writer)
            for i in range(config.policy.engine.actors if policy else 0)
        ]
        self.critics = [
            self._remote(CritiqueWriter, config.critic.engine, f"critic-{i}").remote(f"critic-{i}", critic, self.ledger)
            for i in range(config.critic.engine.actors)
        ]
        if config.experts.extractor == "llm":
            settings = engine_settings(config.policy.engine, config.experts.extractor_model)
            settings = replace(settings, max_model_len=max(settings.max_model_len, EXTRACTOR_LENGTH))
            name = "extractor-0"
            self.extractors = [self._remote(ClaimExtractorHost, config.policy.engine, name).remote(name, settings)]
        return self._answers([a.health.remote() for a in (*self.policy, *self.critics, *self.extractors)])

    def share_with(
        self,
        config: Config,
        ledger: Ledger,
        experts: tuple[type, type] = (DetectorExpert, TextExpert),
        verifier: Verifier | None = None,
    ) -> "Fleet":
        """The same actors for another run with the same engines; its critics begin with the untrained model.

        A critic that Ray restarts asks the first run's ledger for weights, so lend crews that do not restart.
        """
        other = Fleet(config, ledger, experts, verifier, board=self.board)
        other.policy, other.critics, other.extractors = self.policy, self.critics, self.extractors
        newest = ledger.newest_version()
        folder = ledger.fetch_version(newest) if newest else asset_path(config.critic.model)
        ray.get([critic.load.remote(newest, folder) for critic in other.critics])
        return other

    def stage_actors(self) -> StageActors:
        """What the graph works with."""
        extractor = self.extractors[0] if self.extractors else None
        board = ProgressReporter(self.board)
        return StageActors(self.policy, self.critics, *self.experts, board, extractor, self.verifier)

    def counts(self) -> dict[str, int]:
        """Rows that left each stage so far."""
        counts: dict[str, int] = ray.get(self.board.take.remote())
        return counts

    def seconds(self) -> dict[str, float]:
        """Busy seconds of each stage so far."""
        seconds: dict[str, float] = ray.get(self.board.seconds.remote())
        return seconds

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """When each actor of the graph was at work so far, in Unix time."""
        spans: dict[str, list[tuple[float, float]]] = ray.get(self.board.spans.remote())
        return spans

    def clear(self) -> None:
        """Begin counting anew."""
        ray.get(self.board.clear.remote())

    def judge(self, requests: list[Request], done: Callable[[int], None]) -> list[Completion]:
        """One greedy critique for each request, spread over all critics."""
        sampling = Sampling(self.config.critic.max_tokens)
        return [group[0] for group in spread(self.critics, requests, sampling, done)]

    def load(self, version: int) -> float:
        """Give all critics a published version in place; returns how much the canary's score moved."""
        folder = self.ledger.fetch_version(version)
        moved = [check_canary(critic, version, folder, self.config.critic.format) for critic in self.critics]
        return max(moved)

    def release_devices(self) -> None:
        """Close the engines before training, where they share their devices with it."""
        if self.config.cluster.placement == "phased":
            self._end_engines()

    def reacquire_devices(self) -> None:
        """Start the engines again after `release_devices`."""
        if not self.critics:
            self.start()

    def close(self) -> None:
        """End all actors; their memory and their names are free when this returns."""
        self._end_engines()
        _end({"progress-board": self.board})

    def _end_engines(self) -> None:
        kinds = {"policy": self.policy, "critic": self.critics, "extractor": self.extractors}
        named = {f"{kind}-{i}": actor for kind, actors in kinds.items() for i, actor in enumerate(actors)}
        for reference in [actor.close.remote() for actor in named.values()]:
            try:
                ray.get(reference, timeout=20)
            except (RayActorError, GetTimeoutError):  # dead already, or stuck: it is killed below
                continue
        _end(named)
        self.policy, self.critics, self.extractors = [], [], []

    def _remote(self, kind: type, engine: Engine, name: str) -> Any:
        on_cpu = engine.gpus == 0
        return ray.remote(kind).options(
            name=name,
            num_cpus=engine.cpus,
            num_gpus=engine.gpus * engine.tensor_parallel,
            max_restarts=self.restarts,
            max_task_retries=self.restarts,
            runtime_env={"env_vars": WORKER_ENV | (CPU_ENV if on_cpu else {})},
        )

    def _answers(self, references: Sequence[ray.ObjectRef[Health]]) -> list[Health]:
        try:
            found = ray.get(list(references), timeout=self.config.cluster.start_timeout)
        except GetTimeoutError:
            raise UserError(
                f"the engines did not start within {self.config.cluster.start_timeout} s; "
                "see the actors in the dashboard, or raise cluster.start_timeout"
            ) from None
        except RayActorError as error:
            raise UserError(f"an engine died while starting: {str(error).strip().splitlines()[-1][:300]}") from error
        for health in found:
            if health.problem:
                raise UserError(health.problem)
        return list(found)


def _end(named: Mapping[str, ActorHandle[Any]]) -> None:
    """Kill actors, and wait until their names are free: the next ones have the same."""
    for actor in named.values():
        ray.kill(actor)
    deadline = time.monotonic() + NAME_RELEASE_SECONDS
    while not named.keys().isdisjoint(list_named_actors()) and time.monotonic() < deadline:
        time.sleep(0.2)


def spread(
    actors: Sequence[ActorHandle[Any]], requests: Sequence[Request], sampling: Sampling, done: Callable[[int], None]
) -> list[list[Completion]]:
    """Answers to each request, in order, asked of all actors at the same time."""
    parts = list(batches(requests, REQUESTS_PER_CALL))
    pending = [actors[i % len(actors)].generate.remote(list(part), sampling) for i, part in enumerate(parts)]
    answers: list[list[Completion]] = []
    for part, reference in zip(parts, pending, strict=True):
        answers += ray.get(reference)
        done(len(part))
    return answers


def engine_settings(engine: Engine, model: str) -> EngineSettings:
    """What an engine's actor needs to know of the configuration."""
    return EngineSettings(
        kind=engine.kind,
        model=asset_path(model),
        dtype=engine.dtype,
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_num_seqs,
        kv_cache_mb=engine.kv_cache_mb,
        gpu_memory=engine.gpu_memory,
        gpus=engine.gpus,
        tensor_parallel=engine.tensor_parallel,
    )
