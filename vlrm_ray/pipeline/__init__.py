"""A run: rounds, the Ray Data graph, prompts, row accounting, progress, preflight checks, the cluster."""
