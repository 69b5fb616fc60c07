"""Calls of actors, with a timeout whose message names the actor and what it was asked for."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from vlrm_ray.errors import UserError


class LeastLoaded:
    """Chooses the actor with the fewest requests in flight from this process; among equal ones, in turn."""

    def __init__(self, actors: int) -> None:
        """Choose among `actors` actors, which are numbered from 0."""
        self.in_flight = [0] * actors
        self.turn = 0

    @contextmanager
    def pick(self, requests: int = 1) -> Iterator[int]:
        """Number of the actor to send `requests` requests to; they count until the context ends."""
        count = len(self.in_flight)
        index = min(range(count), key=lambda i: (self.in_flight[i], (i - self.turn) % count))
        self.turn = (index + 1) % count
        self.in_flight[index] += requests
        try:
            yield index
        finally:
            self.in_flight[index] -= requests


async def call(method: Any, *arguments: Any, timeout: float, name: str, waiting_for: str) -> Any:
    """Call an actor's method and await its result.

    Args:
        method: the method of the actor's handle.
        arguments: its arguments.
        timeout: seconds to wait.
        name: name of the actor, for messages.
        waiting_for: what is expected of it, for messages.

    Raises:
        UserError: it did not answer in time, or the actor died.
    """
    try:
        return await asyncio.wait_for(method.remote(*arguments), timeout)
    except TimeoutError:
        raise _too_late(name, waiting_for, timeout) from None
    except RayActorError as error:
        raise _dead(name, waiting_for, error) from error


def get(references: Mapping[str, ray.ObjectRef[Any]], timeout: float, waiting_for: str) -> list[Any]:
    """Results of calls of several actors, in order.

    Args:
        references: the pending result of each actor, by its name.
        timeout: seconds to wait for all of them.
        waiting_for: what is expected of them, for messages.

    Raises:
        UserError: some did not answer in time, or an actor died.
    """
    try:
        return list(ray.get(list(references.values()), timeout=timeout))
    except GetTimeoutError:
        _, late = ray.wait(list(references.values()), num_returns=len(references), timeout=0)
        names = [name for name, reference in references.items() if reference in late]
        raise _too_late(_listed(names), waiting_for, timeout) from None
    except RayActorError as error:
        raise _dead(_listed(list(references)), waiting_for, error) from error


def _too_late(name: str, waiting_for: str, timeout: float) -> UserError:
    return UserError(
        f"{name}: no answer within {timeout:g} s while waiting for {waiting_for}; look at the actor in the Ray dashboard, or "
        "raise cluster.call_timeout"
    )


def _dead(name: str, waiting_for: str, error: RayActorError) -> UserError:
    cause = str(error).strip().splitlines()[-1][:300]
    return UserError(f"{name} died while it was asked for {waiting_for}: {cause}; see its log in the Ray dashboard")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
