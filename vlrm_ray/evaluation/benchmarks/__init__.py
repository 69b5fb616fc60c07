"""Public benchmarks of reward models and of hallucination, scored like their official scripts.

vl_rewardbench, multimodal_rewardbench, mm_rlhf_rewardbench, pope, hallusionbench, amber
               one benchmark each: reads its public format, writes its prediction format, computes its metrics
labels         the same for pairs that the user's own people have compared
items, files   types that all benchmarks share, and readers for JSON, JSON lines and Parquet
yes_no         converts Yes/No questions to a choice between two responses
setup          configures the judge from a model folder
judging        prompts to the judge, and the decision from its outputs
scoring        sends all items to the judge and logs each judgement, so that a run can resume
images, context_budget
               resolve an item's image to a file, and check that its prompt fits the model
summary, results, compare
               accuracies and baselines, the files of a result, and the comparison of two results

To add a benchmark, create a module here, for example `mybench.py`, with

* row types that derive from `files.Record`, one for each input file,
* `read(folder, log)`, which returns the items; give the better answer and the groups of the official split,
* `predict(item, judgement)`, `files(predictions)` and `official(predictions)` for the official script's formats and formula,
* `MYBENCH = Benchmark("mybench", read, predict, files, official)`.

Then add `MYBENCH` to `BENCHMARKS` below, its name to `BenchmarkData.name` in `vlrm_ray/config.py`, made-up input files to
`tests/unit/benchmark_files.py`, values computed by hand to `tests/unit/test_benchmarks_formulas.py`, and a line to the table in `docs/benchmarks.md`.
"""

from vlrm_ray.evaluation.benchmarks.amber import AMBER
from vlrm_ray.evaluation.benchmarks.hallusionbench import HALLUSIONBENCH
from vlrm_ray.evaluation.benchmarks.items import Benchmark
from vlrm_ray.evaluation.benchmarks.labels import LABELS
from vlrm_ray.evaluation.benchmarks.mm_rlhf_rewardbench import MM_RLHF_REWARDBENCH
from vlrm_ray.evaluation.benchmarks.multimodal_rewardbench import MULTIMODAL_REWARDBENCH
from vlrm_ray.evaluation.benchmarks.pope import POPE
from vlrm_ray.evaluation.benchmarks.vl_rewardbench import VL_REWARDBENCH

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (VL_REWARDBENCH, MULTIMODAL_REWARDBENCH, MM_RLHF_REWARDBENCH, POPE, HALLUSIONBENCH, AMBER, LABELS)
}
"""All benchmarks by their name on the command line."""
