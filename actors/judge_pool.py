"""Judges the items of a benchmark on several critique writers: batches in parallel, refused requests isolated."""

from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from vlrm_ray.engines import Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks.judging import JudgeOutput, RefusedRequest
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
        pending: dict[Any, tuple[int, ActorHandle[Any], Batch]] = {}
        free = [actor for _ in range(BATCHES_IN_FLIGHT) for actor in self.actors]
        numbered = enumerate(batches)
        while True:
            while free and (following := next(numbered, None)) is not None:
                number, batch = following
                actor = free.pop(0)
                pending[actor.generate.remote(batch, self.sampling)] = (number, actor, batch)
            if not pending:
                return
            (reference,), _ = ray.wait(list(pending))
            number, actor, batch = pending.pop(reference)
            free.append(actor)
            yield number, self._checked(self._fetch(reference, actor, batch))

    def _checked(self, outputs: list[JudgeOutput]) -> list[JudgeOutput]:
        """Return the outputs; raise UserError if many requests were refused and none was answered so far."""
        refused = [output for output in outputs if isinstance(output, RefusedRequest)]
        self.answered |= len(refused) < len(outputs)
        if not self.answered and len(refused) >= MAX_REFUSALS_BEFORE_FIRST_ANSWER:
            raise UserError(f"none of the first {len(refused)} requests was answered; {refused[0].reason}")
        return outputs

    def _fetch(self, reference: Any, actor: ActorHandle[Any], batch: Batch) -> list[JudgeOutput]:
        """Outputs of a batch. A batch that fails is split in halves and retried, until the bad requests are alone."""
        try:
            outputs: list[JudgeOutput] = ray.get(reference)
        except RayActorError as error:
            raise UserError(
                f"a judge crashed ({str(error).strip().splitlines()[-1][:200]}); run the same command again to resume"
            ) from error
        except RayTaskError as error:
            if len(batch) == 1:
                return [RefusedRequest(f"refused by the engine: {_reason(error)}")]
            outputs = []
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                outputs += self._fetch(actor.generate.remote(half, self.sampling), actor, half)
        return outputs


def _reason(error: RayTaskError) -> str:
    lines = str(error.cause or error).strip().splitlines()
    return lines[-1 if error.cause is None else 0][:200] if lines else type(error.cause).__name__
