"""Batches of requests on the engines of one role, outside the Ray Data graph: in parallel, in order of completion."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from actors.engine_actors import is_restarting
from vlrm_ray.engines import REFUSED, TOO_LONG, Completion, EngineDied, Request, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.pipeline.engine_calls import CHECK_SECONDS, ActorDied, ActorLost, cancel, died, too_late
from vlrm_ray.pipeline.refusals import RefusalGuard, SickEngines
from vlrm_ray.pipeline.stages.engine_pool import MOST_LOSSES, too_many_losses

BATCHES_IN_FLIGHT = 2
"""Batches sent to each actor at a time, so that it has the next one when it finishes one."""
WAITING_FOR = "answers to a batch of requests"


@dataclass
class _Sent:
    """A batch, the number of the engine that has it, and how many engines have given up on it."""

    number: int
    batch: list[Request]
    index: int = -1
    losses: int = 0


class EngineBatches:
    """Generates the answers to batches on the engines of a role, in order of completion.

    Batches are made while others are worked on, and each goes to the engine with the fewest of them. An engine whose actor has
    given up starting it, has died, does not answer in time, or is being started again by Ray gets none for a while, and what it
    was working on is sent to others.
    """

    def __init__(
        self,
        role: str,
        actors: Callable[[], Mapping[int, ActorHandle[Any]]],
        sampling: Sampling | None,
        timeout: float,
        in_flight: int = BATCHES_IN_FLIGHT,
        remedy: str = "",
    ) -> None:
        """Create the batches of a role.

        Args:
            role: "policy" or "critic"; the actors are called policy-0, policy-1, ...
            actors: returns the engines at present, by number.
            sampling: sampling parameters of all requests; None scores the next token without generating a text.
            timeout: seconds within which one of the engines must answer.
            in_flight: batches sent to each engine at a time.
            remedy: what to do if the engines refuse all requests from the start, which ends the work then; "" lets it go on.
        """
        self.role, self.actors, self.sampling, self.timeout, self.in_flight = role, actors, sampling, timeout, in_flight
        self.remedy, self._guard, self._sick = remedy, RefusalGuard(answered=not remedy), SickEngines()

    def __call__(self, batches: Iterable[list[Request]]) -> Iterator[tuple[int, list[list[Completion]]]]:
        """Yield the number of each batch, from 0, and the answers to its requests; a score is the only answer to its request.

        Raises:
            UserError: no engine runs any more, none answers, or they refuse all requests.
        """
        pending: dict[Any, _Sent] = {}
        again, following = deque[_Sent](), (_Sent(number, batch) for number, batch in enumerate(batches))
        try:
            while True:
                while (free := self._free(pending)) and (sent := again.popleft() if again else next(following, None)):
                    sent.index, actor = free
                    pending[self._send(actor, sent.batch)] = sent
                if not pending:
                    return
                reference, lost = self._ended(pending)
                if lost:
                    again += self._taken_back(pending, lost)
                    continue
                sent = pending.pop(reference)
                try:
                    answers = self._answers(reference, sent)
                except (EngineDied, ActorDied, ActorLost) as error:
                    self._lose(sent, error)
                    again.append(sent)
                    continue
                yield sent.number, answers
        finally:
            for reference in pending:
                cancel(reference)

    def _ended(self, pending: Mapping[Any, _Sent]) -> tuple[Any, set[int]]:
        """A call that has ended; or None, and the engines whose calls others should have.

        These are engines that Ray starts again, and after the timeout all that have calls.

        Raises:
            UserError: no call has ended in time, and there is no other engine.
        """
        left = self.timeout
        while True:
            ready, _ = ray.wait(list(pending), timeout=min(CHECK_SECONDS, left))
            if ready:
                return ready[0], set()
            left -= CHECK_SECONDS
            present = self.actors()
            working = {sent.index for sent in pending.values()}
            lost = {i for i in working & present.keys() if is_restarting(present[i])} if left > 0 else working
            if lost and present.keys() - lost - self._sick.resting():
                return None, lost
            if left <= 0:
                raise too_late(sorted({self._name(sent) for sent in pending.values()}), WAITING_FOR, self.timeout)

    def _taken_back(self, pending: dict[Any, _Sent], lost: set[int]) -> list[_Sent]:
        """Let some engines rest, and take their batches back; raises UserError if several have been lost with one of them."""
        for index in lost:
            self._sick.rest(index)
        taken = {reference: sent for reference, sent in pending.items() if sent.index in lost}
        for reference, sent in taken.items():
            del pending[reference]
            cancel(reference)
            sent.losses += 1
            if sent.losses > MOST_LOSSES:
                cause = UserError(f"{self._name(sent)} hangs, or its process has ended and Ray starts it again")
                raise too_many_losses(self.role, "a batch", sent.batch, sent.losses, cause)
        return list(taken.values())

    def _name(self, sent: _Sent) -> str:
        return f"{self.role}-{sent.index}"

    def _free(self, pending: Mapping[Any, _Sent]) -> tuple[int, ActorHandle[Any]] | None:
        """The engine with the fewest batches, of those that run, with its number; None if all have as many as they may have."""
        counts, present = Counter(sent.index for sent in pending.values()), self.actors()
        running = present.keys() - self._sick.resting() or present
        index = min(running, key=lambda index: (counts[index], index))
        return (index, present[index]) if counts[index] < self.in_flight else None

    def _send(self, actor: ActorHandle[Any], batch: list[Request]) -> Any:
        return actor.score.remote(batch) if self.sampling is None else actor.generate.remote(batch, self.sampling)

    def _answers(self, reference: Any, sent: _Sent) -> list[list[Completion]]:
        """The answers to a batch; raises UserError if the actor died, or refuses everything."""
        try:
            found: list[Any] = ray.get(reference)
        except RayActorError as error:
            raise died([self._name(sent)], WAITING_FOR, error) from error
        answers = [answer if isinstance(answer, list) else [answer] for answer in found]
        self._check(answers)
        return answers

    def _check(self, answers: list[list[Completion]]) -> None:
        """Raise UserError if many requests were refused and none was answered so far.

        Images that cannot be used do not count: they are no fault of the engine.
        """
        reasons = [answer[0].refused for answer in answers]
        refused = Counter(reason for reason in reasons if reason == TOO_LONG or reason.startswith(REFUSED))
        if self._guard.add("" in reasons, refused):
            raise UserError(f"the engine {self._guard.text('requests')}; {self.remedy}")

    def _lose(self, sent: _Sent, error: EngineDied | ActorDied | ActorLost) -> None:
        """Let an engine rest; raises the error if no other one runs, and UserError if the batch ends one after the other."""
        self._sick.rest(sent.index)
        if self.actors().keys() <= self._sick.resting():
            raise error
        sent.losses += 1
        if sent.losses > MOST_LOSSES:
            raise too_many_losses(self.role, "a batch", sent.batch, sent.losses, error) from error
