"""Configuration of the judge from a model folder, and the check that an output folder belongs to one judge."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vlrm_ray.config import Config, Critic, load, with_overrides
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks.judging import PAIRWISE, POINTWISE
from vlrm_ray.preferences.critique import DETAILED
from vlrm_ray.reward.model_folder import CARD, SCORING, check_model, read_card, scoring_of
from vlrm_ray.reward.scoring import token_limits
from vlrm_ray.reward.temperature_scaling import read_temperature
from vlrm_ray.store.filesystem import is_remote, redacted
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import local_model, may_be_hub_name, model_fingerprint, portable
from vlrm_ray.store.node_cache import node_cache
from vlrm_ray.store.sources import list_source

IDENTITY_FILE = "bench.json"
_JUDGE_ONLY = (
    *(f"{key}.{unit}=0" for key in ("policy.engine", "train", "experts.detector.pool") for unit in ("cpus", "gpus")),
    *(f"cluster.stages.{stage}.cpus=0" for stage, _ in Config().cluster.stages),
    "policy.engine.max_actors=0",
    "experts.reader.enabled=false",
    "cluster.dashboard=false",
)
"""Settings for a program that starts judges only, and must not request other resources from the cluster."""
_ROLES = ("judge", "cpu")
"""Roles of what such a program starts: critics, and the progress board."""


@dataclass(frozen=True)
class Judge:
    """A model and how it judges.

    Attributes:
        kind: `pointwise` or `pairwise`.
        config: the configuration; its `critic` section describes the model.
        calibration: temperature of the rewards that are averaged; None for a single one, and without a calibration.
        identity: settings that determine the judgements; two judges with equal identities give the same ones.
    """

    kind: str
    config: Config
    calibration: float | None
    identity: dict[str, Any]

    @property
    def description(self) -> str:
        """The judge in a few words, for the console."""
        critic = self.config.critic
        return (
            f"{self.kind} judge {redacted(critic.model)}, critique format {critic.format}, k={critic.k}, "
            f"engine {critic.engine.kind}"
        )


def judge_from_folder(
    model: str | Path, kind: str | None, k: int, config_file: str | None, overrides: Sequence[str]
) -> Judge:
    """Configure a judge from a model folder.

    A published reward model states in its card the critique format that it was trained on, and judges pointwise. A
    plain VLM uses the `detailed` format and judges pairwise.

    Args:
        model: path or URI of the folder of a published reward model or a Hugging Face VLM.
        kind: `pointwise` or `pairwise` to override the default; None for the default.
        k: number of critiques per answer, or of comparisons.
        config_file: YAML configuration file, None for the default configuration.
        overrides: configuration overrides as `key=value`.

    Raises:
        UserError: the folder holds no usable model, or the configuration is invalid.
    """
    reference = portable(str(model))
    if not is_remote(reference) and not Path(reference).is_dir():
        fetch = f"; a name of the hub is not taken: fetch its model with `hf download {model} --local-dir vlm`, then give --rm vlm"
        raise UserError(
            f"--rm {model}: folder not found; give the folder of a published reward model or a Hugging Face VLM"
            + (fetch if may_be_hub_name(reference) else "")
        )
    check_model("--rm", reference)
    folder = Path(local_model(reference))
    if any(override.startswith("critic.model=") for override in overrides):
        raise UserError("critic.model cannot be overridden here; give the model with --rm FOLDER only")
    card = read_card(folder)
    critique_format = str(card["critique_format"]) if card else DETAILED.name
    settings = (f"critic.model={reference}", f"critic.k={k}", f"critic.format={critique_format}", *_JUDGE_ONLY)
    config = _of_judges(load(config_file, [*settings, *overrides]))
    config = with_overrides(config, _not_given(folder, critique_format, card or {}, config))
    kind = kind or (POINTWISE if card else PAIRWISE)
    critic = config.critic
    calibration = read_temperature(folder) if kind == POINTWISE and critic.k > 1 else None
    identity = {
        "judge": kind,
        "model": model_fingerprint(reference),
        **critic.model_dump(mode="json", include={"format", "k", "max_tokens", "temperature"}),
        "engine": critic.engine.model_dump(mode="json", include={"kind", "dtype", "max_model_len"}),
        "label_mass": config.selection.label_mass,
        "max_pixels": config.prompts.max_pixels,
        "calibration": calibration,
    }
    return Judge(kind, config, calibration, identity)


def _of_judges(config: Config) -> Config:
    """The same configuration without the labels of nodes that nothing is started on."""
    labels = {role: selector for role, selector in config.cluster.labels.items() if role in _ROLES}
    return config.model_copy(update={"cluster": config.cluster.model_copy(update={"labels": labels})})


def _not_given(folder: Path, critique_format: str, card: Mapping[str, Any], config: Config) -> list[str]:
    """Overrides for what neither the file nor the command line gives: as in the run, or for a plain VLM by its size."""
    of_run = scoring_of(card, f"{folder}/{CARD}")
    if not of_run and critique_format == DETAILED.name:
        return _sizes_not_given(folder, critique_format, config.critic)
    return [f"{SCORING[name]}={value}" for name, value in of_run.items() if not _is_given(config, SCORING[name])]


def _is_given(config: Config, key: str) -> bool:
    section: BaseModel = config
    *parts, name = key.split(".")
    for part in parts:
        section = getattr(section, part)
    return name in section.model_fields_set


def _sizes_not_given(folder: Path, critique_format: str, critic: Critic) -> list[str]:
    """Overrides for the tokens of a critique and of a sequence, where neither the file nor the command line has them."""
    max_tokens, total = token_limits(folder, critique_format)
    sizes = []
    if "max_model_len" in critic.engine.model_fields_set:
        total = critic.engine.max_model_len
    else:
        sizes.append(f"critic.engine.max_model_len={total}")
    if "max_tokens" not in critic.model_fields_set:
        sizes.append(f"critic.max_tokens={min(max_tokens, total // 2)}")
    return sizes


def data_folder(option: str, reference: str) -> Path:
    """A folder of data on this machine: of a URI the copy in the cache of this node, fetched if needed.

    Raises:
        UserError: there is no such folder, or it cannot be fetched; the message names the option.
    """
    if is_remote(reference):
        return Path(node_cache().fetch(reference).path)
    path = Path(portable(reference))
    if not path.is_dir():
        raise UserError(f"{option} {reference}: folder not found; give the folder, or a URI such as s3://bucket/folder")
    return path


def check_output_folder(out: str, data: str) -> None:
    """Check that results are written into a folder, where no benchmark looks for its data.

    Raises:
        UserError: the output is a file, or inside the folder of the data.
    """
    if not is_remote(out) and Path(portable(out)).is_file():
        raise UserError(f"--out {out} is a file; give a folder")
    inside, around = (place if is_remote(place) else os.path.realpath(portable(place)) for place in (out, data))
    if f"{inside.partition('?')[0].rstrip('/')}/".startswith(f"{around.partition('?')[0].rstrip('/')}/"):
        raise UserError(
            f"--out {redacted(out)} is inside --data {redacted(data)}, where the results would be read as data; give a "
            "folder outside of it"
        )


def claim_output_folder(out: str, benchmark: str, judge: Judge, images: str | None, blind: bool = False) -> None:
    """Record benchmark, judge and folder of images in the output folder, so that different results are never mixed.

    Raises:
        UserError: the folder already has results of another benchmark, judge or folder of images, or with images that are
            left out now, or the other way round.
    """
    ledger = Ledger(out)
    folder = "" if images is None else redacted(images) if is_remote(images) else str(Path(images))
    identity = {"benchmark": benchmark, "images": folder, "blind": blind or None, **judge.identity}
    recorded = ledger.get_json(IDENTITY_FILE)
    if recorded is None:
        ledger.put_json(IDENTITY_FILE, identity)
        return
    changed = [
        f"{key}: {recorded.get(key)} -> {value}" for key, value in identity.items() if recorded.get(key) != value
    ]
    if changed:
        raise UserError(
            f"--out {redacted(out)} has results of another benchmark, model or setting ({'; '.join(changed)[:200]}); "
            "give another folder, or the model and settings of these results"
        )


def check_benchmark(name: str, data: str) -> None:
    """Check the data of an entry of `evaluation.benchmarks`; raises UserError if there is no such folder or URI."""
    if is_remote(data):
        list_source(data)
    elif not Path(data).is_dir():
        raise UserError(f"evaluation.benchmarks: {data}: folder not found; docs/benchmarks.md says what {name} needs")
