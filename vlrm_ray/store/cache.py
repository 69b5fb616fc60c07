"""Experts look at an image once: their answers by content hash, across rounds and restarts."""

import json
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from vlrm_ray.store.ledger import Ledger

T = TypeVar("T")


class AnswerCache(Generic[T]):
    """Answers of one expert, in the run's folder, under the expert's fingerprint.

    Attributes:
        asked, hits: images asked for so far, and those of them answered without the expert.
    """

    def __init__(self, ledger: Ledger, expert: str, kind: type[T]) -> None:
        self.ledger, self.expert = ledger, expert
        self.adapter: TypeAdapter[tuple[T, ...]] = TypeAdapter(tuple[kind, ...])  # type: ignore[valid-type]
        self.memory: dict[str, tuple[T, ...]] = {}
        self.asked = self.hits = 0

    def fill(self, hashes: Sequence[str], ask: Callable[[list[int]], list[tuple[T, ...]]]) -> list[tuple[T, ...]]:
        """The answer for each hash; `ask` is given the positions of those nobody has answered yet."""
        missing: dict[str, int] = {}
        for position, sha256 in enumerate(hashes):
            if sha256 not in missing and self._known(sha256) is None:
                missing[sha256] = position
        self.asked += len(hashes)
        self.hits += len(hashes) - len(missing)
        if missing:
            for sha256, answer in zip(missing, ask(list(missing.values())), strict=True):
                self.memory[sha256] = answer
                self.ledger.put(self._name(sha256), self.adapter.dump_json(answer))
        return [self.memory[sha256] for sha256 in hashes]

    def _known(self, sha256: str) -> tuple[T, ...] | None:
        if sha256 not in self.memory:
            data = self.ledger.get(self._name(sha256))
            if data is None:
                return None
            self.memory[sha256] = self.adapter.validate_python(json.loads(data))
        return self.memory[sha256]

    def _name(self, sha256: str) -> str:
        return f"evidence/{self.expert}/{sha256[:2]}/{sha256}.json"
