"""Requests that an engine worked on when its process ended, and those that are refused because it ended on them.

    runs/<name>/suspects/<actor>.json    the requests that an actor examines at present; see `actors.examination`
    runs/<name>/refused/<key>.json       a request that is refused from now on, by all actors and in later sessions

Nothing is written unless an engine's process ends. If the storage fails, an actor goes on at once with what it knows itself:
each note would wait ten minutes for it, while calls wait for the engine.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from vlrm_ray.engines import EngineDied, EngineSettings, Request, Sampling
from vlrm_ray.errors import StorageError
from vlrm_ray.ids import digest
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.patience import impatient
from vlrm_ray.types import ImageCondition

_SUSPECTS, _REFUSED = "suspects", "refused"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Suspect:
    """A request that an engine worked on.

    Attributes:
        request: the request.
        sampling: how it was answered; None if it was scored.
    """

    request: Request
    sampling: Sampling | None = None

    def as_json(self) -> dict[str, Any]:
        """The suspect as JSON."""
        return {"request": asdict(self.request), "sampling": self.sampling and asdict(self.sampling)}

    @classmethod
    def of_json(cls, content: dict[str, Any]) -> "Suspect":
        """The suspect from its JSON."""
        request, sampling = content["request"], content["sampling"]
        condition = ImageCondition(request["condition"])
        return cls(Request(**request | {"condition": condition}), sampling and Sampling(**sampling))


class InProgress:
    """What an engine works on at present.

    Attributes:
        suspects: what it worked on when its process ended; empty before.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.suspects: list[Suspect] = []
        self._now: dict[object, Sequence[Suspect]] = {}

    @contextmanager
    def work_on(self, suspects: Sequence[Suspect]) -> Iterator[None]:
        """Context manager: the engine works on some requests."""
        key = object()
        self._now[key] = suspects
        try:
            yield
        except EngineDied:
            self.suspects = self.suspects or [suspect for group in self._now.values() for suspect in group]
            raise
        finally:
            del self._now[key]


class Refusals:
    """The requests that an actor refuses because its engine's process ended on them.

    They are recognized by their content, the settings of the engine and the version of its library: after a change of
    settings or an upgrade they are tried again. The weights do not matter, since a version does not differ in shape from
    the model that it was trained from; nor does the seed.

    Attributes:
        left: the requests that an earlier process of the actor, or of its name, did not finish to examine.
    """

    def __init__(self, actor: str, settings: EngineSettings, ledger: Ledger | None) -> None:
        """Start without any; `read` reads those that the run knows.

        Args:
            actor: name of the actor.
            settings: settings of its engine.
            ledger: ledger of the run; None to remember nothing beyond this process.
        """
        self.actor, self.settings, self.ledger = actor, settings, ledger
        self.left: list[Suspect] = []
        self._keys: set[str] = set()
        self._tries = 0

    def read(self) -> None:
        """Read what the run knows."""
        self.learn()
        if self.ledger is None:
            return
        try:
            with impatient():
                found = self.ledger.get_json(self._file)
            if found:
                self.left, self._tries = list(map(Suspect.of_json, found["suspects"])), found["tries"]
        except (StorageError, ValueError, TypeError, KeyError) as error:  # of the storage, or of another release's file
            _log.warning("%s does not know what it has left to examine: %s", self.actor, error)

    def learn(self) -> None:
        """Read which requests other actors have refused meanwhile."""
        if self.ledger is None:
            return
        try:
            with impatient():
                names = self.ledger.names(_REFUSED, "", ".json")
            self._keys |= {name.removesuffix(".json") for name in names}
        except StorageError as error:
            _log.warning("%s does not know which requests end its engine: %s", self.actor, error)

    def __contains__(self, request: Request) -> bool:
        return bool(self._keys) and self._key(request) in self._keys

    def add(self, request: Request) -> None:
        """Refuse a request from now on."""
        about, text = redacted(request.image or "no image"), request.text[:200]
        _log.error("%s refuses a request on which its engine's process ended: %s, %r", self.actor, about, text)
        key = self._key(request)
        self._keys.add(key)
        self._put(f"{_REFUSED}/{key}.json", {"request": asdict(request), "actor": self.actor, "engine": self._engine})

    def begin(self, group: Sequence[Suspect]) -> None:
        """Note that some requests are examined now, in case the actor ends with its engine."""
        content = {"tries": self.tries(group) + 1, "suspects": [suspect.as_json() for suspect in group]}
        self._put(self._file, content)

    def tries(self, group: Sequence[Suspect]) -> int:
        """How often earlier processes of the actor have begun to examine this group, if it was the last that they began."""
        return self._tries if list(group) == self.left else 0

    def end(self) -> None:
        """Note that the examination has ended."""
        self.left, self._tries = [], 0
        if self.ledger is not None:
            try:
                with impatient():
                    self.ledger.delete(self._file)
            except StorageError as error:
                _log.warning("%s: %s", self.actor, error)

    @property
    def _file(self) -> str:
        return f"{_SUSPECTS}/{self.actor}.json"

    @cached_property
    def _engine(self) -> dict[str, Any]:
        """The engine's settings and the version of its library, which the engine has imported."""
        return asdict(self.settings) | {"library": getattr(sys.modules.get(self.settings.kind), "__version__", "")}

    def _key(self, request: Request) -> str:
        return digest(self._engine, request.text, request.image, request.condition, request.prefix)

    def _put(self, name: str, content: dict[str, Any]) -> None:
        if self.ledger is not None:
            try:
                with impatient():
                    self.ledger.put_json(name, content)
            except (StorageError, ValueError) as error:  # ValueError: the text is not valid Unicode
                _log.warning("%s: %s", self.actor, error)
