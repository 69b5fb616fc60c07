"""Calls of actors, with a timeout whose message names the actor and what it was asked for.

Stages of the graph use `call` and `LeastLoaded`, the driver uses `get` and `get_of_some`.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError, RayError

from vlrm_ray.engines import EngineDied
from vlrm_ray.errors import UserError, last_line, user_message

CALL_TIMEOUT = "cluster.call_timeout"
"""Configuration key of the timeout of a call."""
REPORT_SECONDS = 1.0
"""Interval at which engines are asked how busy they are, while requests are sent."""
REPORT_TIMEOUT = 10.0
"""Seconds after which an engine that has not reported counts as away."""
CHECK_SECONDS = 5.0
"""Interval at which a call that waits looks at its engine."""
RESTART_SECONDS = 60.0
"""Time that an actor gets to start again while all others have done what they were asked; it may wait for a node."""


class ActorDied(UserError):
    """The process of an actor has ended, and Ray does not start it again."""


class ActorLost(UserError):
    """The process of an actor has ended or cannot be reached; Ray starts it again if it may."""


class EngineLate(UserError):
    """An actor has not answered in time."""


class LeastLoaded:
    """Chooses the engine actor with the fewest unfinished sequences; among equal ones, in turn.

    The sequences are those that the engine has last reported, and what has changed since by the calls of this process, which
    it counts itself. A request for `n` answers is `n` sequences.

    An actor that Ray is starting again does not report: Ray keeps the question, and all other calls, until it is back.

    Attributes:
        in_flight: sequences of this process's unfinished calls, by actor.
        of_others: unfinished sequences of other processes, by actor, as of its last report; less those that are finished in
            unfinished calls of this process.
        stopped: the actors whose engine did not run when they last reported.
        progress: when an actor was last seen to have finished sequences or tokens, by actor; in monotonic time.
    """

    def __init__(self, actors: int) -> None:
        """Choose among `actors` actors, which are numbered from 0."""
        self.in_flight, self.of_others = [0] * actors, [0] * actors
        self.progress: dict[int, float] = {}
        self._finished: dict[int, tuple[int, int]] = {}
        self._turn, self._reported = 0, 0.0
        self._asked: dict[int, tuple[float, asyncio.Task[None]]] = {}
        self._lost, self.stopped = set[int](), set[int]()

    def resize(self, actors: int) -> None:
        """Choose among more actors than before."""
        for loads in (self.in_flight, self.of_others):
            loads += [0] * (actors - len(loads))

    @contextmanager
    def pick(self, sequences: int = 1, among: Collection[int] | None = None) -> Iterator[int]:
        """Number of the actor to send some sequences to; they count until the context ends.

        Args:
            sequences: how many.
            among: numbers of the actors to choose from; None for all.
        """
        count = len(self.in_flight)
        index = min(
            range(count) if among is None else among,
            key=lambda i: (self.load(i), (i - self._turn) % count),
        )
        self._turn = (index + 1) % count
        self.in_flight[index] += sequences
        try:
            yield index
        finally:
            self.in_flight[index] -= sequences
            self.of_others[index] = max(self.of_others[index], -self.in_flight[index])

    def load(self, index: int) -> int:
        """Unfinished sequences of an actor, as far as they are known."""
        return self.in_flight[index] + self.of_others[index]

    def lose(self, index: int) -> None:
        """Count an actor as away until it reports."""
        self._lost.add(index)

    def stop(self, index: int) -> None:
        """Count an actor as one without an engine until it reports that its engine runs."""
        self.stopped.add(index)

    def away(self, seconds: float) -> set[int]:
        """The actors that were lost or asked for a report some seconds ago, and have not reported since."""
        asked = time.monotonic() - seconds
        return self._lost | {index for index, (since, _) in self._asked.items() if since <= asked}

    def update(self, load_reports: Mapping[int, Any]) -> None:
        """Ask the actors for new reports, in the background, if the last ones are old. Call it before `pick` and `away`.

        Args:
            load_reports: the method `load_report` of each actor's handle, by the actor's number.
        """
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        for index, method in load_reports.items():
            if index not in self._asked:
                self._asked[index] = now, asyncio.get_running_loop().create_task(self._ask(index, method))

    async def _ask(self, index: int, load_report: Any) -> None:
        own = self.in_flight[index]
        try:
            report = await load_report.remote()
            self.of_others[index] = max(report.unfinished - own, -self.in_flight[index])
            self._lost.discard(index)
            (self.stopped.discard if report.runs else self.stopped.add)(index)
            if self._finished.get(index) != (report.finished, report.tokens):
                self._finished[index] = report.finished, report.tokens
                self.progress[index] = time.monotonic()
        except ActorDiedError:  # the next call of it will tell
            self._lost.discard(index)
            self.stopped.discard(index)
        except RayError:  # it is asked again
            pass
        finally:
            del self._asked[index]


async def call(
    method: Any,
    *arguments: Any,
    timeout: float,
    name: str,
    waiting_for: str,
    progress: Callable[[], float] | None = None,
) -> Any:
    """Call an actor's method and await its result. A call that is late or cancelled is cancelled in the actor too.

    Args:
        method: the method of the actor's handle.
        arguments: its arguments.
        timeout: seconds to wait.
        name: name of the actor, for messages.
        waiting_for: what is expected of it, for messages.
        progress: returns when the actor has last made progress with any call, in monotonic time: the timeout starts anew then.
            It is called every `CHECK_SECONDS` while the call waits, and what it raises ends the call.

    Raises:
        EngineLate: it did not answer in time.
        UserError: the actor died.
        Exception: what the method or `progress` raises.
    """
    since = time.monotonic()
    reference = method.remote(*arguments)
    answer = asyncio.ensure_future(reference)
    try:
        while not answer.done():
            left = since + timeout - time.monotonic()
            if left <= 0:
                raise too_late([name], waiting_for, timeout)
            await asyncio.wait({answer}, timeout=min(left, CHECK_SECONDS) if progress else left)
            if progress and not answer.done():
                since = max(since, progress())
        return answer.result()
    except RayActorError as error:
        raise died([name], waiting_for, error) from error
    finally:
        if not answer.done():
            answer.cancel()
            cancel(reference)


def get(
    references: Mapping[str, ray.ObjectRef[Any]], timeout: float, waiting_for: str, key: str = CALL_TIMEOUT
) -> list[Any]:
    """Results of calls of several actors, in order.

    Args:
        references: the pending result of each actor, by its name.
        timeout: seconds to wait for all of them.
        waiting_for: what is expected of them, for messages.
        key: the configuration key that sets the timeout.

    Raises:
        UserError: some did not answer in time, or an actor died.
        Exception: what a method raises.
    """
    try:
        return list(ray.get(list(references.values()), timeout=timeout))
    except GetTimeoutError:
        late = _pending(references)
        free = ray.available_resources() if key != CALL_TIMEOUT else None
        raise too_late(list(late), waiting_for, timeout, key, free) from None
    except RayActorError as error:
        dead = [name for name, reference in references.items() if _is_dead(reference)]
        raise died(dead or list(references), waiting_for, error) from error


def get_of_some(
    references: Mapping[str, ray.ObjectRef[Any]],
    timeout: float,
    waiting_for: str,
    key: str,
    restarts: Callable[[str], bool],
    lost: Callable[[str], None],
) -> list[Any]:
    """Results of those actors that have an engine, in order; others may be lost if there are any.

    Args:
        references, timeout, waiting_for, key: see `get`.
        restarts: whether Ray is starting an actor again. If all others have answered, such an actor gets `RESTART_SECONDS`.
        lost: called with the reason for each actor that is left out.

    Raises:
        UserError: an actor that runs did not answer in time, or none has an engine.
        Exception: what a method raises, but `EngineDied`.
    """
    _wait_for_most(references, timeout, restarts)
    results, errors, late = list[Any](), list[UserError](), list[str]()
    for name, reference in references.items():
        try:
            results.append(ray.get(reference, timeout=0))
        except EngineDied as without:
            errors.append(without)
        except ActorDiedError as dead:
            errors.append(died([name], waiting_for, dead))
        except RayActorError as lost_call:
            raise died([name], waiting_for, lost_call) from lost_call
        except GetTimeoutError:
            late.append(name)
    away = [name for name in late if restarts(name)]
    if running := [name for name in late if name not in away]:
        raise too_late(running, waiting_for, timeout, key)
    errors += [too_late([name], waiting_for, timeout, key) for name in away]
    if errors and not results:
        raise errors[0]
    for left_out in errors:
        lost(user_message(left_out) or last_line(left_out))
    return results


def _wait_for_most(
    references: Mapping[str, ray.ObjectRef[Any]], timeout: float, restarts: Callable[[str], bool]
) -> None:
    """Wait until all actors have answered, or all but such as have been starting again for `RESTART_SECONDS` while one has succeeded."""
    names = {reference: name for name, reference in references.items()}
    end, away_since = time.monotonic() + timeout, None
    while (now := time.monotonic()) < end:
        ready, late = ray.wait(list(names), num_returns=len(names), timeout=min(CHECK_SECONDS, end - now))
        if not late:
            return
        if not any(map(_succeeded, ready)) or not all(restarts(names[reference]) for reference in late):
            away_since = None
        elif away_since is None:
            away_since = now
        elif time.monotonic() - away_since >= RESTART_SECONDS:
            return


def _succeeded(reference: ray.ObjectRef[Any]) -> bool:
    with suppress(Exception):  # of many types, which `get_of_some` raises or counts
        ray.get(reference, timeout=0)
        return True
    return False


def cancel(reference: Any) -> None:
    """Cancel a call in its actor too, if it has not ended."""
    if isinstance(reference, ray.ObjectRef):
        with suppress(RayError, ValueError):  # it has ended meanwhile
            ray.cancel(reference)


def _pending(references: Mapping[str, ray.ObjectRef[Any]]) -> dict[str, ray.ObjectRef[Any]]:
    """The calls that have not ended."""
    _, late = ray.wait(list(references.values()), num_returns=len(references), timeout=0)
    return {name: reference for name, reference in references.items() if reference in late}


def _is_dead(reference: ray.ObjectRef[Any]) -> bool:
    """Whether a call has failed because its actor died."""
    try:
        ray.get(reference, timeout=0)
    except RayActorError:
        return True
    except Exception:  # it is late, or the method has raised something
        return False
    return False


def too_late(
    names: Sequence[str],
    waiting_for: str,
    timeout: float,
    key: str = CALL_TIMEOUT,
    free: Mapping[str, float] | None = None,
) -> EngineLate:
    """The error for actors that have not answered in time.

    Args:
        names: the actors.
        waiting_for, timeout, key: see `get`.
        free: free resources of the cluster, where actors that start may have waited for some.
    """
    room = (
        "" if free is None else f" (free in the whole cluster: {free.get('CPU', 0):g} CPU, {free.get('GPU', 0):g} GPU)"
    )
    return EngineLate(
        f"{_listed(names)}: no answer within {timeout:g} s while waiting for {waiting_for}{room}; look at the actor in the Ray "
        f"dashboard, or raise {key}"
    )


def died(names: Sequence[str], waiting_for: str, error: RayActorError) -> ActorDied | ActorLost:
    """The error for actors whose process has ended: `ActorLost` if Ray starts it again, otherwise `ActorDied`."""
    kind = ActorLost if isinstance(error, ActorUnavailableError) else ActorDied
    return kind(
        f"{_listed(names)} died while it was asked for {waiting_for}: {last_line(error)}; see its log in the Ray dashboard, "
        "then run the same command again to resume"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
