"""Public benchmarks of reward models and of hallucination, read and scored as their official scorers do.

One module per benchmark reads its public format, writes its official prediction format and computes
its official formula; the rest is shared: `judging` asks, `scoring` goes through the items, `summary`
counts, `compare` holds two results side by side.
"""

from vlrm_ray.evaluation.benchmarks.amber import AMBER
from vlrm_ray.evaluation.benchmarks.hallusionbench import HALLUSIONBENCH
from vlrm_ray.evaluation.benchmarks.items import Benchmark
from vlrm_ray.evaluation.benchmarks.mm_rlhf_rewardbench import MM_RLHF_REWARDBENCH
from vlrm_ray.evaluation.benchmarks.multimodal_rewardbench import MULTIMODAL_REWARDBENCH
from vlrm_ray.evaluation.benchmarks.pope import POPE
from vlrm_ray.evaluation.benchmarks.vl_rewardbench import VL_REWARDBENCH

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (VL_REWARDBENCH, MULTIMODAL_REWARDBENCH, MM_RLHF_REWARDBENCH, POPE, HALLUSIONBENCH, AMBER)
}
