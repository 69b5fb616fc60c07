"""Packing: the sequences of a micro-batch one after the other, without padding, and what pairs have in common once.

The sequences of a pair begin alike: with the image, and the two critiques also with the question. `merge` turns them into
a tree whose branches begin where the sequences differ. A token attends to the tokens before it on its own path through
the tree, so every sequence sees exactly what it would see alone, and the result is the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

CRITIQUE, JUDGEMENT, RESPONSE = range(3)
"""Kinds of learned tokens."""


@dataclass(frozen=True)
class TokenSequence:
    """A tokenized training example of L tokens.

    Attributes:
        ids: token ids, int64 of shape (L,).
        positions: positions for the rotary embeddings, int64 of shape (axes, L); one axis, or three of Qwen's models.
        types: 1 for tokens of an image, 0 for text, int64 of shape (L,).
        weights: loss weight of predicting each token, float32 of shape (L,); 0 for the prompt, whose length is above 0.
        kinds: kind of each token, int64 of shape (L,); of no meaning where the weight is 0.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor
    weights: torch.Tensor
    kinds: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prompt_length(self) -> int:
        """Number of tokens before the first learned one."""
        learned = torch.nonzero(self.weights)
        return int(learned[0]) if len(learned) else len(self)


@dataclass(frozen=True)
class Targets:
    """N learned tokens: where each is predicted from, and how much it counts.

    Attributes:
        sources: index of the token whose hidden state predicts the target, int64 of shape (N,).
        ids: the target's token id, int64 of shape (N,).
        weights: loss weights, float32 of shape (N,).
        kinds: kinds, int64 of shape (N,).
    """

    sources: torch.Tensor
    ids: torch.Tensor
    weights: torch.Tensor
    kinds: torch.Tensor


@dataclass(frozen=True)
class Segment:
    """A branch of a tree: tokens that follow each other, and what they continue.

    Attributes:
        start: index of its first token in the tree.
        end: index after its last token.
        path: the (start, end) of the segments it continues, from the root on.
    """

    start: int
    end: int
    path: tuple[tuple[int, int], ...] = ()

    @property
    def attended(self) -> int:
        """Number of pairs of a token of the segment and one that it attends to."""
        length = self.end - self.start
        return length * (length + 1) // 2 + length * sum(end - start for start, end in self.path)


@dataclass(frozen=True)
class Tree:
    """The sequences of a pair, with common beginnings merged; T tokens.

    Attributes:
        ids: token ids, int64 of shape (T,).
        positions: int64 of shape (axes, T).
        types: int64 of shape (T,).
        segments: the branches, in the order of their tokens.
        targets: the learned tokens.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor
    segments: tuple[Segment, ...]
    targets: Targets

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def attended(self) -> int:
        """Number of pairs of a token and one that it attends to."""
        return sum(segment.attended for segment in self.segments)


@dataclass(frozen=True)
class Packing:
    """Who attends to whom in a row of packed trees, in the form that kernels for sequences of variable length take.

    Queries and keys are cut into the same number of segments. The last query of a segment attends to all of its keys,
    the one before to all but the last key, and so on.

    Attributes:
        query_starts: start of each segment's queries and the end of the last, int32 of shape (segments + 1,).
        key_starts: the same for the keys.
        keys: index of the token of each key, int64; None if the keys are the tokens themselves, in their order.
        longest_query: largest number of queries in a segment.
        longest_key: largest number of keys in a segment.
        trees: the trees, in their order.
    """

    query_starts: torch.Tensor
    key_starts: torch.Tensor
    keys: torch.Tensor | None
    longest_query: int
    longest_key: int
    trees: tuple[Tree, ...]

    @cached_property
    def masks(self) -> tuple[torch.Tensor, ...]:
        """The mask of each tree; see `mask_of`. Only attention on CPU asks for them."""
        return tuple(mask_of(tree) for tree in self.trees)


def merge(sequences: Sequence[TokenSequence], *, shared_prefix: bool) -> list[Tree]:
    """Trees of a pair's sequences: one that shares their common prompts, or one per sequence."""
    if not shared_prefix:
        return [_tree([sequence]) for sequence in sequences]
    return [_tree(sequences)]


def _tree(sequences: Sequence[TokenSequence]) -> Tree:
    pieces: list[tuple[TokenSequence, int, int]] = []
    segments: list[Segment] = []
    targets: list[tuple[torch.Tensor, ...]] = []

    def grow(group: Sequence[TokenSequence], start: int, path: tuple[tuple[int, int], ...]) -> None:
        """Add the tokens from `start` on that the whole group has, then each of its branches."""
        first = group[0]
        end = len(first) if len(group) == 1 else start + _common(group, start)
        if end > start:
            offset = segments[-1].end if segments else 0
            segment = Segment(offset, offset + end - start, path)
            segments.append(segment)
            pieces.append((first, start, end))
            path = (*path, (segment.start, segment.end))
        if len(group) == 1:
            targets.append(_targets(first, start, path))
            return
        for branch in _branches(group, end):
            grow(branch, end, path)

    grow(sequences, 0, ())
    return Tree(
        torch.cat([piece.ids[a:b] for piece, a, b in pieces]),
        torch.cat([piece.positions[:, a:b] for piece, a, b in pieces], dim=1),
        torch.cat([piece.types[a:b] for piece, a, b in pieces]),
        tuple(segments),
        Targets(*(torch.cat(parts) for parts in zip(*targets, strict=True))),
    )


def _common(group: Sequence[TokenSequence], start: int) -> int:
    """Number of tokens from `start` on that all have in common, not counting learned ones."""
    end = min(sequence.prompt_length for sequence in group)
    first = group[0].ids[start:end]
    same = torch.ones(len(first), dtype=torch.bool)
    for other in group[1:]:
        same &= other.ids[start:end] == first
    return int(same.long().cumprod(0).sum())


def _branches(group: Sequence[TokenSequence], start: int) -> Iterator[list[TokenSequence]]:
    """The group's sequences by their next token; those whose next token is learned stay alone."""
    branches: dict[object, list[TokenSequence]] = {}
    for index, sequence in enumerate(group):
        alone = sequence.prompt_length <= start
        branches.setdefault(("alone", index) if alone else int(sequence.ids[start]), []).append(sequence)
    yield from branches.values()


def _targets(sequence: TokenSequence, start: int, path: tuple[tuple[int, int], ...]) -> tuple[torch.Tensor, ...]:
    """The sequence's learned tokens; its last segment begins at its token `start`, and at `path[-1][0]` of the tree."""
    learned = torch.nonzero(sequence.weights).flatten()
    in_tree = torch.cat([torch.arange(a, b) for a, b in path])
    return in_tree[learned - 1], sequence.ids[learned], sequence.weights[learned], sequence.kinds[learned]


def packing_of(trees: Sequence[Tree]) -> Packing:
    """How the tokens of trees attend to each other that lie one after the other in one row."""
    queries, keys, index = [0], [0], []
    offset = 0
    for tree in trees:
        for segment in tree.segments:
            ranges = [*segment.path, (segment.start, segment.end)]
            index += [torch.arange(offset + a, offset + b) for a, b in ranges]
            queries.append(queries[-1] + segment.end - segment.start)
            keys.append(keys[-1] + sum(b - a for a, b in ranges))
        offset += len(tree)
    query_starts, key_starts = torch.tensor(queries, dtype=torch.int32), torch.tensor(keys, dtype=torch.int32)
    return Packing(
        query_starts,
        key_starts,
        None if keys == queries else torch.cat(index),
        int(query_starts.diff().max()),
        int(key_starts.diff().max()),
        tuple(trees),
    )


def mask_of(tree: Tree) -> torch.Tensor:
    """Mask to add to the scores, float32 of shape (T, T): 0 where token i attends to token j, else minus infinity."""
    mask = torch.full((len(tree), len(tree)), -torch.inf)
    for segment in tree.segments:
        rows = slice(segment.start, segment.end)
        for start, end in segment.path:
            mask[rows, start:end] = 0
        mask[rows, rows] = mask[rows, rows].triu(1)
    return mask


def fill(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Distribute items over as few bins as their order allows.

    Args:
        sizes: size of each item, at most `budget`.
        budget: largest sum of sizes in a bin.

    Returns:
        The indices of each bin's items, in order.
    """
    bins: list[list[int]] = []
    room = 0
    for index, size in enumerate(sizes):
        if not bins or size > room:
            bins.append([])
            room = budget
        bins[-1].append(index)
        room -= size
    return bins
