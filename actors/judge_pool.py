"""Judges the items of a benchmark on several critique writers: batches in parallel, in order of completion."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from vlrm_ray.engines import REFUSED, TOO_LONG, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks.judging import JudgeOutput
from vlrm_ray.evaluation.benchmarks.scoring import Batch
from vlrm_ray.pipeline.engine_calls import died, too_late
from vlrm_ray.pipeline.refusals import RefusalGuard

BATCHES_IN_FLIGHT = 2
"""Batches sent to each actor at a time, so that it has the next one when it finishes one."""


class JudgePool:
    """Generates the outputs of batches on a pool of actors, in order of completion.

    Batches are made while others are judged, and each goes to the actor with the fewest of them.
    """

    def __init__(
        self,
        actors: Callable[[], Mapping[int, ActorHandle[Any]]],
        sampling: Sampling | None,
        timeout: float,
        in_flight: int = BATCHES_IN_FLIGHT,
    ) -> None:
        """Create the pool.

        Args:
            actors: returns the critique writers at present, by number.
            sampling: sampling parameters of all requests; None scores the next token without generating a text.
            timeout: seconds within which one of the actors must answer.
            in_flight: batches sent to each actor at a time.
        """
        self.actors, self.sampling, self.timeout, self.in_flight = actors, sampling, timeout, in_flight
        self._guard = RefusalGuard()

    def __call__(self, batches: Iterator[Batch]) -> Iterator[tuple[int, list[JudgeOutput]]]:
        """Implements `vlrm_ray.evaluation.benchmarks.scoring.JudgeFn`.

        Raises:
            UserError: an actor died or does not answer, or the engine refuses all requests.
        """
        pending: dict[Any, tuple[int, int]] = {}
        numbered = enumerate(batches)
        while True:
            while (free := self._free(pending)) and (following := next(numbered, None)) is not None:
                (index, actor), (number, batch) = free, following
                pending[self._send(actor, batch)] = (number, index)
            if not pending:
                return
            ready, _ = ray.wait(list(pending), timeout=self.timeout)
            if not ready:
                names = sorted({f"critic-{index}" for _, index in pending.values()})
                raise too_late(names, "judgements of a batch", self.timeout)
            number, index = pending.pop(ready[0])
            yield number, self._checked(_outputs(ready[0], f"critic-{index}"))

    def _free(self, pending: Mapping[Any, tuple[int, int]]) -> tuple[int, ActorHandle[Any]] | None:
        """The actor with the fewest batches, with its number; None if all have as many as they may have."""
        counts = Counter(index for _, index in pending.values())
        index, actor = min(self.actors().items(), key=lambda item: counts[item[0]])
        return (index, actor) if counts[index] < self.in_flight else None

    def _send(self, actor: ActorHandle[Any], batch: Batch) -> Any:
        return actor.score.remote(batch) if self.sampling is None else actor.generate.remote(batch, self.sampling)

    def _checked(self, outputs: list[JudgeOutput]) -> list[JudgeOutput]:
        """Return the outputs; raise UserError if many requests were refused and none was answered so far.

        Images that cannot be used do not count: they are no fault of the engine.
        """
        reasons = [output[0].refused for output in outputs]
        refused = Counter(reason for reason in reasons if reason == TOO_LONG or reason.startswith(REFUSED))
        if self._guard.add("" in reasons, refused):
            raise UserError(f"the engine {self._guard.text('requests')}; check --rm and the settings critic.engine.*")
        return outputs


def _outputs(reference: Any, actor: str) -> list[JudgeOutput]:
    """Outputs of a batch; raises UserError if the actor died."""
    try:
        outputs: list[Any] = ray.get(reference)
    except RayActorError as error:
        raise died([actor], "judgements of a batch", error) from error
    return [output if isinstance(output, list) else [output] for output in outputs]
