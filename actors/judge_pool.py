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

BATCHES_IN_FLIGHT = 2
"""Batches sent to each actor at a time, so that it has the next one when it finishes one."""
MAX_REFUSALS_BEFORE_FIRST_ANSWER = 16
"""If this many requests are refused before any is answered, the engine is at fault, and judging stops."""


class JudgePool:
    """Generates the outputs of batches on a pool of actors, in order of completion.

    Attributes:
        answered: whether any request has been answered.
    """

    def __init__(self, actors: Sequence[ActorHandle[Any]], sampling: Sampling) -> None:
        """Create the pool.

        Args:
            actors: handles of critique writers.
            sampling: sampling parameters of all requests.
        """
        self.actors, self.sampling = actors, sampling
        self.answered = False

    def __call__(self, batches: Iterator[Batch]) -> Iterator[tuple[int, list[JudgeOutput]]]:
        """Implements `vlrm_ray.evaluation.benchmarks.scoring.JudgeFn`.

        Raises:
            UserError: an actor died, or the engine refuses all requests.
        """
        pending: dict[Any, tuple[int, ActorHandle[Any]]] = {}
        free = [actor for _ in range(BATCHES_IN_FLIGHT) for actor in self.actors]
        numbered = enumerate(batches)
        while True:
            while free and (following := next(numbered, None)) is not None:
                number, batch = following
                actor = free.pop(0)
                pending[actor.generate.remote(batch, self.sampling)] = (number, actor)
            if not pending:
                return
            (reference,), _ = ray.wait(list(pending))
            number, actor = pending.pop(reference)
            free.append(actor)
            yield number, self._checked(_outputs(reference))

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


def _outputs(reference: Any) -> list[JudgeOutput]:
    """Outputs of a batch; raises UserError if the actor died."""
    try:
        outputs: list[JudgeOutput] = ray.get(reference)
    except RayActorError as error:
        raise UserError(
            f"a judge crashed ({str(error).strip().splitlines()[-1][:200]}); run the same command again to resume"
        ) from error
    return outputs
