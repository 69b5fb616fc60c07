"""Preflight checks of a run's inputs: resources, models, checkpoints and prompts."""

from pathlib import Path

from vlrm_ray.config import Config, asset_path, is_checkpoint
from vlrm_ray.errors import UserError
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline import prompts, resource_plan
from vlrm_ray.pipeline.cluster import address_of
from vlrm_ray.reward.model_folder import check_model


def check_inputs(config: Config) -> None:
    """Check everything that can be checked before Ray and the engines start.

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
    Verifier.from_config(config.experts)
    if config.prompts.source != prompts.SCENES:
        prompts.read_prompts(config.prompts.source, config.prompts.question)
