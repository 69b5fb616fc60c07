"""A chat has one token for its beginning (BOS), whether the chat template writes it or leaves it to the tokenizer."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vlrm_ray import torchvision_shim
from vlrm_ray.config import asset_path
from vlrm_ray.engines import EngineSettings, Request, chat_tokenization
from vlrm_ray.reward.training.examples import Example

torchvision_shim.install()

from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402

from vlrm_ray.reward.publish import write_folder  # noqa: E402
from vlrm_ray.reward.training.collator import BLANK, Collator  # noqa: E402
from vlrm_ray.reward.training.losses import positions_of  # noqa: E402
from vlrm_ray.reward.transformers_engine import TransformersEngine  # noqa: E402

BOS, BOS_ID = "<pad>", 0
"""A token of the tiny model, whose own tokenizer has none for the beginning."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two models with a tokenizer that begins each text with BOS; the chat template of the first one writes it too."""
    made = {}
    for name, beginning in (("written", BOS), ("added", "")):
        folder = Path(shutil.copytree(asset_path("assets:vlm"), tmp_path_factory.mktemp("models") / name))
        change_json(folder / "tokenizer_config.json", bos_token=BOS)
        first = {"SpecialToken": {"id": BOS, "type_id": 0}}
        change_json(
            folder / "tokenizer.json",
            post_processor={
                "type": "TemplateProcessing",
                "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {BOS: {"id": BOS, "ids": [BOS_ID], "tokens": [BOS]}},
            },
        )
        template = folder / "chat_template.jinja"
        template.write_text(beginning + template.read_text())
        made[name] = str(folder)
    return made


def change_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_the_trainer_learns_from_sequences_with_one_beginning(folders: dict[str, str]) -> None:
    found = []
    for folder in folders.values():
        positions = positions_of(AutoModelForImageTextToText.from_pretrained(folder))
        collator = Collator(
            AutoProcessor.from_pretrained(folder), folder, positions, judgement_weight=8.0, max_tokens=1000
        )
        (tree,) = collator.pair("a", [Example("What is left?", "A star.", False)], BLANK).trees
        found.append(tree.ids.tolist())
    assert found[0] == found[1]
    assert (found[0][0], found[0].count(BOS_ID)) == (BOS_ID, 1)


def test_an_engine_and_the_canary_see_one_beginning(folders: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    BLANK.save(image)
    requests = [Request("What is left? Yes or No.", uri) for uri in (None, str(image))]
    scores, canaries = [], []
    for name, folder in folders.items():
        engine = TransformersEngine(EngineSettings("transformers", folder, "float32", 512, 8, 64, 0.5, 0, 1))
        scores.append([score.yes for score in engine.score(requests)])
        write_folder(engine.model, engine.processor, tmp_path / name, "compact", {})
        canaries.append(json.loads((tmp_path / name / "vlrm_reward.json").read_text())["canary"]["yes"])
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
    assert canaries[0] == pytest.approx(canaries[1], rel=1e-4)


def test_the_tokenizer_of_a_model_without_such_a_token_is_used_as_it_is() -> None:
    tokenizer = AutoProcessor.from_pretrained(asset_path("assets:vlm")).tokenizer
    assert tokenizer.bos_token is None
    assert chat_tokenization(tokenizer, "<|user|>What?") == {}
