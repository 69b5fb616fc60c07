"""Critique writers that judge from outside a round: batches spread over the actors, bad requests singled out."""

from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from vlrm_ray.engines import Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks.judging import Answer, RefusedRequest
from vlrm_ray.evaluation.benchmarks.scoring import Batch

BATCHES_IN_FLIGHT = 2
"""Batches under way for each actor: the next one is ready when it has finished one."""
MAX_REFUSALS_BEFORE_FIRST_ANSWER = 16
"""So many refusals without a single answer are not the requests' fault."""


class JudgePool:
    """Answers batches with the given actors, in the order in which they are done."""

    def __init__(self, actors: Sequence[ActorHandle[Any]], sampling: Sampling) -> None:
        self.actors, self.sampling = actors, sampling
        self.answered = False

    def __call__(self, batches: Iterator[Batch]) -> Iterator[tuple[int, list[Answer]]]:
        """See `vlrm_ray.evaluation.benchmarks.scoring.Answers`."""
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

    def _checked(self, answers: list[Answer]) -> list[Answer]:
        """Stop where it is the engine that is wrong, not the requests: many were asked and none was answered."""
        refused = [answer for answer in answers if isinstance(answer, RefusedRequest)]
        self.answered |= len(refused) < len(answers)
        if not self.answered and len(refused) >= MAX_REFUSALS_BEFORE_FIRST_ANSWER:
            raise UserError(f"none of the first {len(refused)} requests was answered; {refused[0].reason}")
        return answers

    def _fetch(self, reference: Any, actor: ActorHandle[Any], batch: Batch) -> list[Answer]:
        """A batch's answers; one that fails is asked again in halves until the bad requests are alone."""
        try:
            answers: list[Answer] = ray.get(reference)
        except RayActorError as error:
            raise UserError(
                f"a judge died ({str(error).strip().splitlines()[-1][:200]}); run the same command again to go on"
            ) from error
        except RayTaskError as error:
            if len(batch) == 1:
                return [RefusedRequest(f"refused by the engine: {_reason(error)}")]
            answers = []
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                answers += self._fetch(actor.generate.remote(half, self.sampling), actor, half)
        return answers


def _reason(error: RayTaskError) -> str:
    lines = str(error.cause or error).strip().splitlines()
    return lines[-1 if error.cause is None else 0][:200] if lines else type(error.cause).__name__
