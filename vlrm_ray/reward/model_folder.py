"""Checks of a model folder that are possible before any engine loads it. They read headers, not weights.

Of a folder given by a URI only the small files and the weights' headers are fetched.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlrm_ray.config import Config, Train, asset_path
from vlrm_ray.errors import StorageError, UserError
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.store.filesystem import is_remote, redacted
from vlrm_ray.store.models import check_hub_name, is_hub_name, portable, skeleton
from vlrm_ray.types import NO, YES

CARD = "vlrm_reward.json"
"""A published reward model's card: its prompt templates, its label tokens and how its reward is computed."""
SCORING = {
    "max_pixels": "prompts.max_pixels",
    "max_tokens": "critic.max_tokens",
    "max_model_len": "critic.engine.max_model_len",
    "label_mass": "selection.label_mass",
}
"""The card's entry `scoring`: the values of the run that a reward depends on, by name, with their configuration keys."""
JSON_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
)
"""JSON files of a model folder that engines read, if they are there."""
VOCABULARIES = ("vocab.json", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
"""Files of a tokenizer without tokenizer.json, which transformers converts."""
BIDIRECTIONAL_IMAGES = ("gemma3", "paligemma")
"""Types of models whose tokens of an image attend to each other in both directions; newer ones say so in a key."""
_POINTER = b"version https://git-lfs."


def check_model(key: str, name: str) -> None:
    """Check that a folder holds a usable model; of a hub name only its form is checked.

    Args:
        key: configuration key, for the error message.
        name: value of that key: a reference as in `vlrm_ray.store.models`.

    Raises:
        UserError: if a file is missing, cut off, not readable or a Git LFS pointer, if the tokenizer has no single
            tokens for Yes and No, or if there is no folder and the name cannot be one of the hub.
    """
    check_hub_name(key, name)
    if is_remote(name):
        _check_remote(key, name, _check_folder)
        return
    if not is_hub_name(name):
        _check_folder(key, Path(asset_path(portable(name))))


def check_positions(key: str, name: str, tokens: int, purpose: str) -> None:
    """Check that a model in a local folder takes sequences of some length; other names are not checked.

    Args:
        key: configuration key, for the error message.
        name: value of that key.
        tokens: tokens that a sequence may have.
        purpose: what needs them, for the error message.

    Raises:
        UserError: it has fewer positions.
    """
    file = Path(asset_path(portable(name)), "config.json")
    if is_remote(name) or not file.is_file():
        return
    content = _read_json(key, file)
    positions = content.get("max_position_embeddings") or content.get("text_config", {}).get("max_position_embeddings")
    if isinstance(positions, int) and positions < tokens:
        raise UserError(f"{key}: {name} has {positions} positions, and {purpose} needs {tokens}; set another model")


def check_packing(key: str, name: str, settings: Train) -> None:
    """Check by the configuration of a model that its sequences can be packed; a hub name is not checked.

    Args:
        key: configuration key of the model, for messages.
        name: value of that key, which `check_model` has accepted.
        settings: the section `train`.

    Raises:
        UserError: see `refuse_packing`.
    """

    def check(key: str, folder: Path) -> None:
        refuse_packing(f"{key}: {folder}", _read_json(key, folder / "config.json"), settings)

    if is_remote(name):
        _check_remote(key, name, check)
    elif (path := Path(asset_path(portable(name)))).exists():
        check(key, path)


def refuse_packing(model: str, content: Mapping[str, Any], settings: Train) -> None:
    """Refuse `train.packing` for attention that packed sequences do not have.

    Args:
        model: the model, for messages.
        content: content of its config.json.
        settings: `packing`, and `max_tokens`: a sliding window that holds so many tokens leaves none out.

    Raises:
        UserError: tokens of images attend to later ones, or layers have a shorter window or no attention at all.
    """
    if not settings.packing:
        return
    text = {**content, **(content.get("text_config") or {})}
    window, limit = text.get("sliding_window") or 0, settings.max_tokens
    kinds = text.get("layer_types") or ["sliding_attention" if window and text.get("use_sliding_window", True) else ""]
    problem = ""
    if content.get("model_type") in BIDIRECTIONAL_IMAGES or text.get("use_bidirectional_attention"):
        problem = "its images attend in both directions"
    elif other := sorted({*kinds} - {"", "full_attention", "sliding_attention"}):
        problem = f"it has layers of {other[0]}"
    elif "sliding_attention" in kinds and window < limit:
        problem = f"its sliding window of {window} tokens is shorter than train.max_tokens={limit}"
    if problem:
        raise UserError(f"{model} cannot be trained with packed sequences, because {problem}; set train.packing=false")


def check_adapters(key: str, name: str, settings: Train) -> None:
    """Check that `train.lora.targets` matches linear layers of a model; a hub name is not checked.

    It imports transformers and builds the model without weights.

    Args:
        key: configuration key of the model, for messages.
        name: value of that key, which `check_model` has accepted.
        settings: the section `train`, with LoRA.

    Raises:
        UserError: the expression matches no layer that is trained, or something else than a linear layer.
    """

    def check(_: str, folder: Path) -> None:
        import torch

        from vlrm_ray.reward.training.sharded_model import meta_model

        meta_model(str(folder), settings, torch.device("cpu"))

    if is_remote(name):
        _check_remote(key, name, check)
    elif (path := Path(asset_path(portable(name)))).exists():
        check(key, path)


def _check_remote(key: str, uri: str, check: Callable[[str, Path], None]) -> None:
    """Check the skeleton of a folder; errors name its URI."""
    try:
        with model_files(uri) as folder:
            check(key, folder)
    except StorageError as error:
        raise UserError(f"{key}: {error}") from None


@contextmanager
def model_files(reference: str, names: Collection[str] = ()) -> Iterator[Path]:
    """Context manager: the folder of a model, or a skeleton of a remote one; errors that arise in it name the remote one's URI.

    Args:
        reference: reference to the model (see `vlrm_ray.store.models`), which is no hub name.
        names: names of the files of a remote model that are needed, if they are there; all files without them.

    Raises:
        StorageError: a remote folder does not exist or cannot be read.
    """
    if not is_remote(reference):
        yield Path(asset_path(portable(reference)))
        return
    with skeleton(reference, names) as folder:
        try:
            yield folder
        except UserError as error:
            raise UserError(str(error).replace(str(folder), redacted(reference))) from None


def _check_folder(key: str, folder: Path) -> None:
    if (folder / "versions").is_dir():
        newest = max((entry.name for entry in (folder / "versions").iterdir() if entry.is_dir()), default="0001")
        raise UserError(
            f"{key}: {folder} is the folder of a run; give one of its versions, such as {folder}/versions/{newest}"
        )
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{key}: {folder} is not a Hugging Face model folder (no config.json); give a folder or a hub name"
        )
    contents = {file: _read_json(key, folder / file) for file in JSON_FILES if (folder / file).exists()}
    if not list(folder.glob("*.safetensors")) and not list(folder.glob("*.safetensors.index.json")):
        raise UserError(
            f"{key}: {folder} holds no .safetensors weights; convert them first (pickled weights are not loaded)"
        )
    _check_labels(key, folder)
    if "vision_config" in contents["config.json"] and not contents.keys() & {JSON_FILES[2], JSON_FILES[3]}:
        raise UserError(
            f"{key}: {folder} has no {JSON_FILES[2]} or {JSON_FILES[3]} for its images; download the missing file"
        )
    _check_weights(key, folder)


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card of a published reward model; None for any other model.

    Raises:
        UserError: the card is damaged, or names an unknown critique format.
    """
    file = folder / CARD
    if not file.is_file():
        return None
    try:
        card: dict[str, Any] = json.loads(file.read_text())
        critique_format = card["critique_format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is not a valid reward model card: expected JSON with critique_format, got {error!r}; "
            "publish the model again or remove the file"
        ) from None
    if critique_format not in FORMATS:
        raise UserError(f"{file}: critique_format: expected one of {', '.join(FORMATS)}, got {critique_format!r}")
    return card


def card_scoring(config: Config) -> dict[str, float]:
    """The values of a run that its reward depends on, for the card; see `SCORING`."""
    return {
        "max_pixels": config.prompts.max_pixels,
        "max_tokens": config.critic.max_tokens,
        "max_model_len": config.critic.engine.max_model_len,
        "label_mass": config.selection.label_mass,
    }


def scoring_of(card: Mapping[str, Any], source: str) -> dict[str, float]:
    """What `card_scoring` wrote into a card; empty for a card that has none.

    Raises:
        UserError: the entry is damaged; `source` names the card in the message.
    """
    found = card.get("scoring", {})
    wrong = not isinstance(found, dict) or any(
        isinstance(found.get(name, 1), bool) or not isinstance(found.get(name, 1), int | float) for name in SCORING
    )
    if wrong:
        raise UserError(f"{source}: scoring: expected numbers for {', '.join(SCORING)}; publish the model again")
    return {name: found[name] for name in SCORING if name in found}


def check_no_pointers(key: str, name: str) -> None:
    """Check that the files of a model are not Git LFS pointers, unless it is given by a hub name; raises UserError."""
    if is_remote(name):
        _check_remote(key, name, refuse_pointers)
    elif (path := Path(asset_path(portable(name)))).exists():
        refuse_pointers(key, path)


def refuse_pointers(key: str, path: Path) -> None:
    """Check that a file, or the files of a folder, are not Git LFS pointers; raises UserError for the first one."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file() and _is_pointer(file):
            raise UserError(
                f"{key}: {file} is a Git LFS pointer, not {_content(file)}; run `git lfs pull` in its repository, or "
                "download it again"
            )


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(_POINTER)) == _POINTER


def _content(file: Path) -> str:
    return "its content" if file.suffix in (".json", ".yml", ".txt", ".jinja") else "weights"


def _read_json(key: str, file: Path) -> dict[str, Any]:
    refuse_pointers(key, file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{key}: {file} cannot be read as JSON: {error}; restore the file") from None
    if not isinstance(content, dict):
        raise UserError(f"{key}: {file} holds a {type(content).__name__}, not a JSON object; restore the file")
    return content


def _check_weights(key: str, folder: Path) -> None:
    """Check the headers of the weight files, and that no shard is missing."""
    indices = sorted(folder.glob("*.safetensors.index.json"))
    tensors = {file.name: _tensor_names(key, file) for file in sorted(folder.glob("*.safetensors"))}
    for index in indices:
        shards = _read_json(key, index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise UserError(f"{key}: {index} has no weight_map from tensors to files; download it again")
        _refuse_missing(key, folder, sorted(set(shards.values()) - tensors.keys()), f"{index.name} names")
        for tensor, shard in shards.items():
            if tensor not in tensors[shard]:
                raise UserError(
                    f"{key}: {folder / shard} lacks the tensor {tensor} that {index.name} places in it; download both again"
                )
    for name in tensors:
        if part := re.fullmatch(r"(.*-)(\d+)-of-(\d+)\.safetensors", name):
            prefix, width, count = part[1], len(part[2]), int(part[3])
            wanted = [f"{prefix}{number:0{width}d}-of-{part[3]}.safetensors" for number in range(1, count + 1)]
            _refuse_missing(key, folder, [file for file in wanted if file not in tensors], f"{name} belongs to")


def _refuse_missing(key: str, folder: Path, files: Sequence[str], why: str) -> None:
    if files:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        raise UserError(f"{key}: {folder} lacks {files[0]}{more}, which {why}; download the missing files")


def _tensor_names(key: str, file: Path) -> set[str]:
    """Names of the tensors in a weight file, whose header must fit the file's size."""
    from safetensors import SafetensorError, safe_open

    try:
        refuse_pointers(key, file)
        with safe_open(file, "np") as weights:
            return set(weights.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{key}: {file} is not a complete safetensors file ({_one_line(error)}); download it again"
        ) from None


def _check_labels(key: str, folder: Path) -> None:
    encode = _load_tokenizer(key, folder)
    for word in (YES, NO):
        if not any(len(encode(text)) == 1 for text in (word, f" {word}")):
            raise UserError(
                f"{key}: the tokenizer of {folder} has no single token for '{word}'; choose a model that has one"
            )


def _load_tokenizer(key: str, folder: Path) -> Callable[[str], list[int]]:
    """Function that returns the token ids of a text."""
    file = folder / "tokenizer.json"
    if not file.exists():
        return _load_converted_tokenizer(key, folder)
    refuse_pointers(key, file)
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise UserError(
            f"{key}: {file} cannot be read: {_one_line(error)}; download it again, or install a newer version of the "
            "tokenizers package"
        ) from None
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def _load_converted_tokenizer(key: str, folder: Path) -> Callable[[str], list[int]]:
    """The same for a folder without tokenizer.json: transformers converts older formats."""
    if not any((folder / name).exists() for name in VOCABULARIES):
        raise UserError(f"{key}: {folder} has no tokenizer (no tokenizer.json); copy the files of its tokenizer there")
    refuse_pointers(key, folder)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each kind of tokenizer raises its own types
        raise UserError(
            f"{key}: {folder} has no tokenizer.json, and its older tokenizer cannot be loaded ({_one_line(error)}); add "
            "a tokenizer.json"
        ) from None
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
