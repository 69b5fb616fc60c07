"""The LLM claim extractor: the shipped tiny model in a vLLM engine."""

from typing import Any


def test_the_tiny_extractor_reads_statements_about_scenes(vllm_answers: dict[str, Any]) -> None:
    assert vllm_answers["extractor"]["f1"] > 0.9
    # The answers to hostile texts, which are split into many chunks, may be cut off; the others are not.
    counts = vllm_answers["extractor"]["counts"]
    assert counts["unreadable"] <= counts["chunks"] - 101


def test_an_ordinary_response_is_read_among_hostile_ones(vllm_answers: dict[str, Any]) -> None:
    assert vllm_answers["extractor"]["claims"][-1] == [
        ["object", "circle", None, None, False, False, [9, 21]],
        ["attribute", "circle", "red", None, False, False, [9, 21]],
    ]
