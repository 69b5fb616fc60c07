"""Judges the items of a benchmark on several critique writers: batches in parallel, in order of completion."""

from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from vlrm_ray.engines import Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks.judging import JudgeOutput
from vlrm_ray.evaluation.benchmarks.scoring import Batch
from vlrm_ray.pipeline.engine_calls import died, too_late

BATCHES_IN_FLIGHT = 2
"""Batches sent to each actor at a time, so that it has the next one when it finishes one."""
MAX_REFUSALS_BEFORE_FIRST_ANSWER = 16
"""If this many requests are refused before any is answered, the engine is at fault, and judging stops."""


class JudgePool:
    """Generates the outputs of batches on a pool of actors, in order of completion.

    Attributes:
        answered: whether any request has been answered.
    """

    def __init__(self, actors: Sequence[ActorHandle[Any]], sampling: Sampling, timeout: float) -> None:
        """Create the pool.

        Args:
            actors: handles of critique writers.
            sampling: sampling parameters of all requests.
            timeout: seconds within which one of the actors must answer.
        """
        self.actors, self.sampling, self.timeout = actors, sampling, timeout
        self.answered = False

    def __call__(self, batches: Iterator[Batch]) -> Iterator[tuple[int, list[JudgeOutput]]]:
        """Implements `vlrm_ray.evaluation.benchmarks.scoring.JudgeFn`.

        Raises:
            UserError: an actor died or does not answer, or the engine refuses all requests.
        """
        pending: dict[Any, tuple[int, int]] = {}
        free = [index for _ in range(BATCHES_IN_FLIGHT) for index in range(len(self.actors))]
        numbered = enumerate(batches)
        while True:
            while free and (following := next(numbered, None)) is not None:
                number, batch = following
                index = free.pop(0)
                pending[self.actors[index].generate.remote(batch, self.sampling)] = (number, index)
            if not pending:
                return
            ready, _ = ray.wait(list(pending), timeout=self.timeout)
            if not ready:
                names = sorted({f"critic-{index}" for _, index in pending.values()})
                raise too_late(names, "judgements of a batch", self.timeout)
            number, index = pending.pop(ready[0])
            free.append(index)
            yield number, self._checked(_outputs(ready[0], f"critic-{index}"))

    def _checked(self, outputs: list[JudgeOutput]) -> list[JudgeOutput]:
        """Return the outputs; raise UserError if many requests were refused and none was answered so far."""
        refused = [output[0].refused for output in outputs if output[0].refused]
        self.answered |= len(refused) < len(outputs)
        if not self.answered and len(refused) >= MAX_REFUSALS_BEFORE_FIRST_ANSWER:
            raise UserError(
                f"the engine refused all of the first {len(refused)} requests ({refused[0]}); check --rm and the "
                "settings critic.engine.*"
            )
        return outputs


def _outputs(reference: Any, actor: str) -> list[JudgeOutput]:
    """Outputs of a batch; raises UserError if the actor died."""
    try:
        outputs: list[JudgeOutput] = ray.get(reference)
    except RayActorError as error:
        raise died([actor], "judgements of a batch", error) from error
    return outputs
