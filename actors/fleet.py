"""The fleet: starts the long-lived actors of a run, loads published weights into them, and stops them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors.elastic_engines import CLOSE_SECONDS, ElasticEngines, Scaling
from actors.engine_actors import engine_settings, is_restarting, kill_all, on_lasting_node
from actors.engine_batches import BATCHES_IN_FLIGHT, EngineBatches
from actors.engine_directory import start_directory
from actors.engine_hosts import ClaimExtractorHost, CritiqueWriter, PolicyGenerator
from actors.experts import DetectorExpert, TextExpert
from actors.progress_board import ProgressBoard
from vlrm_ray.claims.llm import EXTRACTOR_TOKENS
from vlrm_ray.config import Config
from vlrm_ray.config_sections import Engine, Role
from vlrm_ray.engines import Completion, Health, Request, Sampling, batches
from vlrm_ray.errors import UserError
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline.board_client import NAME as BOARD
from vlrm_ray.pipeline.board_client import BoardClient
from vlrm_ray.pipeline.cluster import CPU_ENV, WORKER_ENV, without_those_of_the_job
from vlrm_ray.pipeline.engine_calls import REPORT_TIMEOUT, get, get_of_some
from vlrm_ray.pipeline.stage_actors import ProgressReporter, StageActors
from vlrm_ray.pipeline.stages.critics import critic_versions
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import VERSION, portable

ROLES: dict[str, Role] = {"policy": "generate", "critic": "judge", "extractor": "generate"}
"""Role of an engine's actor, for its place in the cluster, by the first part of its name."""
MAX_CALLS = 10_000
"""Calls that an engine's actor has in progress at the same time; further ones wait."""
REQUESTS_PER_BATCH = 256
"""Requests in one call of a reproducible engine, outside the Ray Data graph: it answers calls in turn, each as one batch."""
REQUESTS_PER_CALL = 16
"""The same for other engines, which work on many calls at the same time."""
JUDGE_REMEDY = "check --rm and the settings critic.engine.*"
"""What to do if critics of a published model refuse everything from the start."""
RESTARTS_WITH_NODES = 20
"""Restarts of each engine of a role that has several: each lost node costs one, and others work meanwhile. Where engines come and go
with their nodes, also retries of their calls."""


class Fleet:
    """Policy generators, critique writers, the claim extractor and the progress board of a run.

    The actors are named but not detached: they end with the driver's job.

    Attributes:
        policy: handles of the policy generators.
        critics: handles of the critique writers.
        extractors: handle of the LLM claim extractor; empty with `experts.extractor: rule`.
        versions: the version that each critique writer holds.
        board: the progress board.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        experts: tuple[type, type] = (DetectorExpert, TextExpert),
        verifier: Verifier | None = None,
        *,
        restarts: int = 2,
        board: BoardClient | None = None,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Start the progress board; `launch` or `start` starts the engines.

        Args:
            config: configuration of the run.
            ledger: ledger of the run, for the published versions.
            experts: actor classes of the detector and of the OCR reader.
            verifier: verifier for the claims; None creates one from the configured calibrations.
            restarts: how often Ray restarts an actor, and retries a call, after a crash; see also `RESTARTS_WITH_NODES`.
            board: an existing progress board to use.
            log: prints a line when the number of engines changes.
        """
        self.config, self.ledger, self.experts, self.verifier = config, ledger, experts, verifier
        self.restarts = restarts
        self.board, self.log = board or self._start_board(), log
        self.policy: list[ActorHandle[Any]] = []
        self.critics: list[ActorHandle[Any]] = []
        self.extractors: list[ActorHandle[Any]] = []
        self.versions: list[int] = []
        self.scaling: Scaling | None = None

    def start(self, *, policy: bool = True) -> list[Health]:
        """`launch` the engines, and wait until they are `ready`."""
        self.launch(policy=policy)
        return self.ready()

    def launch(self, *, policy: bool = True) -> None:
        """Create the engines' actors, which answer calls once they have started.

        Args:
            policy: whether to create the policy generators too; there are none with `policy.samples: 0`.
        """
        policy_engine, critic_engine = self.config.policy.engine, self.config.critic.engine
        generators = policy_engine.actors if policy and self.config.policy.samples else 0
        self.policy = [self.create_policy(f"policy-{i}") for i in range(generators)]
        self.critics = [self.create_critic(f"critic-{i}") for i in range(critic_engine.actors)]
        self.versions = [self.ledger.served_version(i) for i in range(critic_engine.actors)]
        experts = self.config.experts
        if experts.extractor == "llm" and (experts.extractor_model or not self.policy):
            max_pixels = self.config.prompts.max_pixels
            settings = engine_settings(policy_engine, experts.extractor_model or self.config.policy.model, max_pixels)
            settings = replace(settings, max_model_len=max(settings.max_model_len, EXTRACTOR_TOKENS))
            remote = self._remote(ClaimExtractorHost, policy_engine, "extractor-0")
            self.extractors = [remote.remote("extractor-0", settings, self.ledger)]
        self.scaling = self._start_scaling()

    def ready(self) -> list[Health]:
        """Wait until all engines have started.

        Raises:
            UserError: an engine failed to start or timed out.
        """
        nodes = self.config.cluster.nodes_of(*ROLES.values())
        waiting_for = "the start of its engine" + (f" on nodes with {nodes}" if nodes else "")
        starting = {name: actor.health.remote() for name, actor in self._named().items()}
        timeout = self.config.cluster.start_timeout
        states: list[Health] = get(starting, timeout, waiting_for, "cluster.start_timeout")
        if problem := next((health.problem for health in states if health.problem), ""):
            raise UserError(problem)
        self.versions = [health.version for health in states if health.name.startswith("critic")]
        return states

    def create_policy(self, name: str) -> ActorHandle[Any]:
        """Create the actor of a policy generator."""
        engine, experts = self.config.policy.engine, self.config.experts
        settings = engine_settings(engine, self.config.policy.model, self.config.prompts.max_pixels)
        if experts.extractor == "llm" and not experts.extractor_model:
            settings = replace(settings, max_model_len=max(settings.max_model_len, EXTRACTOR_TOKENS))
        return self._remote(PolicyGenerator, engine, name).remote(name, settings, self.ledger)

    def create_critic(self, name: str) -> ActorHandle[Any]:
        """Create the actor of a critique writer, which loads the version that the ledger names."""
        engine = self.config.critic.engine
        settings = engine_settings(engine, self.config.critic.model, self.config.prompts.max_pixels)
        return self._remote(CritiqueWriter, engine, name).remote(
            name, settings, self.ledger, int(name.rpartition("-")[2])
        )

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
        board = ProgressReporter(self.board.handle)
        directory = self.scaling.directory if self.scaling else None
        return StageActors(
            self.policy, self.critics, *self.experts, board, extractor, self.verifier, directory, tuple(self.versions)
        )

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
        size = REQUESTS_PER_BATCH if engine.is_reproducible else REQUESTS_PER_CALL
        # twice what an engine can work on at the same time, so that it never waits; more, if engines start for what waits
        calls = 2 * max(1, engine.max_num_seqs // (size * sampling.n)) * -(-engine.most_actors // engine.actors)
        parts = list(batches(requests, size))
        answers: list[list[list[Completion]]] = [[] for _ in parts]
        for number, found in self.batches(role, sampling, calls)(map(list, parts)):
            answers[number] = found
            done(len(found))
        return [group for groups_of_part in answers for group in groups_of_part]

    def batches(
        self,
        role: Literal["policy", "critic"],
        sampling: Sampling | None,
        in_flight: int = BATCHES_IN_FLIGHT,
        remedy: str = "",
    ) -> EngineBatches:
        """Batches of requests on the engines of a role that take requests; the arguments are those of `EngineBatches`."""
        actors = partial(self.present, role)
        return EngineBatches(role, actors, sampling, self.config.cluster.call_timeout, in_flight, remedy)

    def present(self, role: Literal["policy", "critic"]) -> dict[int, ActorHandle[Any]]:
        """The engines of a role that take requests now, by number: the permanent ones, and those that scaling has added."""
        permanent = dict(enumerate(self.policy if role == "policy" else self.critics))
        return permanent | (self.scaling.open(role) if self.scaling else {})

    def load(self, version: int, *, published: bool = False) -> float:
        """Load a version into all critique writers, in parallel, and check that they hold it.

        A critique writer that Ray restarts loads it too.

        Args:
            version: number of the version; 0 is the initial model, which has no canary to check.
            published: whether the version has just been published; then also those load it that hold one of this number.

        Returns:
            The largest change of the canary's p(Yes) or p(No), which shows that weights were replaced; 0 if none were.

        Raises:
            UserError: an actor did not answer in time, or none has an engine.
            WrongWeights: an engine does not reproduce the score of the version's canary.
        """
        return self._load([version] * len(self.critics), published=published)

    def load_writers(self, newest: int) -> None:
        """Load the versions that write and judge critiques, by `critic.writer`, given the newest version."""
        self._load(critic_versions(self.config, newest, len(self.critics)))

    def catch_up(self, critic: ActorHandle[Any], version: int) -> None:
        """Load the version of the last permanent critic into one that has started with another one."""
        if version != self.versions[-1]:
            self._load_each({"critic": (critic, self.versions[-1])})

    def _load(self, versions: Sequence[int], *, published: bool = False) -> float:
        """Load a version into each permanent critique writer, and the last one's into all others; see `load`."""
        with self.scaling.paused() if self.scaling else nullcontext():  # so that no critic starts with another version
            held, self.versions = self.versions, list(versions)
            self.ledger.serve_versions(versions)
            permanent = [i for i, version in enumerate(versions) if published or held[i] != version]
            loading = {f"critic-{i}": (self.critics[i], versions[i]) for i in permanent}
            if versions and (published or held[-1] != versions[-1]):
                others = self.scaling.named() if self.scaling else {}  # one that is to end may be taken back later
                loading |= {name: (actor, versions[-1]) for name, actor in others.items() if name.startswith("critic-")}
            return max(self._load_each(loading), default=0.0)

    def _load_each(self, loading: Mapping[str, tuple[ActorHandle[Any], int]]) -> list[float]:
        """Load a version into each of some critics, by name; returns the change of the canary's score in each.

        Critics without an engine are left out if another one loads it: they start with the version that the ledger names, or
        with what they were asked to load.
        """
        references = {}
        for name, (actor, version) in loading.items():
            model = f"{VERSION}{version}" if version else portable(self.config.critic.model)
            critique_format = self.config.critic.format if version else ""
            references[name] = actor.load.remote(model, self.ledger, critique_format)
        numbers = ", ".join(sorted({str(version) for _, version in loading.values()}))
        timeout = self.config.cluster.start_timeout
        return get_of_some(
            references,
            timeout,
            f"loading version {numbers}",
            "cluster.start_timeout",
            lambda name: is_restarting(loading[name][0]),
            lambda reason: self.log(f"version {numbers} is loaded without one critic: {reason}"),
        )

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
        kill_all({BOARD: self.board.handle})

    def _start_board(self) -> BoardClient:
        options = on_lasting_node(self.config.cluster.labels.get("cpu"))
        lasting = ray.remote(ProgressBoard).options(name=BOARD, max_restarts=-1, max_task_retries=-1, **options)
        return BoardClient(lasting.remote())

    def _start_scaling(self) -> Scaling | None:
        """Let the number of engines follow the work, for the roles that are configured so."""
        roles = {
            "policy": (self.config.policy.engine, self.policy, self.create_policy, lambda *_: None),
            "critic": (self.config.critic.engine, self.critics, self.create_critic, self.catch_up),
        }
        elastic = {
            role: ElasticEngines(role, engine, dict(enumerate(permanent)), create, admit, self.log)
            for role, (engine, permanent, create, admit) in roles.items()
            if permanent and engine.most_actors > engine.actors
        }
        if not elastic:
            return None
        return Scaling(elastic, start_directory(self.config.cluster.labels.get("cpu")), self.loads)

    def _named(self) -> dict[str, ActorHandle[Any]]:
        """All engine actors by name."""
        kinds = {"policy": self.policy, "critic": self.critics, "extractor": self.extractors}
        permanent = {f"{kind}-{i}": actor for kind, actors in kinds.items() for i, actor in enumerate(actors)}
        return permanent | (self.scaling.named() if self.scaling else {})

    def _stop_engines(self) -> None:
        if self.scaling:
            self.scaling.close()
            self.scaling = None
        named = self._named()
        if closing := [actor.close.remote() for actor in named.values()]:  # those that hang are killed below
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_SECONDS)
        kill_all(named)
        self.policy, self.critics, self.extractors = [], [], []

    def _remote(self, kind: type, engine: Engine, name: str) -> Any:
        lasting, elastic = self.restarts, engine.most_actors > engine.actors
        return ray.remote(kind).options(
            name=name,
            num_cpus=engine.cpus,
            num_gpus=engine.gpus * engine.tensor_parallel,
            label_selector=self.config.cluster.labels.get(ROLES[name.partition("-")[0]]),
            max_concurrency=MAX_CALLS,
            max_restarts=RESTARTS_WITH_NODES if lasting and engine.most_actors > 1 else lasting,
            max_task_retries=RESTARTS_WITH_NODES if lasting and elastic else lasting,
            runtime_env={"env_vars": without_those_of_the_job(WORKER_ENV | ({} if engine.gpus else CPU_ENV))},
        )
