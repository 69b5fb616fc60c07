"""The embedded world: rendered scenes with full ground truth, small enough for a laptop.

Ground truth (`Scene`) is for building the assets and for evaluation only. A training stage sees
the picture, the question and what the experts saw, never a `Scene`.
"""
