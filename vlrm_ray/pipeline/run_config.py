"""Binds a run to its configuration: what determines the results cannot change when the run resumes."""

from typing import Any

from vlrm_ray.config import Config, Prompts
from vlrm_ray.errors import UserError
from vlrm_ray.experts.named_models import content_hashes
from vlrm_ray.ids import canonical_json
from vlrm_ray.pipeline import prompt_index
from vlrm_ray.pipeline.prompts import SCENES, source_of
from vlrm_ray.store.filesystem import redacted, without_passwords
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.prepared_parts import PreparedParts

SESSION_KEYS = ("rounds", "max_rounds", "cluster")
"""Configuration keys at the top level that belong to a session of a run, and not to the run."""
RESOURCE_KEYS = frozenset(
    [
        "actors",
        "max_actors",
        "cpus",
        "gpus",
        "tensor_parallel",
        "gpu_memory",
        "pool",
        "workers",
        "start_timeout",
        "max_failures",
        "quarantine_limit",
        "offline",
        "trackers",
    ]
)
"""Configuration keys, in any section, that say where and with how much a run works, and do not determine its results."""
RESOURCE_PATHS = frozenset(
    [
        "policy.engine.max_model_len",
        "policy.engine.max_num_seqs",
        "policy.engine.kv_cache_mb",
        "critic.engine.max_model_len",
        "critic.engine.max_num_seqs",
        "critic.engine.kv_cache_mb",
        "experts.detector.batch",
        "prompts.allow_hosts",
        "train.max_tokens",
        "train.packing",
        "train.shared_prefix",
        "train.checkpointing",
        "train.compile",
        "train.loader_workers",
        "train.step_timeout",
        "train.checkpoint_steps",
        "train.max_skipped",
    ]
)
"""The same by dotted key: how experts, engines and a training use memory and time, and what the remedies of errors change. Results do
not depend on them, apart from rounding; but what is longer than `max_model_len` is refused, and examples longer than
`train.max_tokens` are dropped."""
FORMER_BEHAVIOR = {"critic.writer": "newest", "selection.sides": "both"}
"""Values that stand for what runs did before a key existed, where its default does something else."""
REMOVED_OPTIONS = {"train.balance": False, "train.average": 0.0}
"""Keys that are gone, with the value that stands for what runs do now."""
MODELS = "models.json"
"""File of the run with the hashes of the experts' models, by configuration key."""
SOURCE = "prompts.json"
"""File of the run with the number of the prompts of its source, their hash, and `ORDER`."""
ORDER = 2
"""Number of the rule by which a round's prompts are ordered; runs of earlier versions have none."""


def bind_config(config: Config, ledger: Ledger) -> None:
    """Store the configuration in a new run's folder, or check that an existing run has the same one.

    `SESSION_KEYS`, `RESOURCE_KEYS` and `RESOURCE_PATHS` may differ between sessions of a run. Keys that the stored
    configuration lacks, because they are younger than the run, count as `FORMER_BEHAVIOR` or their defaults; keys that only it
    has, because they are gone, as `REMOVED_OPTIONS`. Passwords in URIs are not stored here, and count as equal.

    `prompts.per_round` may differ for rounds that have not begun.

    Raises:
        UserError: if the run was started with another configuration, or with a value that is gone; the message names the keys.
    """
    current = without_passwords(config.model_dump(mode="json", exclude=set(SESSION_KEYS)))
    found = ledger.get_json("config.json")
    stored = without_passwords(found)
    if stored != found:  # of an earlier version
        ledger.put_json("config.json", stored)
    if stored is None:
        ledger.put_json("config.json", current)
        return
    if _has_begun_rounds_of_same_size(config, stored, ledger):
        stored["prompts"]["per_round"] = current["prompts"]["per_round"]
        ledger.put_json("config.json", stored)
    changed = differences(stored, current)
    if changed and _is_empty(ledger):
        ledger.put_json("config.json", current)
    elif gone := [change for change in changed if change.partition(":")[0] in REMOVED_OPTIONS]:
        raise UserError(
            f"run {config.name} was started with a configuration that is gone ({'; '.join(gone)}); resume it with the code "
            "that started it, or choose another name="
        )
    elif changed:
        raise UserError(
            f"run {config.name} was started with another configuration ({'; '.join(changed[:5])}); "
            "set these keys back, or choose another name="
        )


def bind_models(config: Config, ledger: Ledger) -> None:
    """Store the hashes of the experts' models in a new run's folder, or check that an existing run has the same ones.

    Raises:
        UserError: a model has another content than when the run was started: its verdicts would be mixed with others.
    """
    current, stored = content_hashes(config.experts), ledger.get_json(MODELS)
    if stored is None:
        ledger.put_json(MODELS, current)
        return
    changed = [key for key in stored if stored[key] != current.get(key, stored[key])]
    if changed and _is_empty(ledger):
        ledger.put_json(MODELS, current)
    elif changed:
        raise UserError(
            f"run {config.name} was started with another file of {', '.join(changed)} (sha256 {stored[changed[0]]}); restore "
            "it, or choose another name="
        )


def bind_source(config: Config, ledger: Ledger) -> None:
    """Store a hash of the prompts' source in a new run's folder, or check that an existing run has the same prompts.

    The prompts are stored, too, if the next start would have to read images for them.

    Raises:
        UserError: the source has other prompts than when the run was started. Rounds take their prompts out of one shuffled
            order, so they would leave some out and repeat others. So would a round that was begun by a version of this program
            which orders a round's prompts in another way.
    """
    if config.prompts.source == SCENES:
        return
    source = source_of(config)
    current = {"prompts": len(source), "sha256": source.sha256, "order": ORDER}
    stored = ledger.get_json(SOURCE)
    if stored is not None and stored | {"order": ORDER} == current != stored:
        _check_no_round_has_begun(config, ledger)
        ledger.put_json(SOURCE, current)
        stored = current
    if stored is None or (stored != current and _is_empty(ledger)):
        ledger.put_json(SOURCE, current)
    elif stored != current:
        before, now = stored.get("prompts"), current["prompts"]
        raise UserError(
            f"prompts.source {redacted(config.prompts.source)} has changed since run {config.name} was started: {before} "
            f"prompts then, {now if now != before else 'as many but others'} now; restore it, or choose another name="
        )
    if source.unsaved:
        prompt_index.save(ledger, source)


def _check_no_round_has_begun(config: Config, ledger: Ledger) -> None:
    for number in ledger.rounds():
        if ledger.result(number, "select") is None and (
            ledger.parts(number) or PreparedParts(ledger, number).numbers()
        ):
            raise UserError(
                f"round {number} of run {config.name} was begun by a version of this program that orders the prompts of a round in "
                f"another way; finish the round with that version, or delete {ledger.location(f'round-{number:04d}')}"
            )


def _has_begun_rounds_of_same_size(config: Config, stored: dict[str, Any], ledger: Ledger) -> bool:
    """Whether the rounds that have begun take as many prompts by a stored configuration as by today's, which differ otherwise."""
    then, now = Prompts.model_validate({"per_round": stored["prompts"]["per_round"]}), config.prompts
    return then.per_round != now.per_round and all(
        then.in_round(number) == now.in_round(number) for number in ledger.rounds() if number
    )


def _is_empty(ledger: Ledger) -> bool:
    """Whether a run holds no result yet: it failed before its first part, so nothing binds it."""
    return not ledger.rounds() and not ledger.newest_version()


def differences(stored: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """The dotted keys in which a stored configuration differs from today's, each as "key: old -> new", sorted.

    Args:
        stored: the JSON form of a configuration; see `bind_config` for keys that it lacks or that are gone.
        current: the JSON form of today's.
    """
    return sorted(_differences(stored, current, Config().model_dump(mode="json")))


def _differences(old: dict[str, Any], new: dict[str, Any], defaults: dict[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys that differ, each as "key: old -> new"; see `bind_config` for keys that one of them lacks."""
    found: list[str] = []
    for key in {*old, *new} - RESOURCE_KEYS:
        dotted = f"{prefix}{key}"
        if dotted in RESOURCE_PATHS:
            continue
        before = old.get(key, FORMER_BEHAVIOR.get(dotted, defaults.get(key)))
        after = new.get(key, REMOVED_OPTIONS.get(dotted))
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, defaults.get(key, {}), f"{dotted}.")
        elif canonical_json(before) != canonical_json(after):
            found.append(f"{dotted}: {before} -> {after}")
    return found
