"""An OCR reader in a process of its own, for commands that do not use Ray: it loads and reads while the detector does."""

import subprocess
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import cast

from vlrm_ray.config import Reader
from vlrm_ray.errors import UserError
from vlrm_ray.experts.detection import Pixels
from vlrm_ray.experts.fingerprints import reader_fingerprint
from vlrm_ray.store import garbage_collection
from vlrm_ray.types import Word

Request = tuple[Pixels, "Future[tuple[Word, ...]]"]
"""An image, and what becomes its words."""
_PROGRAM = "import sys; sys.path[:] = {path!r}; from actors.reader_process import serve; serve({descriptor})"


class ReaderProcess:
    """An OCR reader in a process of its own, which ends with this one, or when the object is deleted.

    Attributes:
        fingerprint: fingerprint of the reader.
        process: the process. It does not import this program's main module, as those of `multiprocessing` do.
    """

    def __init__(self, settings: Reader) -> None:
        """Start the process, and return before it has loaded the models."""
        self.fingerprint = reader_fingerprint(settings)
        here, there = Pipe()
        program = _PROGRAM.format(path=sys.path, descriptor=there.fileno())
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
            start_new_session=True,  # Ctrl-C is for this process, which ends the other one
        )
        there.close()
        here.send(settings)
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        Thread(target=_exchange, args=(here, self._requests, self.process), daemon=True).start()
        weakref.finalize(self, _end, self.process, self._requests)

    def read(self, images: Sequence[Pixels]) -> Iterator[tuple[Word, ...]]:
        """Words in each RGB image (h, w, 3), uint8. Reading begins at once; only taking an answer waits.

        Raises:
            UserError: when an answer is taken: the models cannot be loaded, or the process has ended.
        """
        requests: list[Request] = [(image, Future()) for image in images]
        for request in requests:
            self._requests.put(request)
        return self._answers(requests)

    def _answers(self, requests: Sequence[Request]) -> Iterator[tuple[Word, ...]]:
        """The words of each request; the process is not ended before all are taken, as the iterator holds this object."""
        for _, words in requests:
            yield words.result()


def _end(process: "subprocess.Popen[bytes]", requests: "SimpleQueue[Request | None]") -> None:
    process.kill()
    process.wait()
    requests.put(None)


def _exchange(
    connection: Connection, requests: "SimpleQueue[Request | None]", process: "subprocess.Popen[bytes]"
) -> None:
    """Send one image after the other to the process, and pass on what it answers."""
    with connection:
        while request := requests.get():
            image, words = request
            answer = _ask(connection, image, process)
            if isinstance(answer, Exception):
                words.set_exception(answer)
            else:
                words.set_result(answer)


def _ask(connection: Connection, image: Pixels, process: "subprocess.Popen[bytes]") -> tuple[Word, ...] | Exception:
    try:
        connection.send(image)
        return cast(tuple[Word, ...] | Exception, connection.recv())
    except (EOFError, OSError):
        status = process.wait()
        why = (
            f"was ended by signal {-status}, perhaps for want of memory"
            if status < 0
            else f"ended with status {status}"
        )
        return UserError(f"the process of the OCR reader {why}; run the command again")
    except Exception as error:  # such as an image that cannot be sent; whoever waits for the words gets it
        return error


def serve(descriptor: int) -> None:
    """Load the reader, then answer each image with its words or the reason why there are none, until the other side closes.

    Args:
        descriptor: file descriptor of this side of the connection, on which the settings arrive first.
    """
    with Connection(descriptor) as connection, suppress(EOFError, OSError):
        read = _reader(connection.recv())
        while True:
            image = connection.recv()
            connection.send(_answer(read, image))


@garbage_collection.loading()
def _reader(settings: Reader) -> Callable[[Pixels], tuple[Word, ...]]:
    """The loaded reader; if it cannot be loaded, a function that raises the error."""
    from actors.experts import load_reader

    try:
        return load_reader(settings).read
    except Exception as error:  # it becomes the answer to every image
        return partial(_raise, error)


def _raise(error: Exception, image: Pixels) -> tuple[Word, ...]:
    raise error


def _answer(read: Callable[[Pixels], tuple[Word, ...]], image: Pixels) -> tuple[Word, ...] | Exception:
    try:
        return read(image)
    except UserError as error:
        return error
    except Exception as error:  # not all exceptions can be sent; the traceback of this one is its text
        return RuntimeError("".join(traceback.format_exception(error)))
