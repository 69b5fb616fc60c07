"""FlashAttention over packed trees gives what masked attention in float32 gives, with gradients."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

from vlrm_ray.reward.training.packed_attention import packed_attention
from vlrm_ray.reward.training.packing import Packing, Segment, Targets, Tree, packing_of

HEADS, KEY_HEADS, DIMENSION = 8, 2, 128


def tree(*segments: Segment) -> Tree:
    nothing = torch.zeros(0, dtype=torch.long)
    length = segments[-1].end
    ids = torch.zeros(length, dtype=torch.long)
    return Tree(ids, ids.expand(3, -1), ids, segments, Targets(nothing, nothing, nothing.float(), nothing))


TREES = [
    tree(Segment(0, 300), Segment(300, 420, ((0, 300),)), Segment(420, 500, ((0, 300),))),
    tree(Segment(0, 200), Segment(200, 260, ((0, 200),)), Segment(260, 300, ((0, 200), (200, 260)))),
    tree(Segment(0, 64)),
]


def to_gpu(packing: Packing) -> Packing:
    keys = None if packing.keys is None else packing.keys.cuda()
    return Packing(
        packing.query_starts.cuda(), packing.key_starts.cuda(), keys, packing.longest_query, packing.longest_key, ()
    )


def test_trees_attend_as_their_masks_say() -> None:
    torch.manual_seed(0)
    packing, length = packing_of(TREES), sum(map(len, TREES))
    shapes = [(1, heads, length, DIMENSION) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    exact = [torch.randn(shape, dtype=torch.bfloat16).float().requires_grad_() for shape in shapes]
    fast = [tensor.detach().bfloat16().cuda().requires_grad_() for tensor in exact]
    module = torch.nn.Module()
    wanted, _ = packed_attention(module, *exact, None, packing=packing)
    found, _ = packed_attention(module, *fast, None, packing=to_gpu(packing))
    torch.testing.assert_close(found.float().cpu(), wanted, atol=2e-2, rtol=2e-2)
    direction = torch.randn_like(wanted)
    (wanted * direction).sum().backward()
    (found.float() * direction.cuda()).sum().backward()
    for a, b in zip(fast, exact, strict=True):
        assert a.grad is not None and b.grad is not None
        error = (a.grad.float().cpu() - b.grad).norm() / b.grad.norm()
        assert error < 2e-2
