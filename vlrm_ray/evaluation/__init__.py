"""Evaluation metrics with confidence intervals, and public benchmarks.

pairs                what all evaluations of pairs do alike
metrics              accuracy, calibration error, F1 and gains, each with its number of items and a 95 % interval
reliability_diagram  plot of accuracy against confidence, as SVG
benchmarks           VL-RewardBench, Multimodal RewardBench, MM-RLHF-RewardBench, POPE, HallusionBench and AMBER
"""
