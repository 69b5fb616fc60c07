"""Errors that a user can mend: shown as one line, exit status 2, no traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """What is wrong and how to mend it, in one line."""


class BadImage(Exception):
    """An image that cannot be used; the message is the reason its row is quarantined with."""


def run_as_program(main: Callable[[], None]) -> None:
    """Run an entry point; a `UserError` ends it with one line and exit status 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
