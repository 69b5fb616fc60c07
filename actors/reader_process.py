"""An OCR reader in a process of its own, for commands that do not use Ray: it loads and reads while the detector does."""

import multiprocessing
import signal
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import cast

from vlrm_ray import garbage_collection
from vlrm_ray.config import Reader
from vlrm_ray.errors import UserError
from vlrm_ray.experts.detection import Pixels
from vlrm_ray.experts.fingerprints import reader_fingerprint
from vlrm_ray.types import Word

Request = tuple[Pixels, "Future[tuple[Word, ...]]"]
"""An image, and what becomes its words."""


class ReaderProcess:
    """An OCR reader in a process of its own, which ends with this one, or when the object is deleted.

    Attributes:
        fingerprint: fingerprint of the reader.
    """

    def __init__(self, settings: Reader) -> None:
        """Start the process, and return before it has loaded the models."""
        self.fingerprint = reader_fingerprint(settings)
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        context.Process(target=_serve, args=(there, settings), daemon=True).start()
        there.close()
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        Thread(target=_exchange, args=(here, self._requests), daemon=True).start()
        weakref.finalize(self, self._requests.put, None)

    def read(self, images: Sequence[Pixels]) -> Iterator[tuple[Word, ...]]:
        """Words in each RGB image (h, w, 3), uint8. Reading begins at once; only taking an answer waits.

        Raises:
            UserError: when an answer is taken: the models cannot be loaded, or the process has ended.
        """
        requests: list[Request] = [(image, Future()) for image in images]
        for request in requests:
            self._requests.put(request)
        return (answer.result() for _, answer in requests)


def _exchange(connection: Connection, requests: "SimpleQueue[Request | None]") -> None:
    """Send one image after the other to the process, and pass on what it answers."""
    with connection:
        while request := requests.get():
            image, words = request
            answer = _ask(connection, image)
            if isinstance(answer, Exception):
                words.set_exception(answer)
            else:
                words.set_result(answer)


def _ask(connection: Connection, image: Pixels) -> tuple[Word, ...] | Exception:
    try:
        connection.send(image)
        return cast(tuple[Word, ...] | Exception, connection.recv())
    except (EOFError, OSError):
        return UserError(
            "the process of the OCR reader has ended: it crashed or the memory was not enough; run it again"
        )


def _serve(connection: Connection, settings: Reader) -> None:
    """Load the reader, then answer each image with its words or the reason why there are none, until the other side closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that started this one ends it
    read = _reader(settings)
    with connection, suppress(EOFError, BrokenPipeError):
        while True:
            image = connection.recv()
            try:
                answer: object = read(image)
            except UserError as error:
                answer = error
            except Exception as error:  # not all exceptions can be sent; the traceback of this one is its text
                answer = RuntimeError("".join(traceback.format_exception(error)))
            connection.send(answer)


@garbage_collection.loading()
def _reader(settings: Reader) -> Callable[[Pixels], tuple[Word, ...]]:
    """The loaded reader; if it cannot be loaded, a function that raises the error."""
    from actors.experts import load_reader

    try:
        return load_reader(settings).read
    except UserError as error:
        problem = error

    def fail(image: Pixels) -> tuple[Word, ...]:
        raise problem

    return fail
