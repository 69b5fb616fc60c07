"""Claims by a language model whose answers are held to the claim type's JSON schema."""

from collections.abc import Sequence

from vlrm_ray.claims import Generate
from vlrm_ray.types import Claim


class LlmExtractor:
    """The LLM extractor."""

    def __init__(self, generate: Generate) -> None:
        self.generate = generate

    def claims(self, response: str, question: str = "") -> tuple[Claim, ...]:
        """See `Extractor`."""
        return self.many([(response, question)])[0]

    def many(self, responses: Sequence[tuple[str, str]]) -> list[tuple[Claim, ...]]:
        """See `Extractor`."""
        raise NotImplementedError
