"""Metrics with intervals, and public benchmarks."""
