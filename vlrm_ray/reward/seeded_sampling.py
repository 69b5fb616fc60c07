"""Sampling in transformers that depends on a request's own seed, not on the requests beside it in a batch."""

from collections.abc import Sequence

import torch

from vlrm_ray.engines import Sampling


class SeededSampling:
    """A processor of logits that draws each token by the random numbers of its request, and leaves the sampler behind it no choice.

    A token is drawn by inversion: the first one at which the cumulated probabilities exceed a uniform random number. It is for
    one call of `generate`, whose rows are the answers of the first request, then those of the second one, and so on.
    """

    def __init__(self, seeds: Sequence[int], sampling: Sampling, device: torch.device) -> None:
        """Draw the random numbers of all answers, which are the same on each device.

        Args:
            seeds: the seed of each request.
            sampling: number of answers of a request, their maximum length, temperature (above 0) and top-p.
            device: device of the logits.
        """
        self.sampling, self.step = sampling, 0
        drawn = [
            torch.rand(
                sampling.n, sampling.max_tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
            )
            for seed in seeds
        ]
        self.uniform = torch.cat(drawn).to(device)  # (answers, tokens)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of shape (answers, vocabulary) in which only the drawn tokens are possible."""
        probabilities = (scores.double() / self.sampling.temperature).softmax(-1)
        if self.sampling.top_p < 1:
            ranked, order = probabilities.sort(-1, descending=True)
            ranked = ranked.where(ranked.cumsum(-1) - ranked < self.sampling.top_p, 0)
            probabilities = torch.zeros_like(probabilities).scatter(-1, order, ranked)
        cumulated = probabilities.cumsum(-1)
        limits = self.uniform[:, self.step, None] * cumulated[:, -1:]
        self.step += 1
        drawn = torch.searchsorted(cumulated, limits, right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(-1, drawn, 0.0)
