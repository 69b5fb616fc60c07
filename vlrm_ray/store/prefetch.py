"""Images that are opened ahead: threads read and decode the next ones while the caller works on those before."""

import io
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from vlrm_ray.errors import BadImage
from vlrm_ray.store.decoding import FORMATS, decode
from vlrm_ray.store.images import memory_of, read_bytes

READERS = 16
"""Images that are read at the same time."""
AHEAD_BYTES = 128 << 20
"""Limit of the decoded images that wait for the caller, in bytes."""


def opened_ahead(uris: Sequence[str], limit: int = 0) -> Iterator[Image.Image | BadImage]:
    """Read and decode images in their full size.

    Args:
        uris: the images, as `read_bytes` takes them.
        limit: the images that are decoded ahead take at most this number of bytes; a larger one is alone. 0 means
            `AHEAD_BYTES`.

    Yields:
        Each image in order, or the reason why it cannot be used.

    Raises:
        StorageError: see `read_bytes`.
    """
    memory = _Memory(limit or AHEAD_BYTES)
    readers = ThreadPoolExecutor(READERS)
    try:
        waiting = deque(readers.submit(_open, uri, turn, memory) for turn, uri in enumerate(uris))
        while waiting:
            image, count = waiting.popleft().result()
            memory.give_back(count)
            yield image
    finally:
        memory.close()
        readers.shutdown(cancel_futures=True)


class _Memory:
    """Memory that threads take in the order of their turns, so that the first image never waits for a later one."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self.turn, self.closed = limit, 0, 0, False
        self.changed = threading.Condition()

    def take(self, turn: int, count: int) -> None:
        """Wait for the turn, and until there is room; at once after `close`."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or (self.turn == turn and self._fits(count)))
            self.turn += 1
            self.used += count
            self.changed.notify_all()

    def give_back(self, count: int) -> None:
        with self.changed:
            self.used -= count
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _fits(self, count: int) -> bool:
        return not self.used or self.used + count <= self.limit


def _open(uri: str, turn: int, memory: _Memory) -> tuple[Image.Image | BadImage, int]:
    """An image, or why it cannot be used; and the memory that was taken for it."""
    count = 0
    try:
        data = read_bytes(uri)
        count = _announced(data)
    except BadImage as error:
        memory.take(turn, 0)
        return error, 0
    memory.take(turn, count)
    try:
        return decode(data), count
    except BadImage as error:
        return error, count


def _announced(data: bytes) -> int:
    """Memory of the decoded image, by the size in the file's header; 0 if it cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return memory_of(image)
    except Exception:  # as in `decode`, which gives the reason
        return 0
