"""What a run is measured by after each round, from its configuration; and where the results of an untrained model are cached."""

from collections.abc import Iterator

import pyarrow as pa

from vlrm_ray.config import Config
from vlrm_ray.evaluation.evaluator import Evaluator
from vlrm_ray.evaluation.held_out import HeldOutPair, HeldOutPairs
from vlrm_ray.ids import digest
from vlrm_ray.pipeline.holdout import MEASURED_ROUND, holds_out, is_held_out
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
    """The first `MOST_PAIRS` verified pairs of round 1 about images that are held out.

    Parts are read one after the other until there are enough.
    """
    found: list[HeldOutPair] = []
    for part in ledger.parts(MEASURED_ROUND):
        if len(found) >= MOST_PAIRS:
            break
        prompts = _held_out_prompts(config, ledger.get_part(MEASURED_ROUND, "generate", part))
        if prompts:
            for pair in ledger.get_part(MEASURED_ROUND, "pair", part).to_pylist():
                if (prompt := prompts.get(pair["prompt_id"])) is not None:
                    found.append(HeldOutPair(pair["pair_id"], *prompt, pair["chosen"], pair["rejected"]))
    return found[:MOST_PAIRS]


def _held_out_prompts(config: Config, candidates: pa.Table) -> dict[str, tuple[str, str, str]]:
    """Image, sha256 and question of the prompts about images that are held out, by prompt id."""
    distinct = candidates.select(["prompt_id", "image", "sha256", "question"]).to_pylist()
    return {
        row["prompt_id"]: (row["image"], row["sha256"], row["question"])
        for row in distinct
        if is_held_out(config, row["sha256"])
    }


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
