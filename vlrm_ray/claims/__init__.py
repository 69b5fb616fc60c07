"""From a response's free text to atomic, typed claims."""

from typing import Protocol

from vlrm_ray.types import Claim


class Extractor(Protocol):
    """Finds the claims of a response to a question."""

    def claims(self, response: str, question: str = "") -> tuple[Claim, ...]:
        """Claims in the order in which they stand in the response."""
        ...
