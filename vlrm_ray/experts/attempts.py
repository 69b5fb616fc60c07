"""Images on which the process of a stage's actor ends: each is tried a few times alone, then given up.

Ray starts such an actor again and repeats the call, again and again. The actor then takes one image at a time, and notes in the
ledger which one:

    attempts/<stage>-<id of the actor>.json       number of times that the process ended, by the image's key
    attempts/<stage>-refused/<key>.json           an image that is given up, by all actors of the stage and in later sessions

An actor that has not been started again writes nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from vlrm_ray.store.ledger import Ledger

MOST_ATTEMPTS = 2
"""An image that ends the process so many times while it is alone is given up."""
CAREFUL_CALLS = 4
"""Calls in which an actor that was started again takes one image at a time: those that were repeated are among them."""


def restarted_actor() -> str:
    """Id of the actor that this process is, if Ray has started it again after its process ended; "" if not."""
    import ray  # commands without Ray use experts too

    if not ray.is_initialized():
        return ""
    context = ray.get_runtime_context()
    identity = context.get_actor_id()
    return identity if identity and context.was_current_actor_reconstructed else ""


class Attempts:
    """The attempts of one actor, and the images that all actors of its stage have given up.

    Attributes:
        careful_calls: calls that are left in which the actor takes one image at a time.
    """

    def __init__(self, stage: str, ledger: Ledger, restarted: str) -> None:
        """Read what is known.

        Args:
            stage: "ingest", "detector" or "reader".
            ledger: where attempts are noted.
            restarted: id of the actor, if Ray has started it again; "" if not.
        """
        self.ledger = ledger
        self._file, self._folder = f"attempts/{stage}-{restarted}.json", f"attempts/{stage}-refused"
        self.careful_calls = CAREFUL_CALLS if restarted else 0
        self._counts: dict[str, int] = dict(ledger.get_json(self._file) or {}) if restarted else {}
        self._refused = {name.removesuffix(".json") for name in ledger.names(self._folder, "", ".json")}

    def count(self, what: str) -> int:
        """How often the process has ended while it did something."""
        return self._counts.get(what, 0)

    def given_up(self, key: str) -> bool:
        """Whether an image is given up, which all actors learn when they start."""
        if key not in self._refused and self.count(key) >= MOST_ATTEMPTS:
            self._refused.add(key)
            self.ledger.put_json(f"{self._folder}/{key}.json", {"attempts": self.count(key)})
        return key in self._refused

    @contextmanager
    def noted(self, what: str) -> Iterator[None]:
        """Context manager: what the actor does now is one more attempt, if the process ends meanwhile."""
        self._counts[what] = self.count(what) + 1
        self.save()
        try:
            yield
        finally:
            del self._counts[what]

    def save(self) -> None:
        """Write the attempts."""
        self.ledger.put_json(self._file, self._counts)
