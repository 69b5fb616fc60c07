"""Whether a text fits a model: a benchmark's longest answers must neither be cut nor end the run."""

from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

_LONGEST_TOKEN = 64
"""Bytes of a token, at most, on average over a text: beyond it nobody needs to count."""


class ContextBudget:
    """How many tokens of text a model takes.

    A model without a `tokenizer.json` is not asked here; its engine refuses what is too long.
    """

    def __init__(self, model: Path, tokens: int) -> None:
        self.file, self.tokens = model / "tokenizer.json", tokens

    def fits(self, text: str) -> bool:
        """Whether the text leaves room for the answer; the picture's tokens are the engine's affair."""
        size = len(text.encode("utf-8", "replace"))
        if size <= self.tokens:  # no token is shorter than a byte
            return True
        if size > self.tokens * _LONGEST_TOKEN:
            return False
        return self._tokenizer is None or len(self._tokenizer.encode(text).ids) <= self.tokens

    @cached_property
    def _tokenizer(self) -> Tokenizer | None:
        return Tokenizer.from_file(str(self.file)) if self.file.is_file() else None
