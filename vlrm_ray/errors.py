"""Exceptions of the project, and the entry point wrapper that shows user errors without a traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A problem that the user can fix. The message is one line: what is wrong, and what to do about it."""


class BadImage(Exception):
    """An image that cannot be used. The message is the reason recorded with the quarantined row."""


def run_as_program(main: Callable[[], None]) -> None:
    """Run the main function of a program.

    A `UserError` is printed as one line and ends the program with exit status 2. Ctrl-C ends it with status 130.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        sys.exit(130)
