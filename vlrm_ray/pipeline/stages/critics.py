"""The critics of a round by what they do: some write the critiques that are learned, some judge without evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vlrm_ray.config import Config
from vlrm_ray.engines import Completion, Request, Sampling
from vlrm_ray.pipeline.stage_actors import ProgressReporter
from vlrm_ray.pipeline.stages.engine_pool import EnginePool

BASE, NEWEST = "base", "newest"
"""The two writers: the untrained model, and the newest version."""


class Critics:
    """Sends requests to the critics that hold the right version."""

    def __init__(self, writers: Mapping[str, EnginePool], judges: EnginePool) -> None:
        """Use some engines.

        Args:
            writers: engines that write critiques, by `BASE` or `NEWEST`; with both, each writes a part of them.
            judges: engines that hold the newest version.
        """
        self.writers, self.judges = dict(writers), judges

    @property
    def board(self) -> ProgressReporter:
        """Where progress is reported."""
        return self.judges.board

    async def judge(self, part: int, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One answer of the newest version to each request."""
        return [group[0] for group in await self.judges.generate("unaided", part, requests, sampling)]

    async def score(self, part: int, requests: Sequence[Request]) -> list[Completion]:
        """The probabilities of both judgements for each request, by the first writer."""
        return await next(iter(self.writers.values())).score("critique", part, requests)

    async def write(
        self, part: int, requests: Sequence[Request], sampling: Sampling
    ) -> list[list[tuple[Completion, str]]]:
        """`sampling.n` critiques for each request, each with the name of its writer.

        Of two writers, the first writes one more if the number is odd. If one refuses a request, its refusal comes first.
        """
        groups: list[list[tuple[Completion, str]]] = [[] for _ in requests]
        for index, (name, pool) in enumerate(self.writers.items()):
            count = (sampling.n + len(self.writers) - 1 - index) // len(self.writers)
            if count == 0:
                continue
            answers = await pool.generate("critique", part, requests, replace(sampling, n=count))
            for group, found in zip(groups, answers, strict=True):
                refused = [(answer, name) for answer in found if answer.refused]
                group[:] = refused + group if refused else group + [(answer, name) for answer in found]
        return groups


def waits_for_newest(config: Config) -> bool:
    """Whether critiques need the newest version, so that a round's critiques wait for the training of the one before."""
    return config.critic.writer != BASE or config.selection.asks_unaided


def critic_versions(config: Config, newest: int, count: int) -> list[int]:
    """The version that each of `count` critics holds while critiques are written; 0 is the untrained model.

    If both the untrained model and the newest version are needed, each is held by half of the critics.
    """
    if config.critic.writer == NEWEST or newest == 0:
        return [newest] * count
    if not waits_for_newest(config):
        return [0] * count
    half = (count + 1) // 2
    return [0] * half + [newest] * (count - half)
