"""The fleet: starts the long-lived actors of a run, loads published weights into them, and stops them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, Literal

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError
from ray.util import list_named_actors

from actors.engine_hosts import ClaimExtractorHost, CritiqueWriter, PolicyGenerator
from actors.experts import DetectorExpert, TextExpert
from actors.local import EXTRACTOR_TOKENS
from actors.progress_board import ProgressBoard
from vlrm_ray.config import Config
from vlrm_ray.config_resources import Engine, Role
from vlrm_ray.engines import Completion, EngineSettings, Health, Request, Sampling, batches
from vlrm_ray.errors import UserError
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV
from vlrm_ray.pipeline.engine_calls import REPORT_TIMEOUT, LeastLoaded, call, get
from vlrm_ray.pipeline.stage_actors import ProgressReporter, StageActors
from vlrm_ray.pipeline.stages.critics import critic_versions
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import VERSION, portable

ROLES: dict[str, Role] = {"policy": "generate", "critic": "judge", "extractor": "generate"}
"""Role of an engine's actor, for its place in the cluster, by the first part of its name."""
NAME_RELEASE_SECONDS = 30
"""Timeout for Ray to free the names of killed actors."""
MAX_CALLS = 10_000
"""Calls that an engine's actor has in progress at the same time; further ones wait."""
CLOSE_SECONDS = 20
"""Timeout for an engine to shut down; after that its actor is killed."""
REQUESTS_PER_CALL = 256
"""Requests in one call of a reproducible engine, outside the Ray Data graph. A call is a batch."""
REQUESTS_PER_CALL_IN_TURN = 16
"""The same for other engines, which work on many calls at the same time."""


class Fleet:
    """Policy generators, critique writers, the claim extractor and the progress board of a run.

    The actors are named but not detached: they end with the driver's job.

    Attributes:
        policy: handles of the policy generators.
        critics: handles of the critique writers.
        extractors: handle of the LLM claim extractor; empty with `experts.extractor: rule`.
        versions: the version that each critique writer holds.
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
        if board is None:
            selector = config.cluster.labels.get("cpu")
            options = ray.remote(ProgressBoard).options(name="progress-board", num_cpus=0, label_selector=selector)
            board = options.remote()
        self.board = board
        self.policy: list[ActorHandle[Any]] = []
        self.critics: list[ActorHandle[Any]] = []
        self.extractors: list[ActorHandle[Any]] = []
        self.versions: list[int] = []

    def start(self, *, policy: bool = True) -> list[Health]:
        """Start the engines and wait until all of them are ready.

        Args:
            policy: whether to start the policy generators too; there are none with `policy.samples: 0`.

        Raises:
            UserError: an engine failed to start or timed out.
        """
        policy_engine, critic_engine = self.config.policy.engine, self.config.critic.engine
        max_pixels = self.config.prompts.max_pixels
        policy_settings = engine_settings(policy_engine, self.config.policy.model, max_pixels)
        if self.config.experts.extractor == "llm" and not self.config.experts.extractor_model:
            policy_settings = replace(
                policy_settings, max_model_len=max(policy_settings.max_model_len, EXTRACTOR_TOKENS)
            )
        critic_settings = engine_settings(critic_engine, self.config.critic.model, max_pixels)
        self.policy = [
            self._remote(PolicyGenerator, policy_engine, f"policy-{i}").remote(f"policy-{i}", policy_settings)
            for i in range(policy_engine.actors if policy and self.config.policy.samples else 0)
        ]
        self.critics = [
            self._remote(CritiqueWriter, critic_engine, f"critic-{i}").remote(
                f"critic-{i}", critic_settings, self.ledger, i
            )
            for i in range(critic_engine.actors)
        ]
        experts = self.config.experts
        if experts.extractor == "llm" and (experts.extractor_model or not self.policy):
            settings = engine_settings(policy_engine, experts.extractor_model or self.config.policy.model, max_pixels)
            settings = replace(settings, max_model_len=max(settings.max_model_len, EXTRACTOR_TOKENS))
            name = "extractor-0"
            self.extractors = [self._remote(ClaimExtractorHost, policy_engine, name).remote(name, settings)]
        nodes = self.config.cluster.nodes_of(*ROLES.values())
        waiting_for = "the start of its engine" + (f" on nodes with {nodes}" if nodes else "")
        states: list[Health] = self._get_all(self._named(), "health", waiting_for=waiting_for)
        for health in states:
            if health.problem:
                raise UserError(health.problem)
        self.versions = [health.version for health in states if health.name.startswith("critic")]
        return states

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
        other.versions = [0] * len(self.critics)
        other.load(ledger.newest_version(), published=True)
        return other

    def stage_actors(self) -> StageActors:
        """The actors that the graph of a round works with."""
        extractor = self.extractors[0] if self.extractors else None
        if self.config.experts.extractor == "llm" and extractor is None:
            extractor = self.policy[-1]  # `experts.extractor_model` is empty: the policy extracts the claims
        board = ProgressReporter(self.board)
        return StageActors(
            self.policy, self.critics, *self.experts, board, extractor, self.verifier, tuple(self.versions)
        )

    def counts(self) -> dict[str, int]:
        """Rows finished since the last reset, by stage."""
        counts: dict[str, int] = self._ask_board(self.board.counts)
        return counts

    def seconds(self) -> dict[str, float]:
        """Busy seconds since the last reset, by stage."""
        seconds: dict[str, float] = self._ask_board(self.board.busy)[0]
        return seconds

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """When each actor of the graph worked since the last reset: (start, end) in Unix time."""
        spans: dict[str, list[tuple[float, float]]] = self._ask_board(self.board.busy)[1]
        return spans

    def reset_counts(self) -> None:
        """Reset counts, seconds and spans."""
        self._ask_board(self.board.clear)

    def steps(self, start: int) -> list[dict[str, Any]]:
        """The records of training steps that have arrived, without the first `start`; [] if the board does not answer."""
        try:
            records: list[dict[str, Any]] = ray.get(self.board.steps.remote(start), timeout=REPORT_TIMEOUT)
        except (RayError, GetTimeoutError):  # a training goes on without its records
            return []
        return records

    def loads(self) -> dict[str, dict[str, int]]:
        """Running, waiting and finished sequences of each engine that answers at once, by the name of its actor."""
        references = {actor.load_report.remote(): name for name, actor in self._named().items()}
        ready = ray.wait(list(references), num_returns=len(references), timeout=REPORT_TIMEOUT)[0] if references else []
        loads = {}
        for reference in ready:
            with suppress(RayError):  # whoever waits for the actor's answers reports that it is dead
                loads[references[reference]] = asdict(ray.get(reference))
        return loads

    def judge(self, requests: list[Request], done: Callable[[int], None]) -> list[Completion]:
        """One greedy critique for each request, generated by all critique writers in parallel.

        Args:
            requests: the requests.
            done: called with the number of requests that have just been answered.
        """
        sampling = Sampling(self.config.critic.max_tokens, judgement="ask")
        return [group[0] for group in self.generate("critic", requests, sampling, done)]

    def generate(
        self,
        role: Literal["policy", "critic"],
        requests: Sequence[Request],
        sampling: Sampling,
        done: Callable[[int], None],
    ) -> list[list[Completion]]:
        """Generate answers on all actors of a role in parallel, outside the graph.

        Args:
            role: which actors.
            requests: the requests.
            sampling: sampling parameters.
            done: called with the number of requests that have just been answered.

        Returns:
            `sampling.n` answers to each request, in the order of the requests.

        Raises:
            UserError: an actor did not answer in time, or died.
        """
        engine = self.config.policy.engine if role == "policy" else self.config.critic.engine
        size = REQUESTS_PER_CALL if engine.is_reproducible else REQUESTS_PER_CALL_IN_TURN
        # twice what an engine can work on at the same time, so that it never waits
        calls = 2 * max(1, engine.max_num_seqs // (size * sampling.n))
        actors = {name: actor for name, actor in self._named().items() if name.startswith(role)}
        parts = list(batches(requests, size))
        groups = asyncio.run(_generate(actors, parts, sampling, done, calls, self.config.cluster.call_timeout))
        return [group for groups_of_part in groups for group in groups_of_part]

    def load(self, version: int, *, published: bool = False) -> float:
        """Load a version into all critique writers, in parallel, and check that they hold it.

        A critique writer that Ray restarts loads it too.

        Args:
            version: number of the version; 0 is the initial model, which has no canary to check.
            published: whether the version has just been published; then also those load it that hold one of this number.

        Returns:
            The largest change of the canary's p(Yes) or p(No), which shows that weights were replaced; 0 if none were.

        Raises:
            UserError: an actor did not answer in time, or died.
            WrongWeights: an engine does not reproduce the score of the version's canary.
        """
        return self._load([version] * len(self.critics), published=published)

    def load_writers(self, newest: int) -> None:
        """Load the versions that write and judge critiques, by `critic.writer`, given the newest version."""
        self._load(critic_versions(self.config, newest, len(self.critics)))

    def _load(self, versions: Sequence[int], *, published: bool = False) -> float:
        """Load a version into each critique writer; see `load`."""
        held, self.versions = self.versions, list(versions)
        self.ledger.serve_versions(versions)
        references = {}
        for index, (actor, version) in enumerate(zip(self.critics, versions, strict=True)):
            if published or held[index] != version:
                model = f"{VERSION}{version}" if version else portable(self.config.critic.model)
                critique_format = self.config.critic.format if version else ""
                references[f"critic-{index}"] = actor.load.remote(model, self.ledger, critique_format)
        numbers = ", ".join(map(str, sorted(set(versions))))
        timeout = self.config.cluster.start_timeout
        changes: list[float] = get(references, timeout, f"loading version {numbers}", "cluster.start_timeout")
        return max(changes, default=0.0)

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

    def _named(self) -> dict[str, ActorHandle[Any]]:
        """All engine actors by name."""
        kinds = {"policy": self.policy, "critic": self.critics, "extractor": self.extractors}
        return {f"{kind}-{i}": actor for kind, actors in kinds.items() for i, actor in enumerate(actors)}

    def _get_all(
        self, actors: Mapping[str, ActorHandle[Any]], method: str, *arguments: Any, waiting_for: str
    ) -> list[Any]:
        """Call a method of several engine actors, which start or load within `cluster.start_timeout`."""
        references = {name: getattr(actor, method).remote(*arguments) for name, actor in actors.items()}
        return get(references, self.config.cluster.start_timeout, waiting_for, "cluster.start_timeout")

    def _ask_board(self, method: Any) -> Any:
        timeout = self.config.cluster.start_timeout
        return get({"progress-board": method.remote()}, timeout, "the progress", "cluster.start_timeout")[0]

    def _stop_engines(self) -> None:
        named = self._named()
        for reference in [actor.close.remote() for actor in named.values()]:
            with suppress(RayError, GetTimeoutError):  # the actor is dead or hangs; it is killed below
                ray.get(reference, timeout=CLOSE_SECONDS)
        _kill(named)
        self.policy, self.critics, self.extractors = [], [], []

    def _remote(self, kind: type, engine: Engine, name: str) -> Any:
        on_cpu = engine.gpus == 0
        return ray.remote(kind).options(
            name=name,
            num_cpus=engine.cpus,
            num_gpus=engine.gpus * engine.tensor_parallel,
            label_selector=self.config.cluster.labels.get(ROLES[name.partition("-")[0]]),
            max_concurrency=MAX_CALLS,
            max_restarts=self.restarts,
            max_task_retries=self.restarts,
            runtime_env={"env_vars": WORKER_ENV | (CPU_ENV if on_cpu else {})},
        )


def _kill(named: Mapping[str, ActorHandle[Any]]) -> None:
    """Kill actors and wait until their names are free for the next actors."""
    for actor in named.values():
        ray.kill(actor)
    deadline = time.monotonic() + NAME_RELEASE_SECONDS
    while not named.keys().isdisjoint(list_named_actors()) and time.monotonic() < deadline:
        time.sleep(0.2)


async def _generate(
    actors: Mapping[str, ActorHandle[Any]],
    parts: Sequence[Sequence[Request]],
    sampling: Sampling,
    done: Callable[[int], None],
    calls: int,
    timeout: float,
) -> list[list[list[Completion]]]:
    """Answers to the parts of some requests, each from the least loaded actor; `calls` is the number of calls per actor."""
    names, handles = list(actors), list(actors.values())
    least_loaded, free = LeastLoaded(len(handles)), asyncio.Semaphore(calls * len(handles))

    async def generate(part: Sequence[Request]) -> list[list[Completion]]:
        async with free:
            with least_loaded.pick(len(part) * sampling.n) as index:
                answers: list[list[Completion]] = await call(
                    handles[index].generate,
                    list(part),
                    sampling,
                    timeout=timeout,
                    name=names[index],
                    waiting_for=f"answers to {len(part)} requests",
                )
        done(len(part))
        return answers

    return list(await asyncio.gather(*map(generate, parts)))


def engine_settings(engine: Engine, model: str, max_pixels: int) -> EngineSettings:
    """Settings for an engine's actor.

    Args:
        engine: configuration of the engine.
        model: reference to its model.
        max_pixels: largest number of pixels of an image.
    """
    return EngineSettings(
        kind=engine.kind,
        model=portable(model),
        dtype=engine.dtype,
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_num_seqs,
        kv_cache_mb=engine.kv_cache_mb,
        gpu_memory=engine.gpu_memory,
        gpus=engine.gpus,
        tensor_parallel=engine.tensor_parallel,
        reproducible=engine.is_reproducible,
        max_pixels=max_pixels,
    )
