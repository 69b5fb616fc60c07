"""The model's losses on a micro-batch: hidden states are selected before the output layer, whose logits come in chunks."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from vlrm_ray.engines import LabelTokens
from vlrm_ray.reward.training.collator import MicroBatch, Positions
from vlrm_ray.reward.training.packing import CRITIQUE, JUDGEMENT, RESPONSE

CHUNK = 1024
"""Learned tokens whose logits exist at the same time; with 152,064 token ids they take 0.6 GB in float32."""

IMAGE_TYPES = {"gemma3": "token_type_ids", "gemma4": "mm_token_type_ids"}
"""Models whose tokens of an image attend to each other in both directions, and the argument that says which these are."""


@dataclass(frozen=True)
class Losses:
    """Sums over a micro-batch.

    Attributes:
        total: weighted sum of the token losses, a scalar with a gradient.
        parts: shape (3, 3). A row each for critiques, judgements and responses: unweighted sum of losses, number of
            tokens, and number of right judgements (in the row of judgements).
    """

    total: torch.Tensor
    parts: torch.Tensor


class Learner(nn.Module):
    """A vision-language model with its loss; one module, so that FSDP gathers the weights of both around `forward`."""

    def __init__(self, model: Any, labels: LabelTokens) -> None:
        """Wrap a model.

        Args:
            model: a transformers model, possibly with peft's adapters.
            labels: the token ids that mean Yes and No.
        """
        super().__init__()
        self.model = model
        plain = model.get_base_model() if hasattr(model, "peft_config") else model
        self._plain = [plain]  # in a list, so that it is not registered a second time
        self.labels = labels
        self.takes_features = "mm_encoder_outputs" in inspect.signature(plain.base_model.forward).parameters

    def forward(self, batch: MicroBatch) -> Losses:
        """The losses of a micro-batch on the model's device."""
        plain = self._plain[0]
        positions = batch.positions if len(batch.positions) > 1 else batch.positions[0]
        extra: dict[str, Any] = {}
        if batch.packing is not None:
            extra = {"packing": batch.packing}
        elif name := IMAGE_TYPES.get(plain.config.model_type):
            extra = {name: batch.types}
        hidden = plain.base_model(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=positions, use_cache=False,
            **self._images(batch), **extra,
        ).last_hidden_state  # fmt: skip
        learned = hidden.flatten(0, 1)[batch.targets.sources]
        losses, yes = self._token_losses(learned, batch.targets.ids)
        return Losses((losses * batch.targets.weights).sum(), self._parts(losses.detach(), yes, batch))

    def _images(self, batch: MicroBatch) -> dict[str, Any]:
        """Arguments for the images: their features, computed once per image, or the inputs of all uses.

        The model alone decides which, never the batch: FSDP gathers the vision tower and the embedding in the order in
        which they run, which must be the same on all ranks.
        """
        if not self.takes_features:
            return {name: _for_uses(value, batch.rows[name], batch.uses) for name, value in batch.images.items()}
        rows = batch.rows["pixel_values"]
        features = self._plain[0].base_model.get_image_features(**batch.images, return_dict=True)
        features.pooler_output = _for_uses(features.pooler_output, rows, batch.uses)
        if layers := getattr(features, "deepstack_features", None):
            features.deepstack_features = [_for_uses(layer, rows, batch.uses) for layer in layers]
        return {"mm_encoder_outputs": {"image": features}}

    def _token_losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of each target and whether Yes is likelier than No there, each of shape (N,)."""
        head = self._plain[0].get_output_embeddings()
        yes, no = ([*ids] for ids in (sorted(self.labels.yes), sorted(self.labels.no)))

        def chunk(part: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = head(part).float()
            margin = logits.detach()[:, yes].logsumexp(-1) - logits.detach()[:, no].logsumexp(-1)
            return cross_entropy(logits, ids, reduction="none"), margin > 0

        if len(targets) <= CHUNK:
            return chunk(hidden, targets)
        parts = [
            checkpoint(chunk, part, ids, use_reentrant=False)
            for part, ids in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
        ]
        return torch.cat([losses for losses, _ in parts]), torch.cat([flags for _, flags in parts])

    def _parts(self, losses: torch.Tensor, yes: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        kinds, counted = batch.targets.kinds, batch.targets.weights > 0
        is_yes = torch.isin(batch.targets.ids, torch.tensor(sorted(self.labels.yes), device=losses.device))
        parts = torch.zeros(3, 3, device=losses.device)
        for kind in (CRITIQUE, JUDGEMENT, RESPONSE):
            chosen = (kinds == kind) & counted
            parts[kind, 0] = (losses * chosen).sum()
            parts[kind, 1] = chosen.sum()
        parts[JUDGEMENT, 2] = ((yes == is_yes) & (kinds == JUDGEMENT) & counted).sum()
        return parts


def positions_of(model: Any) -> Positions:
    """How the positions of a model's tokens are computed; Qwen's models have three axes for the patches of images."""
    rope_index = getattr(model.base_model, "get_rope_index", None)

    def positions(ids: torch.Tensor, types: torch.Tensor, image: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if rope_index is None or not types.any():
            axes = 1 if rope_index is None else 3
            return torch.arange(len(ids)).expand(axes, -1)
        grids = {name: value for name, value in image.items() if name.endswith("_thw")}
        result: torch.Tensor = rope_index(ids.unsqueeze(0), mm_token_type_ids=types.unsqueeze(0), **grids)[0][:, 0]
        return result

    return positions


def _for_uses(values: Any, rows: Sequence[int], uses: tuple[int, ...]) -> Any:
    """What images have, once per use.

    Args:
        values: a list with an entry per image, or a tensor with the images one after the other in dimension 0.
        rows: number of rows of each image in the tensor, or numbers in the same proportion.
        uses: indices of the images.
    """
    if len(uses) == len(rows):
        return values
    if isinstance(values, torch.Tensor):
        parts = values.split([row * len(values) // sum(rows) for row in rows])
        return torch.cat([parts[index] for index in uses])
    return [values[index] for index in uses]
