"""What a run shows of itself while it works: the catalogue of its metrics, which `pipeline/recorder.py` hands to Ray.

Ray exports the metrics on each node for Prometheus. It puts `ray_` before a name, and `_total` behind that of a counter:
`vlrm_pairs` is `ray_vlrm_pairs_total` there. Everything that records or shows a metric takes it from `CATALOGUE`.

All metrics are recorded by the driver, from what actors report to it anyway: so nothing is counted twice, and no figure is
lost with a process that ends before Ray has exported it. Counters are those of all drivers of
a run's name since their node started: Ray keeps the counters of a driver that has ended, and drops only its gauges.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

EXPORTED_PREFIX = "ray_"
RUN = "run"
"""Tag that every metric has: the name of the run."""
TRAIN = "vlrm_train_"
"""Prefix of the metrics of training steps; the rest of their names are fields of a step's record."""
SHARES = tuple(round(0.05 * step, 2) for step in range(1, 21))
"""Upper bounds of the buckets of a histogram over 0 to 1."""
MARGINS = (1e-6, *SHARES)
"""The same for margins: margins of 0 and less, which have the two sides in the wrong order, are in the first bucket."""


@dataclass(frozen=True)
class Definition:
    """A metric.

    Attributes:
        name: its name, without what Ray adds.
        kind: what kind of metric it is.
        unit: unit of its values; "" for a number without unit.
        description: what it is, in one sentence.
        tags: what its series differ in, besides the run.
        buckets: upper bounds of a histogram's buckets; all above 0, as Ray asks for.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    description: str
    tags: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def exported(self) -> tuple[str, ...]:
        """Names of its series in Prometheus."""
        endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[self.kind]
        return tuple(f"{EXPORTED_PREFIX}{self.name}{ending}" for ending in endings)


_DEFINITIONS = (
    Definition("vlrm_round", "gauge", "", "Number of the round that the run works on."),
    Definition("vlrm_version", "gauge", "", "Number of the newest published version; 0 is the untrained model."),
    Definition("vlrm_rows", "counter", "rows", "What a stage has finished: prompts, candidates (generate, verify), pairs (pair, select), critiques or requests.", ("stage",)),
    Definition("vlrm_candidates", "counter", "candidates", "Candidates of committed parts.", ("condition",)),
    Definition("vlrm_verdicts", "counter", "claims", "Claims of committed parts.", ("type", "verdict")),
    Definition("vlrm_pairs", "counter", "pairs", "Pairs kept, dropped and quarantined.", ("outcome", "reason")),
    Definition("vlrm_quarantined", "counter", "rows", "Rows that could not be used.", ("stage", "reason")),
    Definition("vlrm_margin", "histogram", "", "Margins of pairs; negative ones count as 0.", ("outcome",), MARGINS),
    Definition("vlrm_reward", "histogram", "", "Rewards of judged critiques.", ("side",), SHARES),
    Definition("vlrm_label_mass", "histogram", "", "p(Yes) + p(No) of critiques.", ("side",), SHARES),
    Definition("vlrm_cache_hits", "counter", "rows", "Rows whose answer a cache had.", ("stage",)),
    Definition("vlrm_engine_running", "gauge", "sequences", "Sequences an engine works on.", ("role", "actor")),
    Definition("vlrm_engine_waiting", "gauge", "sequences", "Sequences that wait for an engine.", ("role", "actor")),
    Definition("vlrm_engine_tokens", "counter", "tokens", "Tokens that an engine has generated.", ("role", "actor")),
    Definition("vlrm_busy_seconds", "counter", "s", "Time in which an actor had work.", ("role", "actor")),
    Definition(
        "vlrm_gpu_idle_fraction",
        "gauge",
        "",
        "Share of its GPUs' time in which a role had no work; `all` is the whole run. Without GPUs, each engine and train worker counts as one.",
        ("role",),
    ),
    Definition("vlrm_evaluation", "gauge", "", "A metric of a round's evaluation; round 0 is the untrained model.", ("metric", "round")),
    Definition(f"{TRAIN}loss", "gauge", "", "Loss of the step's batch, the weighted mean over its tokens."),
    Definition(f"{TRAIN}loss_critique", "gauge", "", "Mean cross-entropy of the critiques' tokens."),
    Definition(f"{TRAIN}loss_judgement", "gauge", "", "Mean cross-entropy of the judgement tokens."),
    Definition(f"{TRAIN}loss_response", "gauge", "", "Mean cross-entropy of the chosen responses' tokens."),
    Definition(f"{TRAIN}accuracy", "gauge", "", "Share of right judgements in the batch."),
    Definition(f"{TRAIN}grad_norm", "gauge", "", "Norm of the gradient before clipping."),
    Definition(f"{TRAIN}lr", "gauge", "", "Learning rate."),
    Definition(f"{TRAIN}tokens_per_second", "gauge", "tokens/s", "Trained tokens per second of all workers."),
    Definition(f"{TRAIN}mfu", "gauge", "", "Model FLOPs utilization, of the devices' peak; on GPUs only."),
    Definition(f"{TRAIN}memory_gb", "gauge", "GB", "Peak memory of rank 0: of its device, or of its process on CPU."),
    Definition(f"{TRAIN}tokens", "counter", "tokens", "Trained tokens of all workers."),
    Definition(f"{TRAIN}seconds", "counter", "s", "Duration of training steps."),
    Definition(f"{TRAIN}wait_seconds", "counter", "s", "Time that training steps waited for data."),
    Definition(f"{TRAIN}skipped", "counter", "steps", "Steps skipped because of a loss or gradient that is not finite."),
)  # fmt: skip
CATALOGUE = {definition.name: definition for definition in _DEFINITIONS}
"""All metrics of a run, by name."""
STEP_FIELDS = tuple(name.removeprefix(TRAIN) for name in CATALOGUE if name.startswith(TRAIN))
"""Fields of the record of a training step that are metrics."""


def bins(name: str, values: Sequence[float]) -> list[int]:
    """Number of values in each bucket of a histogram; those above its last bound are in the last one."""
    bounds = CATALOGUE[name].buckets
    counts = [0] * len(bounds)
    for value in values:  # rounded probabilities may add up to a little more than 1
        counts[bisect_left(bounds, min(value, bounds[-1]))] += 1
    return counts
