"""Images on which an expert fails: each costs its own prompt, not the run.

If an expert raises an exception on a batch, it looks at the batch's images one by one. An image on which it fails alone
has a `Failure` instead of an answer. If it fails on an empty image too, though it has answered before, an error has broken its
process, as those of CUDA do: the process then ends itself. If it has never answered, the expert is at fault and the run ends.

If an expert's process ends, Ray starts its actor again and repeats the call. The actor then looks at one image at a time, and an
image that ends the process again and again is given up (`vlrm_ray.experts.attempts`).
"""

import logging
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlrm_ray.errors import BadImage, UserError, first_line, last_line
from vlrm_ray.experts.attempts import MOST_ATTEMPTS, Attempts
from vlrm_ray.store import garbage_collection
from vlrm_ray.store.images import image_batches, open_image
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prefetch import opened_ahead
from vlrm_ray.types import Prompt

EXPERT_FAILED = "expert_failed"
"""Beginning of the reason of a prompt on whose image an expert fails."""
_MODEL = "model"
_EMPTY = np.full((64, 64, 3), 230, np.uint8)
_LONGEST_REASON = 100
_LOG = logging.getLogger(__name__)

T = TypeVar("T")
Pixels = NDArray[np.uint8]
Answer = tuple[Any, ...]
Look = Callable[[Sequence[Pixels]], list[Answer]]
"""Returns an expert's answer on each of some RGB images (h, w, 3)."""


class Failure(tuple[Any, ...]):
    """Stands for the answer on an image on which an expert failed.

    Attributes:
        reason: why, as the reason of a quarantined row.
    """

    reason: str

    def __new__(cls, reason: str) -> "Failure":
        """A failure for a reason."""
        failure = super().__new__(cls)
        failure.reason = reason
        return failure


def is_answer(answer: Answer) -> bool:
    """Whether an expert has answered."""
    return not isinstance(answer, Failure)


class FailureGuard:
    """Lets one expert look at images, and finds those on which it fails."""

    def __init__(
        self, expert: str, ledger: Ledger, restarted: str = "", end_process: Callable[[], None] | None = None
    ) -> None:
        """Prepare an expert.

        Args:
            expert: "detector" or "reader".
            ledger: where attempts are noted.
            restarted: id of the actor, if Ray has started it again; "" if not.
            end_process: ends the process, if Ray starts another one in its place; None if not.
        """
        self._end_process, self._has_answered = end_process, False
        self._ended = Failure(f"{EXPERT_FAILED}: the process of the {expert} ended")
        self.expert, self._attempts = expert, Attempts(expert, ledger, restarted)

    @garbage_collection.loading()
    def load(self, load: Callable[[], T]) -> T:
        """What a function that loads the expert's model returns.

        Raises:
            UserError: the process has ended again and again while it loaded the model.
        """
        if not self._attempts.careful_calls:
            return load()
        if self._attempts.count(_MODEL) >= MOST_ATTEMPTS:
            raise UserError(
                f"the process of the {self.expert} on node {socket.gethostname()} ends while it loads its model; look at "
                "its log in the Ray dashboard and at the node's memory, then run the same command again to resume"
            )
        with self._attempts.noted(_MODEL):
            return load()

    def answers(self, prompts: Sequence[Prompt], batch: int, look: Look) -> list[Answer]:
        """The expert's answers on the prompts' images, in order; a `Failure` on those on which it fails.

        Args:
            prompts: the prompts.
            batch: largest number of images that the expert looks at together.
            look: asks the expert.

        Raises:
            StorageError: the storage cannot be reached, which says nothing of an image.
            UserError: the expert fails on any image.
        """
        if self._attempts.careful_calls:
            return self._one_by_one(prompts, look)
        usable = [not self._attempts.given_up(prompt.sha256) for prompt in prompts]
        found = iter(self._in_batches(list(compress(prompts, usable)), batch, look))
        return [next(found) if each else self._ended for each in usable]

    def _one_by_one(self, prompts: Sequence[Prompt], look: Look) -> list[Answer]:
        self._attempts.careful_calls -= 1
        if prompts and not self._has_answered:
            self._check(look)  # so that a failure on the first image says something of the image
        answers = [self._alone(prompt, look) for prompt in prompts]
        self._attempts.save()
        return answers

    def _in_batches(self, prompts: Sequence[Prompt], batch: int, look: Look) -> list[Answer]:
        answers: list[Answer] = [()] * len(prompts)
        positions = deque[int]()

        def usable() -> Iterator[Image.Image]:
            for position, image in enumerate(opened_ahead([prompt.image for prompt in prompts])):
                if isinstance(image, BadImage):
                    answers[position] = Failure(str(image))
                else:
                    positions.append(position)
                    yield image

        for images in image_batches(usable(), batch):
            for answer in self._found([np.asarray(image) for image in images], look):
                answers[positions.popleft()] = answer
        return answers

    def _alone(self, prompt: Prompt, look: Look) -> Answer:
        """The answer on one image, which is noted until it is there."""
        if self._attempts.given_up(prompt.sha256):
            return self._ended
        with self._attempts.noted(prompt.sha256):
            try:
                return self._found([np.asarray(open_image(prompt.image))], look)[0]
            except BadImage as error:
                return Failure(str(error))

    def _found(self, images: Sequence[Pixels], look: Look) -> list[Answer]:
        """The answers on some images, together or one by one."""
        try:
            answers = look(images)
            self._has_answered = True
            return answers
        except UserError:
            raise
        except Exception as error:  # the experts' libraries raise many types
            if len(images) > 1:
                _LOG.warning("the %s failed on a batch of %d images: %s", self.expert, len(images), last_line(error))
                return [answer for image in images for answer in self._found([image], look)]
            self._check(look, error)
            _LOG.warning("the %s failed on an image of shape %s", self.expert, images[0].shape, exc_info=error)
            return [Failure(f"{EXPERT_FAILED}: {self.expert}: {first_line(error, _LONGEST_REASON)}")]

    def _check(self, look: Look, cause: Exception | None = None) -> None:
        """Check that the expert still works, by an empty image.

        Args:
            look: asks the expert.
            cause: what it has raised on another image.

        Raises:
            UserError: it does not, and its process was not ended either.
        """
        try:
            look([_EMPTY])
            self._has_answered = True
        except Exception as error:
            place, reason = f"the {self.expert} on node {socket.gethostname()}", last_line(cause or error)
            if self._has_answered and self._end_process:
                _LOG.error("%s fails on all images since it has failed on one: %s; its process ends", place, reason)
                self._end_process()
            raise UserError(
                f"{place} fails on any image: {reason}; look at its log in the Ray dashboard, then run the same command again "
                "to resume"
            ) from error
