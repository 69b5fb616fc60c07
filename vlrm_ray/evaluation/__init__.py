"""Evaluation metrics with confidence intervals, and public benchmarks.

pairs                what all evaluations of pairs do alike
metrics              accuracy, F1 and gains, each with its number of items and a 95 % interval
clusters             shares and calibration errors of items that come in clusters, such as statements about one image
words                what words alone tell of pairs
reliability_diagram  plot of accuracy against confidence, as SVG
benchmarks           VL-RewardBench, Multimodal RewardBench, MM-RLHF-RewardBench, POPE, HallusionBench and AMBER
"""
