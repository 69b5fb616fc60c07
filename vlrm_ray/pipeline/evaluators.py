"""What a run is measured by after each round, from its configuration; and where the results of an untrained model are cached."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import NamedTuple

from vlrm_ray.config import Config
from vlrm_ray.evaluation.evaluator import Evaluator
from vlrm_ray.evaluation.held_out import HeldOutPair, HeldOutPairs
from vlrm_ray.ids import digest, seed_of
from vlrm_ray.pipeline.holdout import HELD_OUT, MEASURED_ROUND, holds_out, is_held_out
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.scenes.bench import CALIBRATION_PAIRS, TOLD_PAIRS
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import model_fingerprint

MOST_PAIRS = 400
"""Most held-out pairs that are judged; the interval of an accuracy is then about 4 points wide to either side."""


def is_measured(config: Config) -> bool:
    """Whether a run has anything to evaluate."""
    return bool(config.evaluation.pairs or config.evaluation.benchmarks or holds_out(config))


def evaluators(config: Config, round_: int, ledger: Ledger, store: Ledger) -> Iterator[Evaluator]:
    """The evaluators of a round; the parts of round 1 must be committed if images are held out.

    Args:
        config: configuration of the run.
        round_: number of the round; 0 is the baseline.
        ledger: the run.
        store: where images are kept that runs may share.
    """
    settings, critique_format = config.evaluation, FORMATS[config.critic.format]
    if holds_out(config) and (pairs := held_out_pairs(config, ledger)):
        yield HeldOutPairs(pairs, critique_format)
    if settings.pairs:
        from vlrm_ray.scenes.evaluation import ScenesBench

        yield ScenesBench(settings.split, settings.pairs, critique_format, store)
    if settings.pairs and settings.pope and (config.rounds == "auto" or round_ in (0, config.rounds)):
        from vlrm_ray.scenes.pope import Pope

        yield Pope(settings.pope, critique_format, ledger)
    for entry in settings.benchmarks:
        from vlrm_ray.evaluation.benchmarks.evaluator import PublicBenchmark

        yield PublicBenchmark(entry.name, entry.data, config.critic, config.selection.label_mass, ledger)


def held_out_pairs(config: Config, ledger: Ledger) -> list[HeldOutPair]:
    """At most `MOST_PAIRS` of the verified pairs of round 1 about images that are held out.

    They are drawn evenly from all images, and there is a second pair of an image only if all images have one. The tables of the round
    are read once; what was drawn is kept with the run.
    """
    kept = ledger.result(MEASURED_ROUND, HELD_OUT)
    if kept is None:
        kept = {"pairs": [asdict(pair) for pair in _drawn(config, ledger)]}
        ledger.finish(MEASURED_ROUND, HELD_OUT, kept)
    return [HeldOutPair(**pair) for pair in kept["pairs"]]


def _drawn(config: Config, ledger: Ledger) -> list[HeldOutPair]:
    parts = ledger.parts(MEASURED_ROUND)
    names = [name for part in ledger.each_part(lambda part: _names(config, ledger, part), parts) for name in part]
    drawn = _evenly(names)[:MOST_PAIRS]
    chosen = {name.pair_id for name in drawn}
    found = ledger.each_part(lambda part: _pairs(ledger, part, chosen), sorted({name.part for name in drawn}))
    return [pair for pairs in found for pair in pairs]


class _Name(NamedTuple):
    """Where a pair is and which image it is about."""

    part: int
    pair_id: str
    sha256: str


def _names(config: Config, ledger: Ledger, part: int) -> list[_Name]:
    """The pairs of a part that are about images that are held out."""
    prompts = ledger.get_part(MEASURED_ROUND, "generate", part, ["prompt_id", "sha256"]).to_pylist()
    images = {row["prompt_id"]: row["sha256"] for row in prompts if is_held_out(config, row["sha256"])}
    pairs = ledger.get_part(MEASURED_ROUND, "pair", part, ["pair_id", "prompt_id"]).to_pylist() if images else []
    return [_Name(part, row["pair_id"], images[row["prompt_id"]]) for row in pairs if row["prompt_id"] in images]


def _evenly(names: Sequence[_Name]) -> list[_Name]:
    """The pairs in an order that does not depend on the names of files: first one of each image, then second ones."""
    before: Counter[str] = Counter()
    order: list[tuple[int, int, _Name]] = []
    for name in sorted(names, key=lambda name: seed_of("measured", name.pair_id)):
        order.append((before[name.sha256], seed_of("measured", name.sha256), name))
        before[name.sha256] += 1
    return [name for *_, name in sorted(order)]


def _pairs(ledger: Ledger, part: int, chosen: Collection[str]) -> list[HeldOutPair]:
    """The chosen pairs of a part."""
    columns = ["prompt_id", "image", "sha256", "question"]
    prompts = {row["prompt_id"]: row for row in ledger.get_part(MEASURED_ROUND, "generate", part, columns).to_pylist()}
    pairs = ledger.get_part(MEASURED_ROUND, "pair", part, ["pair_id", "prompt_id", "chosen", "rejected"]).to_pylist()
    rows = [(pair, prompts[pair["prompt_id"]]) for pair in pairs if pair["pair_id"] in chosen]
    return [
        HeldOutPair(
            pair["pair_id"], prompt["image"], prompt["sha256"], prompt["question"], pair["chosen"], pair["rejected"]
        )
        for pair, prompt in rows
    ]


def baseline_name(config: Config) -> str:
    """Name of the cached result of the untrained model; "" if it depends on more than the model and the embedded scenes.

    The name is a hash of everything that the figures depend on.
    """
    settings, critic = config.evaluation, config.critic
    if not config.cache or holds_out(config) or settings.benchmarks:
        return ""
    scenes = settings.model_dump(mode="json", include={"pairs", "split", "pope"})
    model = model_fingerprint(critic.model)
    return f"starts/{digest(model, critic.format, critic.max_tokens, scenes, CALIBRATION_PAIRS, TOLD_PAIRS)}.json"
