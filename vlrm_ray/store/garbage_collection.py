"""Less of Python's search for reference cycles, where many objects are made that stay, or that have no cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Context manager or decorator: no search for reference cycles.

    A part of a round is many small objects without cycles. Searching them again and again takes a fifth of the time of the
    stages that decode all of it. They are freed without a search, as soon as the part is done.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def loading() -> Iterator[None]:
    """Context manager or decorator for imports and for loading models: no search meanwhile, and later ones leave out what is there.

    The search takes a fifth of the time of large imports, such as those of torch and vLLM, and all that they make stays.
    """
    with paused():
        yield
    gc.freeze()
