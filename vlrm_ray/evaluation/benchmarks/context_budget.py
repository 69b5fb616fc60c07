"""Check that a prompt fits into the judge's context window."""

from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

_MAX_BYTES_PER_TOKEN = 64
"""Upper bound of the average bytes per token of a text; a text above it is rejected without tokenizing."""


class ContextBudget:
    """Number of prompt tokens that a model accepts.

    A model without `tokenizer.json` is not checked here: every prompt of a plausible size passes, and the engine
    rejects those that are too long.
    """

    def __init__(self, model: Path, tokens: int) -> None:
        """Read the tokenizer of the model folder `model` when it is first needed; allow `tokens` tokens."""
        self.file, self.tokens = model / "tokenizer.json", tokens

    def fits(self, text: str) -> bool:
        """Whether a prompt's text fits into the budget; image tokens are not counted."""
        size = len(text.encode("utf-8", "replace"))
        if size <= self.tokens:  # a token has at least one byte
            return True
        if size > self.tokens * _MAX_BYTES_PER_TOKEN:
            return False
        return self._tokenizer is None or len(self._tokenizer.encode(text).ids) <= self.tokens

    @cached_property
    def _tokenizer(self) -> Tokenizer | None:
        return Tokenizer.from_file(str(self.file)) if self.file.is_file() else None
