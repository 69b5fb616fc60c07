"""Scoring responses: how a model is asked, how its answers become a score, and what is refused."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.published import QUESTION, publish
from tests.s3_server import S3Server
from vlrm_ray.config import load as load_config
from vlrm_ray.engines import Completion
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks.setup import judge_from_folder
from vlrm_ray.preferences.critique import COMPACT
from vlrm_ray.reward import RewardModel, reward_model
from vlrm_ray.reward.model_folder import card_scoring
from vlrm_ray.reward.scoring import BadItem, Scoring
from vlrm_ray.reward.temperature_scaling import calibrated_reward
from vlrm_ray.reward.transformers_engine import TransformersEngine
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import UNBIASED_WORLD

TEMPERATURE = 3.0
RESPONSE = "There is a red circle."


def scoring(k: int = 1, temperature: float | None = None, with_texts: bool = False) -> Scoring:
    return Scoring.create(COMPACT, k, 120, 0.8, 0.5, temperature, with_texts=with_texts)


def judged(yes: float, no: float, word: str = "Yes") -> Completion:
    return Completion(f"Seen: red circle. Check: yes. Judgement: {word}", yes, no)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "scene.png"
    paint(UNBIASED_WORLD.sample(5)).image.save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> RewardModel:
    folder = publish(tmp_path_factory.mktemp("run") / "versions" / "0001", TEMPERATURE)
    return RewardModel.load(str(folder), device="cpu", batch_size=4)


def test_the_package_is_imported_without_torch() -> None:
    code = "import sys, vlrm_ray.reward; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_reward_is_the_mean_of_the_calibrated_rewards_of_the_usable_critiques() -> None:
    answers = [judged(0.9, 0.1), judged(0.3, 0.6, "No"), judged(0.1, 0.1), Completion("Seen: nothing.", 0.9, 0.1)]
    score = scoring(4, TEMPERATURE, with_texts=True).score(answers)
    expected = [calibrated_reward(0.9, 0.1, TEMPERATURE), calibrated_reward(0.3, 0.6, TEMPERATURE)]
    assert score.reward == pytest.approx(sum(expected) / 2)
    assert score.critique_rewards == (*map(pytest.approx, expected), None, None)
    assert score.label_mass == pytest.approx((1 + 0.9) / 2)
    assert score.critiques == tuple(answer.text for answer in answers)
    assert scoring(4).score(answers).reward == pytest.approx((0.9 + 1 / 3) / 2)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Completion("", refused="image_missing"), "image_missing"),
        (Completion("Seen: nothing."), "no_judgement"),
        (judged(0.2, 0.2), "label_mass"),
        (judged(math.nan, 0.5), "reward_not_finite"),
    ],
)
def test_an_answer_that_does_not_count_gives_a_reason(answer: Completion, reason: str) -> None:
    score = scoring().score([answer])
    assert (score.reward, score.label_mass, score.reason) == (None, None, reason)
    assert set(score.critique_rewards) <= {None}


def test_a_judgement_without_a_critique_is_not_calibrated() -> None:
    direct = scoring(0, TEMPERATURE)
    score = direct.score([Completion("", 0.6, 0.2)])
    assert (score.reward, score.label_mass) == (pytest.approx(0.75), pytest.approx(0.8))
    assert direct.request("a.png", QUESTION, RESPONSE).text == COMPACT.direct_prompt(QUESTION, RESPONSE)


@pytest.mark.parametrize(
    ("image", "question", "response", "reason"),
    [
        (None, "What?", "A dog.", "image_not_given"),
        (["a.png", "b.png"], "What?", "A dog.", "several_images"),
        (np.zeros((8, 8, 3)), "What?", "A dog.", "image_not_a_path"),
        ([np.zeros((8, 8, 3))], "What?", "A dog.", "image_not_a_path"),
        ("a\0.png", "What?", "A dog.", "image_path_not_text"),
        ("a.png", None, "A dog.", "question_missing"),
        ("a.png", "What?", " ", "response_missing"),
        ("a.png", "What?", 3, "response_not_text"),
    ],
)
def test_an_item_that_cannot_be_sent_gives_a_reason(image: Any, question: Any, response: Any, reason: str) -> None:
    with pytest.raises(BadItem, match=f"^{reason}$"):
        scoring().request(image, question, response)


def test_an_image_in_any_form_gives_the_same_reward(model: RewardModel, image: Path) -> None:
    pixels = Image.open(image).convert("RGB")
    turned, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    pixels.transpose(Image.Transpose.ROTATE_90).save(turned, "PNG", exif=exif)
    forms: list[Any] = [str(image), image, image.as_uri(), image.read_bytes(), pixels, turned.getvalue()]
    forms += [Image.open(turned), [pixels], (str(image),)]
    scores = model.score(forms, [QUESTION] * len(forms), [RESPONSE] * len(forms), critiques=True)
    assert all(score.reward is not None for score in scores)
    assert {score.critiques for score in scores} == {scores[0].critiques}
    assert [score.reward for score in scores] == pytest.approx([scores[0].reward] * len(scores), abs=1e-3)


def test_one_bad_item_does_not_fail_the_others(model: RewardModel, image: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    images = [image, tmp_path / "none.png", broken, image, "https://example.org/a.png"]
    responses = [RESPONSE, RESPONSE, RESPONSE, "word " * 3000, RESPONSE]
    for k in (0, 1, 2):
        scores = model.score(images, [QUESTION] * 5, responses, k=k)
        assert [score.reason for score in scores] == [
            "", "image_missing", "image_undecodable", "longer_than_the_model_takes", "image_url_not_fetched",
        ]  # fmt: skip
        assert 0 < (scores[0].reward or 0) < 1
        assert not scores[0].critiques


def test_sampled_critiques_are_averaged_and_leave_the_random_state_alone(model: RewardModel, image: Path) -> None:
    import torch

    before = torch.get_rng_state()
    (score,) = model.score([image], [QUESTION], [RESPONSE], k=3, critiques=True)
    assert len(score.critiques) == 3
    assert bool((torch.get_rng_state() == before).all())
    assert model.score([image], [QUESTION], [RESPONSE], k=3, critiques=True) == [score]


def test_sampled_critiques_do_not_depend_on_what_else_is_scored(model: RewardModel, image: Path) -> None:
    (alone,) = model.score([image], [QUESTION], [RESPONSE], k=2, critiques=True)
    others = ["A dog.", "There are three blue squares and a star."]
    beside = model.score([image] * 3, [QUESTION] * 3, [others[0], RESPONSE, others[1]], k=2, critiques=True)[1]
    assert beside.critiques == alone.critiques
    assert beside.reward == pytest.approx(alone.reward, abs=1e-3)


def test_the_values_of_the_run_are_those_of_the_card_unless_others_are_given(tmp_path: Path) -> None:
    folder = publish(tmp_path / "0001")
    card = json.loads((folder / "vlrm_reward.json").read_text())
    config = load_config(None, ["prompts.max_pixels=50176", "critic.max_tokens=77", "selection.label_mass=0.9"])
    (folder / "vlrm_reward.json").write_text(json.dumps({**card, "scoring": card_scoring(config)}))
    model = RewardModel.load(str(folder), device="cpu", label_mass=0.7)
    assert (model.max_tokens, model.label_mass) == (77, 0.7)
    assert isinstance(model.engine, TransformersEngine)
    assert model.engine.settings.max_pixels == 50176
    judge = judge_from_folder(folder, None, 1, None, ["critic.max_tokens=60"]).config
    assert (judge.prompts.max_pixels, judge.critic.max_tokens, judge.selection.label_mass) == (50176, 60, 0.9)
    (folder / "vlrm_reward.json").write_text(json.dumps({**card, "scoring": {"max_tokens": "many"}}))
    with pytest.raises(UserError, match="scoring: expected numbers for max_pixels, max_tokens"):
        RewardModel.load(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("name", "rank", "device"),
    [
        ("auto", "", "cuda:1"),
        ("auto", "3", "cuda:3"),
        ("cuda", "2", "cuda:2"),
        ("cuda:0", "2", "cuda:0"),
        ("cpu", "2", "cpu"),
        ("auto", "7", "cuda:1"),
    ],
)
def test_each_process_of_a_launcher_takes_a_gpu_of_its_own(
    name: str, rank: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LOCAL_RANK is that of torchrun and accelerate. A process that sees one GPU only takes that one."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert reward_model.device_of(name) == device


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:0"])
def test_a_device_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"device='{name}'"):
        reward_model.device_of(name)


def test_generation_settings_of_the_base_model_have_no_effect(model: RewardModel, image: Path, tmp_path: Path) -> None:
    """vLLM's engine does not use them either. With `top_k` 1 all sampled critiques would be equal."""
    folder = publish(tmp_path / "0001", TEMPERATURE)
    file = folder / "generation_config.json"
    given = json.loads(file.read_text())
    file.unlink()  # a link
    file.write_text(json.dumps({**given, "do_sample": True, "repetition_penalty": 1.05, "top_k": 1}))
    other = RewardModel.load(str(folder), device="cpu", batch_size=4)
    for k in (1, 4):
        (score,) = other.score([image], [QUESTION], [RESPONSE], k=k, critiques=True)
        assert model.score([image], [QUESTION], [RESPONSE], k=k, critiques=True) == [score]
        assert len(set(score.critiques)) > 1 or k == 1


def test_the_logits_of_a_model_in_bfloat16_are_computed_in_float32(image: Path, tmp_path: Path) -> None:
    model = RewardModel.load(str(publish(tmp_path / "0001")), device="cpu", dtype="bfloat16")
    assert isinstance(model.engine, TransformersEngine)
    inner = model.engine.model
    assert {parameter.dtype for parameter in inner.model.parameters()} == {torch.bfloat16}
    logits: list[torch.Tensor] = []
    inner.get_output_embeddings().register_forward_hook(lambda layer, inputs, output: logits.append(output))
    (score,) = model.score([image], [QUESTION], [RESPONSE])
    assert score.reward is not None
    assert all(output.dtype == torch.float32 for output in logits)
    assert any(not torch.equal(output, output.bfloat16().float()) for output in logits), (
        "not computed in bfloat16 before"
    )


def test_a_version_in_an_object_store_is_fetched_and_scores_the_same(
    model: RewardModel, image: Path, s3: S3Server, tmp_path: Path
) -> None:
    folder = publish(tmp_path / "0001", TEMPERATURE)
    for file in folder.iterdir():
        s3.put(f"run/versions/0001/{file.name}", file.read_bytes())
    remote = RewardModel.load(s3.uri("run/versions/0001"), device="cpu")
    assert remote.score([image], [QUESTION], [RESPONSE]) == model.score([image], [QUESTION], [RESPONSE])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], ["b", "c"], ["d"]), "got 1 images, 2 questions, 1 responses"),
        (("a", "b", "c"), "one element per item"),
        ((["a"], ["b"], ["c"], -1), "k=-1: expected the number of critiques"),
        ((["a"], ["b"], ["c"], 0, True), "k=0 asks for a judgement without a critique"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(model: RewardModel, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.score(*arguments)


def test_what_is_no_reward_model_is_refused_in_one_line(tmp_path: Path) -> None:
    for uri, message in (
        (str(tmp_path / "none"), "folder not found; give the folder of a published version"),
        (str(tmp_path), "is not a Hugging Face model folder"),
        ("assets:vlm", "is no published reward model"),
        ("version:3", "folder not found"),
    ):
        with pytest.raises(UserError, match=message):
            RewardModel.load(uri)
    damaged = publish(tmp_path / "damaged")
    (damaged / "vlrm_calibration.json").write_text('{"temperature": 0}')
    with pytest.raises(UserError, match="expected JSON with a temperature above 0"):
        RewardModel.load(str(damaged), device="cpu")
