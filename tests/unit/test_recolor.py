"""Recolored prompts: a share of the images gets other hues before policy, experts and critics see them."""

import colorsys
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlrm_ray.config import Config, load
from vlrm_ray.errors import BadImage
from vlrm_ray.experts.colors import color_strength, object_shades
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline.holdout import is_held_out
from vlrm_ray.pipeline.resource_plan import estimated_size
from vlrm_ray.pipeline.stages import ingest
from vlrm_ray.pipeline.stages.ingest import LEAST_TURN, Ingest, prompt_table, recolored
from vlrm_ray.store.images import open_image, with_turned_hues
from vlrm_ray.store.ledger import Ledger
from vlrm_ray.store.rows import PROMPT, from_table
from vlrm_ray.types import GivenResponse, PromptRef

RED, GREEN, BLUE, GRAY = (200, 30, 30), (30, 200, 30), (30, 30, 200), (120, 120, 120)


class Board:
    def add(self, *counts: object) -> None:
        pass


def image_file(color: tuple[int, int, int], form: str = "PNG", size: int = 16) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), color).save(file, form, quality=95)
    return file.getvalue()


def color_of(data: bytes) -> tuple[int, int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").getpixel((8, 8))  # type: ignore[return-value]


def close(a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) <= 6


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Paths of 60 images of different reds."""
    paths = [tmp_path / f"{number}.png" for number in range(60)]
    for number, path in enumerate(paths):
        path.write_bytes(image_file((140 + number, 30, 30)))
    return [str(path) for path in paths]


def ingested(config: Config, folder: Path, refs: list[PromptRef], round_: int = 1) -> list[tuple[str, str]]:
    """URI and sha256 of the image of each prompt after ingest."""
    rows = from_table(Ingest(round_, config, Board(), Ledger(str(folder)))(prompt_table(0, refs)), PROMPT)  # type: ignore[arg-type]
    return [(row.prompt.image, row.prompt.sha256) for row in rows]


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_hues_turn_around_the_color_circle_and_the_format_stays(form: str) -> None:
    for color, turned in ((RED, GREEN), (GREEN, BLUE), (BLUE, RED), (GRAY, GRAY)):
        copy = with_turned_hues(image_file(color, form), 120)
        assert close(color_of(copy), turned)
        with Image.open(io.BytesIO(copy)) as image:
            assert (image.format, image.size) == (form, (16, 16))


def test_a_file_that_is_no_image_is_refused() -> None:
    with pytest.raises(BadImage, match="image_undecodable"):
        with_turned_hues(b"no image", 120)


def test_a_share_of_the_images_is_recolored_and_the_others_stay_as_they_are(tmp_path: Path, images: list[str]) -> None:
    refs = [PromptRef(image, "What color is it?") for image in images]
    config = load(None, ["prompts.recolor=0.5", "prompts.source=images"])
    found = ingested(config, tmp_path / "run", refs)
    changed = [(uri, sha256) for (uri, sha256), image in zip(found, images, strict=True) if uri != image]
    assert 15 < len(changed) < 45
    for uri, sha256 in changed:
        data = Path(uri).read_bytes()
        assert sha256_of(data) == sha256
        hue = colorsys.rgb_to_hsv(*color_of(data))[0] * 360
        assert LEAST_TURN - 2 <= hue <= 360 - LEAST_TURN + 2
    assert ingested(config, tmp_path / "run", refs) == found  # the same in a resumed round
    assert ingested(config, tmp_path / "run", refs, round_=2) != found
    assert [uri for uri, _ in ingested(load(None, []), tmp_path / "run", refs)] == images


def test_the_experts_see_the_new_colors(tmp_path: Path) -> None:
    """The truth about a recolored image is what the experts see in it; nothing is derived from the original."""
    copy = tmp_path / "copy.png"
    copy.write_bytes(with_turned_hues(image_file(RED, size=64), 240))
    shades = object_shades(np.asarray(open_image(str(copy))), (8.0, 8.0, 56.0, 56.0))
    assert color_strength("blue", shades) == pytest.approx(1.0, abs=0.05)
    assert color_strength("red", shades) == pytest.approx(0.0, abs=0.05)


def test_held_out_images_are_not_recolored_and_no_copy_is_held_out(tmp_path: Path, images: list[str]) -> None:
    config = load(None, ["prompts.recolor=1", "prompts.source=images", "evaluation.holdout=0.5"])
    store = Ledger(str(tmp_path / "run"))
    held = 0
    for image in images:
        sha256 = sha256_of(Path(image).read_bytes())
        uri, copied = recolored(image, sha256, 1, config, store)
        if is_held_out(config, sha256):
            assert (uri, copied) == (image, sha256)
            held += 1
        else:
            assert uri != image and not is_held_out(config, copied)
    assert 15 < held < 45


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_gray_image_stays_as_it_is(tmp_path: Path, form: str) -> None:
    image = tmp_path / "gray"
    image.write_bytes(image_file(GRAY, form))
    config = load(None, ["prompts.recolor=1", "prompts.source=images", "evaluation.holdout=0"])
    uri, sha256 = recolored(str(image), sha256_of(image.read_bytes()), 1, config, Ledger(str(tmp_path / "run")))
    assert (uri, sha256) == (str(image), sha256_of(image.read_bytes()))


def test_an_image_all_of_whose_copies_are_held_out_stays_as_it_is(
    tmp_path: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = sha256_of(Path(images[0]).read_bytes())
    monkeypatch.setattr(ingest, "is_held_out", lambda config, image: image != sha256)
    config = load(None, ["prompts.recolor=1", "prompts.source=images"])
    assert recolored(images[0], sha256, 1, config, Ledger(str(tmp_path / "run"))) == (images[0], sha256)


def test_responses_that_users_bring_describe_the_original_which_is_therefore_kept(
    tmp_path: Path, images: list[str]
) -> None:
    given = (GivenResponse("It is red.", "human"),)
    refs = [PromptRef(image, "What color is it?", responses=given) for image in images]
    config = load(None, ["prompts.recolor=1", "prompts.source=images", "evaluation.holdout=0"])
    assert [uri for uri, _ in ingested(config, tmp_path / "run", refs)] == images


def test_the_number_of_copies_is_told_before_a_run() -> None:
    assert "160 recolored copies" in estimated_size(load(None, ["prompts.per_round=320", "prompts.recolor=0.5"]))
    assert "160 recolored copies" in estimated_size(load(None, ["prompts.per_round=[80, 320]", "prompts.recolor=0.5"]))
    assert "40 recolored" in estimated_size(
        load(None, ["prompts.per_round=[80, 320]", "rounds=1", "prompts.recolor=0.5"])
    )
    assert "recolored" not in estimated_size(load(None))
