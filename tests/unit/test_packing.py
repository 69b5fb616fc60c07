"""Token trees: what sequences have in common is there once, what is learned is never shared, and budgets hold."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrm_ray.reward.training.packing import RESPONSE, TokenSequence, Tree, fill, mask_of, merge, packing_of

FIRST_ANSWER = 100
"""Learned tokens are numbered from here on, so that they differ from those of prompts."""


def sequence(prompt: Sequence[int], answer: Sequence[int]) -> TokenSequence:
    """A sequence whose positions are twice those in the text, and whose weights are those of its answer's tokens."""
    ids = torch.tensor([*prompt, *answer])
    weights = torch.tensor([0.0] * len(prompt) + [float(token) for token in answer])
    return TokenSequence(
        ids, 2 * torch.arange(len(ids)).expand(3, -1), ids % 2, weights, torch.full_like(ids, RESPONSE)
    )


def paths(tree: Tree) -> list[list[int]]:
    """For each branch without further branches: the indices of the tokens from the root to its end."""
    inner = {start for segment in tree.segments for start, _ in segment.path}
    leaves = [segment for segment in tree.segments if segment.start not in inner]
    return [[i for a, b in (*leaf.path, (leaf.start, leaf.end)) for i in range(a, b)] for leaf in leaves]


def visible(tree: Tree) -> list[set[int]]:
    """For each token those that it attends to."""
    return [{int(j) for j in torch.nonzero(row == 0)} for row in mask_of(tree)]


PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=6)
ANSWERS = st.lists(st.integers(FIRST_ANSWER, FIRST_ANSWER + 1), min_size=1, max_size=4)
SEQUENCES = st.lists(st.builds(sequence, PROMPTS, ANSWERS), min_size=1, max_size=4)


def text(sequence: TokenSequence) -> list[int]:
    return sequence.ids.tolist()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(SEQUENCES)
def test_a_tree_holds_its_sequences_and_shares_all_that_their_prompts_have_in_common(
    sequences: list[TokenSequence],
) -> None:
    (tree,) = merge(sequences, shared_prefix=True)
    found = paths(tree)
    assert sorted(tree.ids[path].tolist() for path in found) == sorted(map(text, sequences))
    for path in found:
        assert tree.positions[0, path].tolist() == [2 * i for i in range(len(path))]
        assert tree.types[path].tolist() == (tree.ids[path] % 2).tolist()
    prompts = {tuple(s.ids[:end].tolist()) for s in sequences for end in range(1, s.prompt_length + 1)}
    learned = sum(len(s) - s.prompt_length for s in sequences)
    assert len(tree) == len(prompts) + learned  # each beginning once, each learned token for itself


@settings(max_examples=200, deadline=None, derandomize=True)
@given(SEQUENCES, st.booleans())
def test_each_learned_token_is_predicted_from_the_token_before_it(sequences: list[TokenSequence], shared: bool) -> None:
    trees = merge(sequences, shared_prefix=shared)
    found = []
    for tree in trees:
        seen = visible(tree)
        for source, token, weight in zip(tree.targets.sources, tree.targets.ids, tree.targets.weights, strict=True):
            assert int(token) == int(weight)
            found.append((tree.ids[sorted(seen[int(source)])].tolist(), int(token)))
    expected = [(text(s)[:i], text(s)[i]) for s in sequences for i in range(s.prompt_length, len(s))]
    assert sorted(found) == sorted(expected)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(SEQUENCES, min_size=1, max_size=3))
def test_a_token_attends_to_its_own_path_up_to_itself_and_kernels_are_told_the_same(
    groups: list[list[TokenSequence]],
) -> None:
    trees = [tree for group in groups for tree in merge(group, shared_prefix=True)]
    packing, offset = packing_of(trees), 0
    expected: list[set[int]] = []
    for tree in trees:
        seen = visible(tree)
        for path in paths(tree):
            for index, token in enumerate(path):
                assert seen[token] == set(path[: index + 1])
        assert tree.attended == sum(map(len, seen))
        expected += [{offset + token for token in tokens} for tokens in seen]
        offset += len(tree)
    assert by_kernel(packing.query_starts, packing.key_starts, packing.keys) == expected
    assert packing.longest_query == packing.query_starts.diff().max()
    assert packing.longest_key == packing.key_starts.diff().max()
    assert [len(mask) for mask in packing.masks] == [len(tree) for tree in trees]


def by_kernel(queries: torch.Tensor, keys: torch.Tensor, index: torch.Tensor | None) -> list[set[int]]:
    """The tokens that each token attends to, as kernels for sequences of variable length understand a packing."""
    order = torch.arange(int(keys[-1])) if index is None else index
    found = []
    for (start, end), (first, last) in zip(
        torch.stack([queries[:-1], queries[1:]], 1).tolist(),
        torch.stack([keys[:-1], keys[1:]], 1).tolist(),
        strict=True,
    ):
        found += [set(order[first : last - (end - 1 - query)].tolist()) for query in range(start, end)]
    return found


def test_answers_stay_apart_even_if_they_are_identical() -> None:
    """A learned token that two sequences share would count once."""
    (tree,) = merge([sequence([1, 2], [100, 101]), sequence([1, 2], [100, 101])], shared_prefix=True)
    assert tree.ids.tolist() == [1, 2, 100, 101, 100, 101]
    assert tree.targets.sources.tolist() == [1, 2, 1, 4]
    longer, shorter = sequence([1, 100, 2], [101]), sequence([1], [100, 2])
    (tree,) = merge([longer, shorter], shared_prefix=True)
    assert tree.ids.tolist() == [1, 100, 2, 101, 100, 2]


def test_three_sequences_of_a_pair_branch_twice() -> None:
    """The image (7, 7) is common to all, the beginning of the question (1) to the two critiques."""
    trees = [sequence([7, 7, 1, 2], [100]), sequence([7, 7, 1, 3], [101]), sequence([7, 7, 4], [102, 103])]
    (tree,) = merge(trees, shared_prefix=True)
    assert tree.ids.tolist() == [7, 7, 1, 2, 100, 3, 101, 4, 102, 103]
    assert [(segment.start, segment.end, segment.path) for segment in tree.segments] == [
        (0, 2, ()),
        (2, 3, ((0, 2),)),
        (3, 5, ((0, 2), (2, 3))),
        (5, 7, ((0, 2), (2, 3))),
        (7, 10, ((0, 2),)),
    ]
    assert visible(tree)[9] == {0, 1, 7, 8, 9}


def test_without_shared_prefixes_each_sequence_is_a_tree() -> None:
    sequences = [sequence([1, 2], [100]), sequence([1, 2], [101])]
    assert [tree.ids.tolist() for tree in merge(sequences, shared_prefix=False)] == [[1, 2, 100], [1, 2, 101]]
    assert packing_of(merge(sequences, shared_prefix=False)).keys is None


@given(st.lists(st.integers(1, 9), max_size=20), st.integers(9, 30))
def test_bins_keep_the_order_within_the_budget_and_are_as_few_as_it_allows(sizes: list[int], budget: int) -> None:
    bins = fill(sizes, budget)
    assert [index for group in bins for index in group] == list(range(len(sizes)))
    totals = [sum(sizes[index] for index in group) for group in bins]
    assert all(0 < total <= budget for total in totals)
    for before, group in zip(totals, bins[1:], strict=False):
        assert before + sizes[group[0]] > budget


def test_an_item_larger_than_the_budget_has_a_bin_of_its_own() -> None:
    assert fill([3, 12, 3, 3], 10) == [[0], [1], [2, 3]]


@pytest.mark.parametrize("prompt", [[1], [1, 2, 3]])
def test_a_sequence_without_learned_tokens_is_all_prompt(prompt: list[int]) -> None:
    assert sequence(prompt, []).prompt_length == len(prompt)
