"""Preflight checks of a run's inputs: resources, models, checkpoints and prompts."""

import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from vlrm_ray.claims.llm import EXTRACTOR_TOKENS
from vlrm_ray.claims.parse.pipeline import installed_model
from vlrm_ray.config import ASSETS, Config, Experts, is_checkpoint
from vlrm_ray.errors import BadImage, StorageError, UserError
from vlrm_ray.evaluation.benchmarks.setup import check_benchmark
from vlrm_ray.experts.named_models import check_zero_shot, detection_folder, detector_path, recognition_folder
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline import evaluators, prompts, remedies, resource_plan, row_accounting
from vlrm_ray.pipeline.cluster import address_of, check_kept
from vlrm_ray.pipeline.prompt_rows import EMBEDDED
from vlrm_ray.pipeline.trackers import check_trackers
from vlrm_ray.reward.model_folder import (
    check_adapters,
    check_model,
    check_no_pointers,
    check_packing,
    check_positions,
    refuse_pointers,
)
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.images import UNREADABLE, is_web, validate_image
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.models import check_hub_name, is_hub_name
from vlrm_ray.store.patience import impatient

IMAGE_CHECK_SECONDS = 20
"""Time limit of the search for a usable image."""


Remarks = tuple[str, ...]
"""What a check says without refusing the run."""
Check = Callable[[], Remarks | None]
"""A check, which raises UserError, and may have remarks."""


def check_inputs(config: Config) -> Remarks:
    """Check everything that can be checked before Ray and the engines start.

    Returns:
        Remarks for the user about the prompts: files and rows that are left out.

    Raises:
        UserError: for the first input that cannot work.
    """
    return tuple(remark for check in input_checks(config).values() for remark in check() or ())


def input_checks(config: Config) -> dict[str, Check]:
    """The checks of `check_inputs` by what they look at; none waits for a storage."""
    checks: dict[str, Check] = {"rounds": partial(_check_rounds, config)}
    checks["folder"] = partial(check_kept, "folder", config.folder)
    if not address_of(config):
        checks["resources"] = partial(_check_local_resources, config)
    checks["trackers"] = partial(check_trackers, config)
    if config.policy.samples:
        checks["policy.model"] = partial(check_model, "policy.model", config.policy.model)
    checks["critic.model"] = partial(_check_critic, config)
    checks["claim extractor"] = partial(_check_extractor, config)
    checks["models of the hub"] = partial(_check_hub_models, config)
    for entry in config.evaluation.benchmarks:
        checks[f"benchmark {entry.name}"] = partial(check_benchmark, entry.name, entry.data)
    checks["experts"] = lambda: _check_calibrations(config, _check_experts(config.experts))
    if config.cache:
        checks["cache"] = lambda: Ledger(config.cache).check_writable()
    if config.prompts.source != prompts.SCENES:
        checks["models"] = partial(_check_foreign_images, config)
    checks["prompts"] = partial(_check_prompts, config)
    return {name: impatient()(check) for name, check in checks.items()}


def _check_rounds(config: Config) -> None:
    """Raises UserError if `rounds: auto` has nothing to decide by; it would run `max_rounds` rounds then."""
    if config.rounds == "auto" and not evaluators.is_measured(config):
        raise UserError(
            "rounds=auto ends a run by what is measured after each round, and nothing is; set evaluation.holdout (with data of "
            "your own), evaluation.pairs or evaluation.benchmarks, or a number of rounds"
        )


def _check_local_resources(config: Config) -> None:
    where = f"the local cluster (cluster.cpus={config.cluster.cpus})"
    resource_plan.check(config, resource_plan.of_this_machine(config), where)


def _check_critic(config: Config) -> None:
    check_model("critic.model", config.critic.model)
    check_packing("critic.model", config.critic.model, config.train)
    if config.train.lora.rank:
        check_adapters("critic.model", config.critic.model, config.train)


def _check_foreign_images(config: Config) -> Remarks:
    """A remark about shipped models, which are to look at other images than those that they have learned from."""
    models = {"critic.model": config.critic.model, "experts.detector.model": config.experts.detector.model}
    if config.policy.samples:
        models = {"policy.model": config.policy.model} | models
    shipped = [key for key, name in models.items() if name.startswith(ASSETS)]
    if not shipped:
        return ()
    names = f"{', '.join(shipped[:-1])} and {shipped[-1]} know" if shipped[1:] else f"{shipped[0]} knows"
    return (f"{names} only the embedded scenes; see docs/own-data.md#models-for-photographs",)


def _check_extractor(config: Config) -> None:
    """Check that the configured claim extractor can work."""
    if config.experts.extractor == "llm":
        if config.policy.engine.kind != "vllm":
            raise UserError(
                f"experts.extractor=llm needs policy.engine.kind=vllm, got {config.policy.engine.kind}: no other engine "
                "can constrain answers to a JSON schema; set either key"
            )
        key, model = "experts.extractor_model", config.experts.extractor_model
        if model:
            check_model(key, model)
        own = (key, model) if model else ("policy.model", config.policy.model)
        check_positions(*own, EXTRACTOR_TOKENS, f"experts.extractor=llm with {key}='{model}'")
    if config.experts.extractor == "parse":
        installed_model()


def _check_calibrations(config: Config, verifier: Verifier) -> Remarks:
    """Remarks about experts without a calibration; raises UserError if no expert may decide a pair."""
    experts, known = config.experts, verifier.calibrations
    missing = [] if known.detector else ["experts.detector"]
    missing += ["experts.reader"] if experts.reader.enabled and known.reader is None else []
    if not missing:
        return ()
    names, have = " and ".join(missing), "have" if len(missing) > 1 else "has"
    if known.uncalibrated:
        return (f"{names} {have} no calibration; experts.uncalibrated=allow lets raw scores decide pairs",)
    readable = experts.reader.enabled and known.reader is not None
    if config.pairing.labels == "experts" and known.detector is None and not readable:
        raise UserError(
            f"{names} {have} no calibration, so no pair could be made; measure one with `python jobs/evaluate.py "
            "calibrate`, or set experts.uncalibrated=allow to decide by raw scores"
        )
    return (f"{names} {have} no calibration; claims that need it stay unverifiable (experts.uncalibrated=refuse)",)


def _check_prompts(config: Config) -> Remarks:
    """Remarks about the prompts; raises UserError if there is nobody and nothing to give responses."""
    name, responses = config.prompts.source, False
    remarks: Remarks = ()
    if name != prompts.SCENES:
        source = prompts.source_of(config)
        remarks, responses = source.remarks, source.given.num_rows > 0
        if len(source) < config.most_prompts:
            count = f"{len(source)} prompt{'' if len(source) == 1 else 's'}"
            remarks += (
                f"prompts.source has {count}, fewer than prompts.per_round ({config.most_prompts}); such a round takes all",
            )
    if not config.policy.samples and not responses:
        raise UserError(
            f"policy.samples is 0, and no row of prompts.source {redacted(name)} brings responses (column 'responses'), so "
            "there are no responses to check; set policy.samples to 1 or more, or give a file with responses"
        )
    return remarks


def _check_experts(experts: Experts) -> Verifier:
    """Verifier of the experts; raises UserError if a model's file is missing or a calibration is of another model."""
    detector, reader = experts.detector.model, experts.reader
    if is_checkpoint(detector):
        checkpoint = Path(_located("experts.detector.model", partial(detector_path, experts.detector)))
        if not checkpoint.is_file():
            raise UserError(f"experts.detector.model: there is no file {detector}; give a YOLO checkpoint (.pt, .onnx)")
        refuse_pointers("experts.detector.model", checkpoint)
    else:
        check_hub_name("experts.detector.model", detector)
        check_zero_shot(experts.detector)
        check_no_pointers("experts.detector.model", detector)
    for key, locate in (("detection_model", detection_folder), ("recognition_model", recognition_folder)):
        if not reader.enabled:
            continue
        folder = _located(f"experts.reader.{key}", partial(locate, reader))
        if not Path(folder, "inference.yml").is_file():
            raise UserError(
                f"experts.reader.{key}: {folder} holds no inference.yml; give a PaddleOCR model folder, or leave the key "
                "empty for PaddleOCR's default model"
            )
        refuse_pointers(f"experts.reader.{key}", Path(folder))
    if reader.enabled and reader.engine == "onnxruntime" and reader.pool.gpus > 0:
        _check_onnxruntime_on_gpus()
    return Verifier.from_config(experts)


def _check_onnxruntime_on_gpus() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise UserError(
            "experts.reader.pool.gpus is above 0, but the installed onnxruntime has no GPU support: set "
            "experts.reader.pool.gpus=0, install onnxruntime-gpu in its place, or set experts.reader.engine=paddle"
        )


def _check_hub_models(config: Config) -> Remarks:
    """Remarks about models of the Hugging Face hub that are not in this node's cache of it; with `offline` they raise UserError."""
    from huggingface_hub import constants, try_to_load_from_cache

    remarks: Remarks = ()
    for key, name in _hub_models(config).items():
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            continue
        if config.offline:
            raise UserError(
                f"{key}: config.json of {name} is not in the cache of the Hugging Face hub on this node "
                f"({constants.HF_HUB_CACHE}), and offline is true; fetch the model there, give a folder, or set offline=false"
            )
        remarks += (
            f"{key}: there is no folder {name}, so it is a name of the Hugging Face hub: fetched when engines start, not "
            "checked; give a folder to have it checked",
        )
    return remarks


def _hub_models(config: Config) -> dict[str, str]:
    """The models that are named on the Hugging Face hub, by their keys; raises UserError for what cannot be such a name."""
    names = {"policy.model": config.policy.model if config.policy.samples else "", "critic.model": config.critic.model}
    if config.experts.extractor == "llm":
        names["experts.extractor_model"] = config.experts.extractor_model
    if not is_checkpoint(config.experts.detector.model):
        names["experts.detector.model"] = config.experts.detector.model
    for key, name in names.items():
        check_hub_name(key, name)
    return {key: name for key, name in names.items() if is_hub_name(name)}


def _located(key: str, locate: Callable[[], str]) -> str:
    """Result of `locate`, with the key in its errors."""
    try:
        return locate()
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


@impatient()
def check_images(config: Config, ledger: Ledger) -> None:
    """Check that at least one image of the prompts can be opened, unless all rounds have their data already.

    It stops at the first usable image, or after `IMAGE_CHECK_SECONDS`. With a cluster elsewhere it does nothing,
    because only the cluster's machines may have the images.

    Raises:
        UserError: none of the images can be opened.
        StorageError: the storage of all that were tried cannot be reached.
    """
    gathered = all(ledger.result(round_, "select") is not None for round_ in range(1, config.most_rounds + 1))
    if gathered or address_of(config) or config.prompts.source == prompts.SCENES:
        return
    refs = prompts.source_of(config)
    hosts = config.prompts.allow_hosts
    reasons: Counter[str] = Counter()
    away: list[StorageError] = []
    first, start = "", time.monotonic()
    for ref in refs:
        problem = ref.problem or _image_problem(ref.image, hosts, away)
        if not problem:
            return
        reasons[problem] += 1
        first = first or f"{ref.image}, {ref.question[:60]!r}: {problem}"
        if time.monotonic() - start > IMAGE_CHECK_SECONDS:
            break
    if away and len(away) == reasons.total():
        raise away[0]
    if reasons.total() < len(refs):
        return  # the time is over
    counts = row_accounting.counts_text(reasons, len(refs))
    raise UserError(
        f"no prompt of prompts.source {config.prompts.source} can be used: {counts} prompts (first: {first}); "
        f"{remedies.for_prompts(reasons.most_common(1)[0][0])}"
    )


def _image_problem(image: str, hosts: Collection[str], away: list[StorageError]) -> str:
    """Why an image cannot be used; "" if it can, or if it is inside a row or on an allowed host of the web.

    The error of a storage that cannot be reached is added to `away`.
    """
    try:
        if not image.startswith(EMBEDDED) and not (hosts and is_web(image)):
            validate_image(image)
    except BadImage as error:
        return str(error)
    except StorageError as error:
        away.append(error)
        return UNREADABLE
    return ""
