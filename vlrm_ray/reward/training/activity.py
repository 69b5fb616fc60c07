"""What this train worker is doing, so that the message of a failure can say it.

The training loop names each phase with `doing`, for example "loading the model" or "step 12 of 34".
"""

_current = ["starting"]


def doing(what: str) -> None:
    """Set what this process does from now on."""
    _current[0] = what


def current() -> str:
    """What this process does."""
    return _current[0]
