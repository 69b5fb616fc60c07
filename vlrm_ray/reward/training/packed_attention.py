"""Attention over packed sequences, registered with transformers under the name `NAME`.

On GPUs it is PyTorch's `varlen_attn` (FlashAttention). On CPU it computes one tree, or one window of the vision tower,
after the other; windows of equal length are computed together. Vision towers that compute each image by itself keep
PyTorch's `scaled_dot_product_attention`.
"""

import inspect
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

from vlrm_ray.reward.training.packing import Packing
from vlrm_ray.reward.training.sharded_model import vision_tower

NAME = "packed_flash_attention"
"""Name of the implementation. With "flash" in it, vision towers pass the lengths of their windows."""
CAUSAL = (-1, 0)
"""Window of FlashAttention without limit on the left: its last query sees all keys of its segment."""


def install(model: PreTrainedModel) -> None:
    """Let a model's text part use this attention, and its vision tower if that takes patches of all images in one row."""
    AttentionInterface.register(NAME, packed_attention)
    tower = vision_tower(model)
    model.config._attn_implementation = "sdpa"
    # set_attn_implementation would look for a compiled kernel, because of "flash" in the name
    model.config.get_text_config()._attn_implementation = NAME
    if isinstance(tower, PreTrainedModel) and "grid_thw" in inspect.signature(tower.forward).parameters:
        tower.config._attn_implementation = NAME


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    packing: Packing | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a row of packed sequences; the signature is that of transformers' attention functions.

    Args:
        module: the attention module.
        query: shape (1, heads, tokens, dimension).
        key: shape (1, key heads, tokens, dimension); key heads divides heads.
        value: as `key`.
        attention_mask: ignored; `packing` says who attends to whom.
        scaling: factor on the products of queries and keys; None for 1 / sqrt(dimension).
        packing: the packing of text. Without it, `cu_seq_lens_q` is given.
        cu_seq_lens_q: starts of the windows of a vision tower, int32, within which all tokens attend to each other.
        max_length_q: length of the longest window.
        kwargs: further arguments of transformers, which have no effect here.

    Returns:
        The output, shape (1, tokens, heads, dimension), and None for the attention weights.
    """
    if query.is_cuda:
        return _on_gpu(query, key, value, scaling, packing, cu_seq_lens_q, max_length_q), None
    if cu_seq_lens_q is not None:
        return _windows(query, key, value, scaling, cu_seq_lens_q).transpose(1, 2), None
    assert packing is not None
    lengths = [len(tree) for tree in packing.trees]
    parts = zip(*(torch.split(tensor, lengths, dim=2) for tensor in (query, key, value)), packing.masks, strict=True)
    outputs = [_attend(q, k, v, scaling, mask) for q, k, v, mask in parts]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _on_gpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    packing: Packing | None,
    windows: torch.Tensor | None,
    longest_window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (tokens, heads, dimension)
    if windows is not None:
        longest = int(longest_window or windows.diff().max())
        output = varlen_attn(q, k, v, windows, windows, longest, longest, scale=scaling)
        assert isinstance(output, torch.Tensor)
        return output.unsqueeze(0)
    assert packing is not None
    if packing.keys is not None:
        k, v = k.index_select(0, packing.keys), v.index_select(0, packing.keys)
    output = varlen_attn(
        q, k, v, packing.query_starts, packing.key_starts, packing.longest_query, packing.longest_key,
        scale=scaling, window_size=CAUSAL, enable_gqa=True,
    )  # fmt: skip
    assert isinstance(output, torch.Tensor)
    return output.unsqueeze(0)


def _windows(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, starts: torch.Tensor
) -> torch.Tensor:
    """Attention within the windows of a vision tower, on CPU."""
    lengths = starts.diff().tolist()
    if len(set(lengths)) == 1:  # as rows of a batch
        rows = [tensor[0].unflatten(1, (-1, lengths[0])).transpose(0, 1) for tensor in (query, key, value)]
        output = _attend(rows[0], rows[1], rows[2], scaling, None)
        return output.transpose(0, 1).flatten(1, 2).unsqueeze(0)
    parts = zip(*(torch.split(tensor, lengths, dim=2) for tensor in (query, key, value)), strict=True)
    return torch.cat([_attend(q, k, v, scaling, None) for q, k, v in parts], dim=2)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention in plain operations, for sequences of some hundred tokens several times as fast as PyTorch's on CPU."""
    if (groups := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = (query * (scaling or query.shape[-1] ** -0.5)) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ value
