"""How a reward model is asked about a response, and how its answers become a score.

    k critiques    the prompt `ask` of the card; the reward is the mean over the usable critiques (k = 1: greedy decoding)
    k = 0          the prompt `ask_direct`: Yes or No without a critique, by one forward pass

A critique is usable if its probabilities are finite, its judgement can be read and p(Yes) + p(No) is large enough, as in
the selection of training pairs. Training and calibration are about critiques, so only their rewards are calibrated.
"""

import base64
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from vlrm_ray.config import Critic
from vlrm_ray.engines import Completion, Request, Sampling, scored_critique
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.ids import seed_of
from vlrm_ray.preferences.critique import DETAILED, CritiqueFormat
from vlrm_ray.preferences.selection import usable_critiques
from vlrm_ray.reward.temperature_scaling import calibrated_reward
from vlrm_ray.store.images import is_uri
from vlrm_ray.store.row_files import embedded_image, image_reference, is_base64
from vlrm_ray.store.row_formats import is_valid_text
from vlrm_ray.types import NO, YES, ScoredCritique

LARGE_MODEL_TOKENS = (768, 8192)
"""Tokens of a critique, and of prompt and critique together, in the critique format for large models."""
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""Modes of Pillow in which an image can be saved as PNG without a change."""


class BadItem(Exception):
    """An item that cannot be sent to the model. The message is the reason recorded with it."""


@dataclass(frozen=True)
class Score:
    """The score of one response.

    Attributes:
        reward: how far the response can be trusted, 0 to 1, calibrated if the model has a calibration; None without one.
        label_mass: p(Yes) + p(No) at the judgement, the mean over the critiques that count; None without a judgement.
        critiques: the texts of all critiques, if they were asked for.
        critique_rewards: the reward of each critique; None for one that does not count. They show how far the critiques agree.
        reason: why there is no reward, such as image_missing or label_mass; "" if there is one.
    """

    reward: float | None = None
    label_mass: float | None = None
    critiques: tuple[str, ...] = ()
    reason: str = ""
    critique_rewards: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Scoring:
    """How responses are scored.

    Attributes:
        critique_format: format that the model was trained with.
        sampling: parameters for the critiques; None for a judgement without a critique.
        label_mass: smallest p(Yes) + p(No) at the judgement token for a critique to count.
        temperature: calibration of the reward; None leaves it as it is.
        with_texts: whether scores have the critiques' texts.
    """

    critique_format: CritiqueFormat
    sampling: Sampling | None
    label_mass: float
    temperature: float | None
    with_texts: bool

    @classmethod
    def create(
        cls,
        critique_format: CritiqueFormat,
        k: int,
        max_tokens: int,
        sampling_temperature: float,
        label_mass: float,
        temperature: float | None,
        *,
        with_texts: bool,
    ) -> "Scoring":
        """Scoring with `k` critiques, of which a single one is decoded greedily; 0 asks for the judgement only.

        Raises:
            UserError: `k` is negative, or texts are asked for where there are none.
        """
        if k < 0:
            raise UserError(f"k={k}: expected the number of critiques, or 0 for a judgement without a critique")
        if k == 0 and with_texts:
            raise UserError("k=0 asks for a judgement without a critique, so there is no text; set k=1 or leave it out")
        sampling = Sampling(max_tokens, sampling_temperature if k > 1 else 0.0, n=k, judgement="ask") if k else None
        return cls(critique_format, sampling, label_mass, temperature if k else None, with_texts)

    def request(self, image: Any, question: Any, response: Any, locate: Callable[[str], str] = str) -> Request:
        """The request about an item.

        Args:
            image: the image in one of the forms that `image_uri` takes.
            question: the question.
            response: the response to it.
            locate: converts the path of an image to a path or URI that the engine can open.

        Raises:
            BadItem: a part is missing, or is of another kind; with the reason.
        """
        for name, text in (("question", question), ("response", response)):
            if not isinstance(text, str) or not text.strip():
                raise BadItem(f"{name}_missing" if text is None or isinstance(text, str) else f"{name}_not_text")
        question, response = clean_text(question), clean_text(response)
        ask = self.critique_format.direct_prompt if self.sampling is None else self.critique_format.prompt
        try:
            return Request(ask(question, response), image_uri(image, locate), seed=seed_of("score", question, response))
        except BadImage as error:
            raise BadItem(str(error)) from None

    def requests(self, items: Iterable[tuple[Any, Any, Any]]) -> list[Request | Score]:
        """The request about each item (image, question, response), or the score without a reward of one that cannot be sent."""
        asked: list[Request | Score] = []
        for item in items:
            try:
                asked.append(self.request(*item))
            except BadItem as error:
                asked.append(Score(reason=str(error)))
        return asked

    def scores(self, asked: Sequence[Request | Score], answers: Iterable[Sequence[Completion]]) -> list[Score]:
        """The scores of the items of `requests`, from the answers to those that are requests."""
        groups = iter(answers)
        return [item if isinstance(item, Score) else self.score(next(groups)) for item in asked]

    def score(self, answers: Sequence[Completion]) -> Score:
        """The score of an item from the model's answers to its request."""
        if answers[0].refused:
            return Score(reason=answers[0].refused)
        if self.sampling is None:  # the word itself, for an answer that has no text
            answers = [replace(answer, text=YES if answer.yes >= answer.no else NO) for answer in answers]
        critiques = [scored_critique(answer) for answer in answers]
        texts = tuple(critique.text for critique in critiques) if self.with_texts else ()
        usable, reason = usable_critiques(critiques, self.label_mass)
        rewards = tuple(critique_reward(c, self.temperature) if c in usable else None for c in critiques)
        if not usable:
            return Score(None, None, texts, reason, rewards)
        mass = sum(critique.label_mass for critique in usable) / len(usable)
        return Score(mean_reward(usable, self.temperature), min(1.0, mass), texts, critique_rewards=rewards)


def critique_reward(critique: ScoredCritique, temperature: float | None = None) -> float:
    """Reward of a usable critique, calibrated if a temperature is given."""
    return critique.reward if temperature is None else calibrated_reward(critique.yes, critique.no, temperature)


def mean_reward(critiques: Sequence[ScoredCritique], temperature: float | None = None) -> float:
    """Mean reward of at least one usable critique, each calibrated if a temperature is given."""
    return sum(critique_reward(critique, temperature) for critique in critiques) / len(critiques)


def clean_text(text: str) -> str:
    """Remove what a tokenizer cannot take: lone surrogates, and the `<image>` placeholders of some data sets."""
    return text.encode("utf-8", "replace").decode().replace("<image>\n", "").replace("<image>", "")


def token_limits(folder: Path, critique_format: str) -> tuple[int, int]:
    """Tokens of a critique, and of prompt and critique together, for a format; a large model's own limit counts too."""
    if critique_format != DETAILED.name:
        return Critic().max_tokens, Critic().engine.max_model_len
    settings = json.loads((folder / "config.json").read_text())
    longest = settings.get("text_config", settings).get("max_position_embeddings", LARGE_MODEL_TOKENS[1])
    total = min(LARGE_MODEL_TOKENS[1], int(longest))
    return min(LARGE_MODEL_TOKENS[0], total // 2), total


def image_uri(image: Any, locate: Callable[[str], str] = str) -> str:
    """Path or URI of an image, as engines take it.

    Args:
        image: a path or URI, an image of Pillow, the bytes or the base64 text of an image file, a struct {bytes, path} of
            Hugging Face data sets, or a list with one of these.
        locate: converts a path; URIs stay as they are.

    Raises:
        BadImage: there is no image, or more than one.
    """
    if isinstance(image, list | tuple):
        image = image[0] if len(image) == 1 else list(image)
    if isinstance(image, Image.Image):
        return _data_uri(_png(image))
    if image is not None and not isinstance(image, str | os.PathLike | bytes | bytearray | dict | list):
        raise BadImage("image_not_a_path")  # an array, whose truth has no value
    try:
        found = image_reference(str(image) if isinstance(image, os.PathLike) else image)
    except ValueError as error:
        raise BadImage(str(error)) from None
    if isinstance(found, bytes):
        return _data_uri(found)
    if not is_valid_text(found):
        raise BadImage("image_path_not_text")
    if is_uri(found):
        return found
    path = locate(found)
    if is_base64(found) and not os.path.isfile(path) and (content := embedded_image(found)) is not None:
        return _data_uri(content)
    return path


def _png(image: Image.Image) -> bytes:
    """A PNG file of an image, turned upright."""
    sink = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        (upright if upright.mode in _PNG_MODES else upright.convert("RGB")).save(sink, "PNG", compress_level=1)
    except (OSError, ValueError, SyntaxError) as error:  # an opened file is decoded only now
        raise BadImage("image_undecodable") from error
    return sink.getvalue()


def _data_uri(data: bytes) -> str:
    return f"data:image;base64,{base64.b64encode(data).decode()}"
