"""What can be checked before anything starts: models, checkpoints, prompts."""

from pathlib import Path

from vlrm_ray.config import Config, asset_path, is_checkpoint
from vlrm_ray.errors import UserError
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline import prompts, resource_plan
from vlrm_ray.pipeline.cluster import address_of
from vlrm_ray.reward.model_folder import check_model


def check_inputs(config: Config) -> None:
    """Raise UserError for the first input that cannot work."""
    if not address_of(config):
        resource_plan.check(config, {"CPU": config.cluster.cpus}, f"cluster.cpus={config.cluster.cpus} on this machine")
    for key, model in (("policy.model", config.policy.model), ("critic.model", config.critic.model)):
        check_model(key, model)
    if config.experts.extractor == "llm":
        if config.policy.engine.kind != "vllm":
            raise UserError(
                "experts.extractor=llm needs policy.engine.kind=vllm: no other engine holds answers to a JSON schema"
            )
        check_model("experts.extractor_model", config.experts.extractor_model)
    detector = asset_path(config.experts.detector.model)
    if is_checkpoint(detector) and not Path(detector).is_file():
        raise UserError(f"experts.detector.model: there is no file {detector}; give a local YOLO checkpoint")
    reader = config.experts.reader
    for key, folder in (
        ("detection_model", reader.detection_model),
        ("recognition_model", reader.recognition_model),
    ):
        if reader.enabled and folder and not Path(asset_path(folder), "inference.yml").is_file():
            raise UserError(
                f"experts.reader.{key}: {asset_path(folder)} holds no inference.yml; give a PaddleOCR model folder, or leave it empty"
            )
    Verifier.from_config(config.experts)
    if config.prompts.source != prompts.SCENES:
        prompts.read(config.prompts.source, config.prompts.question)
