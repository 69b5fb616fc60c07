"""Cache of a model's answers, keyed by content: an answer is computed once, across rounds, restarts and runs."""

import json
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from vlrm_ray.store.ledger import Ledger

T = TypeVar("T")


class AnswerCache(Generic[T]):
    """Answers of one expert or model, in memory and in a ledger's folder `evidence/<expert>/`.

    An answer is a tuple of `kind` values: the detections or the words of an image, or the responses to a prompt.

    Attributes:
        lookups: number of keys looked up so far.
        hits: number of lookups that were answered without calling the expert.
    """

    def __init__(self, ledger: Ledger, expert: str, kind: type[T]) -> None:
        """Open the cache.

        Args:
            ledger: where the answers are stored.
            expert: name of the folder; contains a fingerprint of all that changes the answers.
            kind: type of the values of an answer.
        """
        self.ledger, self.expert = ledger, expert
        self.adapter: TypeAdapter[tuple[T, ...]] = TypeAdapter(tuple[kind, ...])  # type: ignore[valid-type]
        self.memory: dict[str, tuple[T, ...]] = {}
        self.lookups = self.hits = 0

    def get_or_compute(
        self,
        keys: Sequence[str],
        compute: Callable[[list[int]], list[tuple[T, ...]]],
        store: Callable[[tuple[T, ...]], bool] = lambda answer: True,
    ) -> list[tuple[T, ...]]:
        """Answers for all keys, in order.

        Args:
            keys: keys to look up, such as the sha256 of image files.
            compute: called once, with the positions in `keys` of the answers that are missing (each key once);
                returns these answers in the same order. Not called if nothing is missing.
            store: whether to keep a computed answer; others are computed again the next time.
        """
        missing: dict[str, int] = {}
        for position, key in enumerate(keys):
            if key not in missing and self._get(key) is None:
                missing[key] = position
        self.lookups += len(keys)
        self.hits += len(keys) - len(missing)
        computed = dict(zip(missing, compute(list(missing.values())), strict=True)) if missing else {}
        for key, answer in computed.items():
            if store(answer):
                self.memory[key] = answer
                self.ledger.put(self._file(key), self.adapter.dump_json(answer))
        return [computed[key] if key in computed else self.memory[key] for key in keys]

    def _get(self, key: str) -> tuple[T, ...] | None:
        if key not in self.memory:
            data = self.ledger.get(self._file(key))
            if data is None:
                return None
            self.memory[key] = self.adapter.validate_python(json.loads(data))
        return self.memory[key]

    def _file(self, key: str) -> str:
        return f"evidence/{self.expert}/{key[:2]}/{key}.json"
