"""Prepares the image of a pair once, although the processor is called for each of its sequences."""

import copy
import threading
from typing import Any

from transformers import ProcessorMixin


def with_images_once(processor: ProcessorMixin) -> ProcessorMixin:
    """A copy of a processor that scales and cuts an image once, as long as it is called with the same one."""
    ours = copy.copy(processor)
    if getattr(ours, "image_processor", None) is not None:
        ours.image_processor = _LastImage(ours.image_processor)
    return ours


class _LastImage:
    """An image processor that remembers the last result of each thread.

    Preparing a photograph of a million pixels takes some 0.1 s, most of a sequence's preparation.
    """

    def __init__(self, image_processor: Any) -> None:
        self._image_processor, self._last = image_processor, threading.local()

    def __call__(self, images: Any, *args: Any, **options: Any) -> Any:
        """What the image processor makes of the images: a copy of the dictionary, with the same tensors."""
        shown = _flat(images)
        call = ([id(image) for image in shown], args, options)
        if getattr(self._last, "call", None) != call:
            self._last.result = self._image_processor(images, *args, **options)
            self._last.call, self._last.shown = call, shown  # kept, so that no other image gets the id of one of them
        return copy.copy(self._last.result)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._image_processor, name)


def _flat(images: Any) -> list[Any]:
    return [image for each in images for image in _flat(each)] if isinstance(images, list | tuple) else [images]
