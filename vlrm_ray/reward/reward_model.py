"""A published reward model without Ray, in this process or on a server: load it or connect to it, and score responses."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlrm_ray.config import Prompts, Selection, asset_path
from vlrm_ray.engines import (
    Completion,
    Engine,
    EngineSettings,
    PlainText,
    Request,
    batches,
    generate_isolated,
    score_isolated,
)
from vlrm_ray.errors import UserError
from vlrm_ray.preferences.critique import FORMATS, CritiqueFormat
from vlrm_ray.reward.missing_judgements import with_judgements
from vlrm_ray.reward.model_folder import CARD, check_model, model_files, read_card, scoring_of
from vlrm_ray.reward.scoring import Score, Scoring, token_limits
from vlrm_ray.reward.temperature_scaling import FILE as CALIBRATION
from vlrm_ray.reward.temperature_scaling import read_temperature
from vlrm_ray.store.filesystem import is_remote, redacted
from vlrm_ray.store.models import VERSION, local_model, portable

if TYPE_CHECKING:
    from vlrm_ray.reward.served_engine import ServedEngine

WAVES = 16
"""Sequences of a batch for each request that a server gets at the same time: few of them wait for the longest of a batch."""
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class RewardModel:
    """A published reward model that scores responses.

        model = RewardModel.load("runs/scenes/versions/0003")
        scores = model.score(["photo.jpg"], ["What do you see?"], ["A dog on a sofa."], critiques=True)
        print(scores[0].reward, scores[0].critiques[0])

    Attributes:
        engine: the model, behind the interface of all engines.
        critique_format: the format that the model was trained with.
        temperature: calibration of the reward; None if the version was not evaluated.
        max_tokens: maximum length of a critique in tokens.
        label_mass: smallest p(Yes) + p(No) at the judgement for a critique to count.
        sampling_temperature: sampling temperature of several critiques; a single one is decoded greedily.
        batch_size: sequences in one batch.
    """

    def __init__(
        self,
        engine: Engine,
        critique_format: CritiqueFormat,
        *,
        temperature: float | None = None,
        max_tokens: int = 768,
        label_mass: float = Selection().label_mass,
        sampling_temperature: float = 0.8,
        batch_size: int = 16,
    ) -> None:
        """Use a running engine, such as one of vLLM; `load` starts one of transformers."""
        self.engine, self.critique_format, self.temperature = engine, critique_format, temperature
        self.max_tokens, self.label_mass = max_tokens, label_mass
        self.sampling_temperature, self.batch_size = sampling_temperature, batch_size

    @classmethod
    def load(
        cls,
        uri: str,
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        batch_size: int = 16,
        max_tokens: int | None = None,
        max_model_len: int | None = None,
        max_pixels: int | None = None,
        label_mass: float | None = None,
        sampling_temperature: float = 0.8,
    ) -> "RewardModel":
        """Load a published version with transformers.

        Args:
            uri: the version's folder, such as runs/scenes/versions/0003, or its URI in an object store. From there it is
                fetched into the cache of this machine, once.
            device: `auto`, `cpu`, `cuda` or a certain GPU such as `cuda:3`. `auto` and `cuda` take, of several processes that
                torchrun or accelerate started on a machine, each a GPU of its own; `auto` takes the CPU if there is none.
            dtype: data type of the weights; `auto` takes that of the folder.
            batch_size: sequences in one batch.
            max_tokens: maximum length of a critique in tokens. None takes, here and below, the value of the run by the version's
                card, or the default if the card is of an older version.
            max_model_len: maximum length of prompt and critique together.
            max_pixels: largest number of pixels of an image; larger ones are scaled down.
            label_mass: smallest p(Yes) + p(No) at the judgement for a critique to count.
            sampling_temperature: sampling temperature of several critiques.

        Raises:
            UserError: the folder does not exist, is damaged, or holds no published reward model.
        """
        folder, critique_format = published_folder("uri", uri)
        of_run = scoring_of(read_card(folder) or {}, f"{folder}/{CARD}")
        tokens, total = token_limits(folder, critique_format.name)
        place = device_of(device)
        engine = _transformers(
            EngineSettings(
                kind="transformers",
                model=str(folder),
                dtype=_dtype_of(folder) if dtype == "auto" else dtype,
                max_model_len=max_model_len or int(of_run.get("max_model_len", total)),
                max_num_seqs=batch_size,
                kv_cache_mb=0,
                gpu_memory=1.0,
                gpus=float(place != "cpu"),
                tensor_parallel=1,
                max_pixels=max_pixels or int(of_run.get("max_pixels", Prompts().max_pixels)),
            ),
            place,
        )
        return cls(
            engine,
            critique_format,
            temperature=read_temperature(folder),
            max_tokens=max_tokens or int(of_run.get("max_tokens", tokens)),
            label_mass=of_run.get("label_mass", Selection().label_mass) if label_mass is None else label_mass,
            sampling_temperature=sampling_temperature,
            batch_size=batch_size,
        )

    @classmethod
    def connect(
        cls,
        url: str,
        folder: str,
        *,
        model: str = "",
        api_key: str = "",
        concurrency: int = 64,
        timeout: float = 600.0,
        max_tokens: int | None = None,
        max_pixels: int | None = None,
        label_mass: float | None = None,
        sampling_temperature: float = 0.8,
    ) -> "RewardModel":
        """Use a published version that vLLM's server has, here or elsewhere; see docs/scoring.md for the server's command.

        Args:
            url: address of the server, such as http://127.0.0.1:8000.
            folder: folder, or URI of a folder, with the version's `vlrm_reward.json` and, if there is one,
                `vlrm_calibration.json`. Of a URI only these small files are fetched.
            model: name of the model on the server, if it has several.
            api_key: key of the server, if it asks for one.
            concurrency: requests that are sent at the same time.
            timeout: seconds that the server may take for a request.
            max_tokens: as in `load`, like the following ones.
            max_pixels: largest number of pixels of an image; larger ones are scaled down before they are sent.
            label_mass: smallest p(Yes) + p(No) at the judgement for a critique to count.
            sampling_temperature: sampling temperature of several critiques.

        Raises:
            UserError: the server does not answer or does not have the model, or the folder has no card with what is needed.
        """
        from vlrm_ray.reward.served_engine import ServedEngine

        with model_files(str(folder), (CARD, CALIBRATION, "config.json")) as path:
            card, critique_format = _described(str(folder), path)
            of_run, temperature = scoring_of(card, f"{path}/{CARD}"), read_temperature(path)
            limit = max_tokens or of_run.get("max_tokens") or token_limits(path, critique_format.name)[0]
        engine = ServedEngine(
            url,
            PlainText(card["control_tokens"]),
            max_pixels or int(of_run.get("max_pixels", Prompts().max_pixels)),
            model=model,
            api_key=api_key,
            concurrency=concurrency,
            timeout=timeout,
        )
        return cls(
            engine,
            critique_format,
            temperature=temperature,
            max_tokens=int(limit),
            label_mass=of_run.get("label_mass", Selection().label_mass) if label_mass is None else label_mass,
            sampling_temperature=sampling_temperature,
            batch_size=WAVES * concurrency,
        )

    def score(
        self,
        images: Sequence[Any],
        questions: Sequence[str],
        responses: Sequence[str],
        k: int = 1,
        critiques: bool = False,
    ) -> list[Score]:
        """Score responses. An item that cannot be scored has a reason, and does not fail the others.

        Args:
            images: the image of each item: a path, a URI (file, s3, gs, data), an image of Pillow, or the bytes of a file.
            questions: the question of each item.
            responses: the response to score of each item.
            k: number of critiques whose rewards are averaged. A single one is decoded greedily. 0 asks for Yes or No
                without a critique: faster, and less accurate, because the model was trained on critiques.
            critiques: whether to return the critiques.

        Returns:
            The scores, in the order of the items.

        Raises:
            UserError: the sequences differ in length, `k` is not possible, or a server does not answer.
        """
        _check_lengths(images=images, questions=questions, responses=responses)
        scoring = self._scoring(k, critiques)
        scores: list[Score] = []
        for part in self._parts(k, images, questions, responses):
            asked = scoring.requests(part)
            answers = self._answers([item for item in asked if isinstance(item, Request)], scoring)
            scores += scoring.scores(asked, answers)
        return scores

    async def score_async(
        self,
        images: Sequence[Any],
        questions: Sequence[str],
        responses: Sequence[str],
        k: int = 1,
        critiques: bool = False,
    ) -> list[Score]:
        """`score` for event loops, with a model that a server has. It does not block the loop.

        Any number of calls may wait at the same time, in several event loops and threads; all of them together have
        `concurrency` requests at the server. If a call is cancelled, its requests are withdrawn.

        Args:
            images: as in `score`, like the other arguments.
            questions: the question of each item.
            responses: the response to score of each item.
            k: number of critiques.
            critiques: whether to return the critiques.

        Returns:
            The scores, in the order of the items.

        Raises:
            UserError: as in `score`; the model was loaded into this process; or it was closed.
        """
        _check_lengths(images=images, questions=questions, responses=responses)
        engine, scoring = self._served(), self._scoring(k, critiques)
        scores: list[Score] = []
        for part in self._parts(k, images, questions, responses):
            asked = await engine.in_thread(partial(scoring.requests, part))
            requests = [item for item in asked if isinstance(item, Request)]
            if scoring.sampling is None:
                answers = [[answer] for answer in await engine.score_async(requests)]
            else:
                answers = await engine.generate_async(requests, scoring.sampling)
            scores += await engine.in_thread(partial(scoring.scores, asked, answers))
        return scores

    def _served(self) -> "ServedEngine":
        from vlrm_ray.reward.served_engine import ServedEngine

        if isinstance(self.engine, ServedEngine):
            return self.engine
        raise UserError(
            "score_async needs a model that a server has; use RewardModel.connect, or call score in a thread, for one call at a time"
        )

    def _scoring(self, k: int, critiques: bool) -> Scoring:
        return Scoring.create(
            self.critique_format,
            k,
            self.max_tokens,
            self.sampling_temperature,
            self.label_mass,
            self.temperature,
            with_texts=critiques,
        )

    def _parts(self, k: int, *columns: Sequence[Any]) -> Iterator[Iterator[tuple[Any, ...]]]:
        """The items in parts that the engine gets at the same time; an item is looked up when its part is read."""
        for part in batches(range(len(columns[0])), max(1, self.batch_size // max(1, k))):
            yield (tuple(column[index] for column in columns) for index in part)

    def _answers(self, requests: list[Request], scoring: Scoring) -> list[list[Completion]]:
        if scoring.sampling is None:
            return [[answer] for answer in score_isolated(self.engine, requests)]
        return with_judgements(self.engine, requests, generate_isolated(self.engine, requests, scoring.sampling))

    def close(self) -> None:
        """Free the model's memory, or end the connection to its server: calls that wait for it get a `UserError`."""
        self.engine.close()


def _described(reference: str, folder: Path) -> tuple[dict[str, Any], CritiqueFormat]:
    """Card and critique format of a version that a server has, from a folder with its card."""
    card = read_card(folder)
    if card is None or not card.get("control_tokens"):
        found = f"no {CARD} in it" if card is None else f"its {CARD} is of an older version, without control_tokens"
        raise UserError(
            f"folder {redacted(reference)} does not describe a published reward model ({found}); give the folder of a version, "
            f"its URI, or a folder with the version's {CARD} and {CALIBRATION}"
        )
    return card, FORMATS[str(card["critique_format"])]


def published_folder(key: str, uri: str) -> tuple[Path, CritiqueFormat]:
    """Folder on this machine of a published reward model, and its critique format.

    Args:
        key: what the reference is called, for the messages.
        uri: reference to the model (see `vlrm_ray.store.models`).

    Raises:
        UserError: there is no such folder, or it is not that of a published reward model.
    """
    reference = portable(str(uri))
    if reference.startswith(VERSION) or not (is_remote(reference) or Path(asset_path(reference)).is_dir()):
        raise UserError(
            f"{key} {redacted(str(uri))}: folder not found; give the folder of a published version, such as "
            "runs/scenes/versions/0003, or its URI"
        )
    check_model(key, reference)
    folder = Path(local_model(reference))
    card = read_card(folder)
    if card is None:
        raise UserError(
            f"{key} {redacted(str(uri))} is no published reward model (no {CARD} in it); give a version's folder, such as "
            "runs/scenes/versions/0003"
        )
    return folder, FORMATS[str(card["critique_format"])]


def _transformers(settings: EngineSettings, device: str) -> Engine:
    """Start the engine; its libraries take seconds to import, so that is done here."""
    from vlrm_ray.reward.transformers_engine import TransformersEngine

    return TransformersEngine(settings, device)


def device_of(name: str) -> str:
    """The device to use, `cpu` or one GPU by its number.

    The launchers of several processes give each the variable LOCAL_RANK, and set the current device only later.
    """
    import torch

    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"device={name!r}: expected auto, cpu, cuda or a GPU such as cuda:0")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return "cpu"
    if not count:
        raise UserError(
            f"device={name!r}, but PyTorch finds no GPU; set device='cpu', or install a CUDA build of PyTorch"
        )
    rank = os.environ.get("LOCAL_RANK", "")
    own = int(rank) if rank.isdecimal() and int(rank) < count else torch.cuda.current_device()
    number = int(name.partition(":")[2] or own)
    if number >= count:
        raise UserError(f"device={name!r}, but PyTorch finds {count} GPU(s), numbered from 0")
    return f"cuda:{number}"


def _dtype_of(folder: Path) -> str:
    """Data type of a folder's weights, as its configuration names it; float32 if it names none."""
    settings = json.loads((folder / "config.json").read_text())
    dtype = str(settings.get("dtype") or settings.get("torch_dtype") or "").removeprefix("torch.")
    return dtype if dtype in ("float32", "bfloat16", "float16") else "float32"


def _check_lengths(**columns: Sequence[Any]) -> None:
    if any(isinstance(column, str | bytes) for column in columns.values()):
        raise UserError(
            "images, questions and responses are sequences with one element per item; put a single one into []"
        )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise UserError(f"got {found}; give one of each per item")
