"""The fleet: starts the long-lived actors of a run, loads published weights into them, and stops them."""

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
from actors.local import EXTRACTOR_TOKENS
from actors.progress_board import ProgressBoard
from vlrm_ray.config import Config, asset_path
from vlrm_ray.config_resources import Engine
from vlrm_ray.engines import Completion, EngineSettings, Health, Request, Sampling, batches
from vlrm_ray.errors import UserError
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.pipeline.stage_actors import ProgressReporter, StageActors
from vlrm_ray.reward.canary import check_canary
from vlrm_ray.store.ledger import Ledger

NAME_RELEASE_SECONDS = 30
"""Timeout for Ray to free the names of killed actors."""
CLOSE_SECONDS = 20
"""Timeout for an engine to shut down; after that its actor is killed."""
REQUESTS_PER_CALL = 256
"""Requests in one remote call, outside the Ray Data graph."""


class Fleet:
    """Policy generators, critique writers, the claim extractor and the progress board of a run.

    The actors are named but not detached: they end with the driver's job.

    Attributes:
        policy: handles of the policy generators.
        critics: handles of the critique writers.
        extractors: handle of the LLM claim extractor; empty with `experts.extractor: rule`.
        board: handle of the progress board.
    """

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
        """Start the progress board; `start` starts the engines.

        Args:
            config: configuration of the run.
            ledger: ledger of the run, for the published versions.
            experts: actor classes of the detector and of the OCR reader.
            verifier: verifier for the claims; None creates one from the configured calibrations.
            restarts: how often Ray restarts an actor, and retries a call, after a crash.
            board: handle of an existing progress board to use.
        """
        self.config, self.ledger, self.experts, self.verifier = config, ledger, experts, verifier
        self.restarts = restarts
        self.board = board or ray.remote(ProgressBoard).options(name="progress-board", num_cpus=0).remote()
        self.policy: list[ActorHandle[Any]] = []
        self.critics: list[ActorHandle[Any]] = []
        self.extractors: list[ActorHandle[Any]] = []

    def start(self, *, policy: bool = True) -> list[Health]:
        """Start the engines and wait until all of them are ready.

        Args:
            policy: whether to start the policy generators too.

        Raises:
            UserError: an engine failed to start or timed out.
        """
        policy_engine, critic_engine = self.config.policy.engine, self.config.critic.engine
        policy_settings = engine_settings(policy_engine, self.config.policy.model)
        critic_settings = engine_settings(critic_engine, self.config.critic.model)
        self.policy = [
            self._remote(PolicyGenerator, policy_engine, f"policy-{i}").remote(f"policy-{i}", policy_settings)
            for i in range(policy_engine.actors if policy else 0)
        ]
        self.critics = [
            self._remote(CritiqueWriter, critic_engine, f"critic-{i}").remote(
                f"critic-{i}", critic_settings, self.ledger
            )
            for i in range(critic_engine.actors)
        ]
        if self.config.experts.extractor == "llm":
            settings = engine_settings(policy_engine, self.config.experts.extractor_model)
            settings = replace(settings, max_model_len=max(settings.max_model_len, EXTRACTOR_TOKENS))
            name = "extractor-0"
            self.extractors = [self._remote(ClaimExtractorHost, policy_engine, name).remote(name, settings)]
        return self._wait_until_ready([a.health.remote() for a in (*self.policy, *self.critics, *self.extractors)])

    def share_with(
        self,
        config: Config,
        ledger: Ledger,
        experts: tuple[type, type] = (DetectorExpert, TextExpert),
        verifier: Verifier | None = None,
    ) -> "Fleet":
        """Fleet of another run that uses the same actors.

        The critique writers load the other run's latest version, or the initial model if it has none. The runs must
        have the same engine settings and must not be active at the same time. Create this fleet with `restarts=0`,
        because a critique writer that Ray restarts loads the weights of this fleet's run.

        Args:
            config: configuration of the other run.
            ledger: ledger of the other run.
            experts: actor classes of the detector and of the OCR reader.
            verifier: verifier for the claims; None creates one from the configured calibrations.
        """
        other = Fleet(config, ledger, experts, verifier, board=self.board)
        other.policy, other.critics, other.extractors = self.policy, self.critics, self.extractors
        newest = ledger.newest_version()
        folder = ledger.fetch_version(newest) if newest else asset_path(config.critic.model)
        ray.get([critic.load.remote(newest, folder) for critic in other.critics])
        return other

    def stage_actors(self) -> StageActors:
        """The actors that the graph of a round works with."""
        extractor = self.extractors[0] if self.extractors else None
        board = ProgressReporter(self.board)
        return StageActors(self.policy, self.critics, *self.experts, board, extractor, self.verifier)

    def counts(self) -> dict[str, int]:
        """Rows finished since the last reset, by stage."""
        counts: dict[str, int] = ray.get(self.board.counts.remote())
        return counts

    def seconds(self) -> dict[str, float]:
        """Busy seconds since the last reset, by stage."""
        seconds: dict[str, float] = ray.get(self.board.seconds.remote())
        return seconds

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """When each actor of the graph worked since the last reset: (start, end) in Unix time."""
        spans: dict[str, list[tuple[float, float]]] = ray.get(self.board.spans.remote())
        return spans

    def reset_counts(self) -> None:
        """Reset counts, seconds and spans."""
        ray.get(self.board.clear.remote())

    def judge(self, requests: list[Request], done: Callable[[int], None]) -> list[Completion]:
        """One greedy critique for each request, generated by all critique writers in parallel.

        Args:
            requests: the requests.
            done: called with the number of requests that have just been answered.
        """
        sampling = Sampling(self.config.critic.max_tokens)
        return [group[0] for group in generate_in_parallel(self.critics, requests, sampling, done)]

    def load(self, version: int) -> float:
        """Load a published version into all critique writers.

        Returns:
            The largest change of the canary's p(Yes) or p(No), which shows that the weights were replaced.
        """
        folder = self.ledger.fetch_version(version)
        return max(check_canary(critic, version, folder, self.config.critic.format) for critic in self.critics)

    def release_devices(self) -> None:
        """Stop the engines before training, if `cluster.placement` is `phased`."""
        if self.config.cluster.placement == "phased":
            self._stop_engines()

    def reacquire_devices(self) -> None:
        """Start the engines again after `release_devices`."""
        if not self.critics:
            self.start()

    def close(self) -> None:
        """Stop all actors and wait until their names are free."""
        self._stop_engines()
        _kill({"progress-board": self.board})

    def _stop_engines(self) -> None:
        kinds = {"policy": self.policy, "critic": self.critics, "extractor": self.extractors}
        named = {f"{kind}-{i}": actor for kind, actors in kinds.items() for i, actor in enumerate(actors)}
        for reference in [actor.close.remote() for actor in named.values()]:
            try:
                ray.get(reference, timeout=CLOSE_SECONDS)
            except (RayActorError, GetTimeoutError):  # the actor is dead or hangs; it is killed below
                continue
        _kill(named)
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

    def _wait_until_ready(self, references: Sequence[ray.ObjectRef[Health]]) -> list[Health]:
        timeout = self.config.cluster.start_timeout
        try:
            states = ray.get(list(references), timeout=timeout)
        except GetTimeoutError:
            raise UserError(
                f"the engines did not start within cluster.start_timeout={timeout} s; check the actors in the Ray "
                "dashboard, or raise the timeout"
            ) from None
        except RayActorError as error:
            raise UserError(f"an engine crashed while starting: {str(error).strip().splitlines()[-1][:300]}") from error
        for health in states:
            if health.problem:
                raise UserError(health.problem)
        return list(states)


def _kill(named: Mapping[str, ActorHandle[Any]]) -> None:
    """Kill actors and wait until their names are free for the next actors."""
    for actor in named.values():
        ray.kill(actor)
    deadline = time.monotonic() + NAME_RELEASE_SECONDS
    while not named.keys().isdisjoint(list_named_actors()) and time.monotonic() < deadline:
        time.sleep(0.2)


def generate_in_parallel(
    actors: Sequence[ActorHandle[Any]], requests: Sequence[Request], sampling: Sampling, done: Callable[[int], None]
) -> list[list[Completion]]:
    """Generate answers on several actors at the same time.

    Args:
        actors: handles of `EngineHost` actors.
        requests: the requests; they are split into batches of `REQUESTS_PER_CALL`.
        sampling: sampling parameters.
        done: called with the size of each finished batch.

    Returns:
        `sampling.n` answers to each request, in the order of the requests.
    """
    parts = list(batches(requests, REQUESTS_PER_CALL))
    pending = [actors[i % len(actors)].generate.remote(list(part), sampling) for i, part in enumerate(parts)]
    answers: list[list[Completion]] = []
    for part, reference in zip(parts, pending, strict=True):
        answers += ray.get(reference)
        done(len(part))
    return answers


def engine_settings(engine: Engine, model: str) -> EngineSettings:
    """Settings for an engine's actor, from the configuration of the engine and its model."""
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
