"""What can be checked before anything starts: models, checkpoints, prompts."""

import json
from pathlib import Path

from vlrm_ray import plan, prompts
from vlrm_ray.cluster import address_of
from vlrm_ray.config import ASSETS, Config, asset_path, is_checkpoint
from vlrm_ray.critique import NO, YES
from vlrm_ray.errors import UserError
from vlrm_ray.verify import Verifier


def check_inputs(config: Config) -> None:
    """Raise UserError for the first input that cannot work."""
    if not address_of(config):
        plan.check(config, {"CPU": config.cluster.cpus}, f"cluster.cpus={config.cluster.cpus} on this machine")
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
    for key, folder in (("finder", reader.finder), ("reader", reader.reader)):
        if reader.enabled and folder and not Path(asset_path(folder), "inference.yml").is_file():
            raise UserError(
                f"experts.reader.{key}: {asset_path(folder)} holds no inference.yml; give a PaddleOCR model folder, or leave it empty"
            )
    Verifier.of(config.experts)
    if config.prompts.source != prompts.SCENES:
        prompts.read(config.prompts.source, config.prompts.question)


def check_model(key: str, name: str) -> None:
    """A local folder must hold a model with labels; a hub name is left to the engine. Raises UserError."""
    folder = Path(asset_path(name))
    local = name.startswith((ASSETS, ".", "/", "~")) or folder.exists()
    if not local:
        return
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{key}: {folder} is not a Hugging Face model folder (no config.json); give a folder or a hub name"
        )
    try:
        json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{key}: {folder}/config.json is not readable: {error}") from None
    if not list(folder.glob("*.safetensors")):
        raise UserError(
            f"{key}: {folder} holds no .safetensors weights; convert them first (pickled weights are not loaded)"
        )
    if (folder / "tokenizer.json").is_file():
        _check_labels(key, folder)


def _check_labels(key: str, folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for word in (YES, NO):
        if not any(len(tokenizer.encode(text, add_special_tokens=False).ids) == 1 for text in (word, f" {word}")):
            raise UserError(
                f"{key}: the tokenizer of {folder} has no single token for '{word}'; choose a model that does"
            )
