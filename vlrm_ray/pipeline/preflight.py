"""Preflight checks of a run's inputs: resources, models, checkpoints and prompts."""

import time
from collections import Counter
from pathlib import Path

from vlrm_ray.config import Config, asset_path, is_checkpoint
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline import prompts, resource_plan, row_accounting
from vlrm_ray.pipeline.cluster import address_of
from vlrm_ray.reward.model_folder import check_model, refuse_pointers
from vlrm_ray.store.images import validate_image
from vlrm_ray.store.ledger import Ledger

IMAGE_CHECK_SECONDS = 20
"""Time limit of the search for a usable image."""


def check_inputs(config: Config) -> tuple[str, ...]:
    """Check everything that can be checked before Ray and the engines start.

    Returns:
        Remarks for the user about the prompts: files and rows that are left out.

    Raises:
        UserError: for the first input that cannot work.
    """
    if not address_of(config):
        resource_plan.check(
            config, {"CPU": config.cluster.cpus}, f"the local cluster (cluster.cpus={config.cluster.cpus})"
        )
    for key, model in (("policy.model", config.policy.model), ("critic.model", config.critic.model)):
        check_model(key, model)
    if config.experts.extractor == "llm":
        if config.policy.engine.kind != "vllm":
            raise UserError(
                f"experts.extractor=llm needs policy.engine.kind=vllm, got {config.policy.engine.kind}: no other engine "
                "can constrain answers to a JSON schema; set either key"
            )
        check_model("experts.extractor_model", config.experts.extractor_model)
    detector = asset_path(config.experts.detector.model)
    if is_checkpoint(detector) and not Path(detector).is_file():
        raise UserError(
            f"experts.detector.model: there is no file {detector}; give a local YOLO checkpoint (.pt, .onnx)"
        )
    if Path(detector).exists():
        refuse_pointers("experts.detector.model", Path(detector))
    reader = config.experts.reader
    for key, folder in (
        ("detection_model", reader.detection_model),
        ("recognition_model", reader.recognition_model),
    ):
        if reader.enabled and folder and not Path(asset_path(folder), "inference.yml").is_file():
            raise UserError(
                f"experts.reader.{key}: {asset_path(folder)} holds no inference.yml; give a PaddleOCR model folder, "
                "or leave the key empty for PaddleOCR's default model"
            )
        if reader.enabled and folder:
            refuse_pointers(f"experts.reader.{key}", Path(asset_path(folder)))
    Verifier.from_config(config.experts)
    if config.cache:
        Ledger(config.cache).check_writable()
    if config.prompts.source == prompts.SCENES:
        return ()
    return prompts.read_source(config.prompts.source, config.prompts.question).remarks


def check_images(config: Config, ledger: Ledger) -> None:
    """Check that at least one image of the prompts can be opened, unless all rounds have their data already.

    It stops at the first usable image, or after `IMAGE_CHECK_SECONDS`. With a cluster elsewhere it does nothing,
    because only the cluster's machines may have the images.

    Raises:
        UserError: none of the images can be opened.
    """
    gathered = all(ledger.result(round_, "select") is not None for round_ in range(1, config.rounds + 1))
    if gathered or address_of(config) or config.prompts.source == prompts.SCENES:
        return
    refs = prompts.read_prompts(config.prompts.source, config.prompts.question)
    reasons: Counter[str] = Counter()
    first, start = "", time.monotonic()
    for ref in refs:
        problem = ref.problem or _image_problem(ref.image)
        if not problem or time.monotonic() - start > IMAGE_CHECK_SECONDS:
            return
        reasons[problem] += 1
        first = first or f"{ref.image}, {ref.question[:60]!r}"
    counts = row_accounting.counts_text(reasons, len(refs))
    raise UserError(
        f"no prompt of prompts.source {config.prompts.source} can be used: {counts} prompts (first: {first}); "
        f"{prompts.remedy(reasons.most_common(1)[0][0])}"
    )


def _image_problem(image: str) -> str:
    """Why an image cannot be used; "" if it can, or if it is inside a row."""
    try:
        if not image.startswith(prompts.EMBEDDED):
            validate_image(image)
    except BadImage as error:
        return str(error)
    return ""
