"""Images by URI: every way to name one, and the memory that opened ones take."""

import argparse
import base64
import errno
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image, ImageColor

from jobs.evaluations import verify
from tests.unit.image_files import png
from vlrm_ray.config import Prompts
from vlrm_ray.errors import BadImage, StorageError, UserError
from vlrm_ray.ids import sha256_of
from vlrm_ray.store import images
from vlrm_ray.store.filesystem import open_filesystem
from vlrm_ray.store.images import (
    ImageCache,
    bounded,
    image_batches,
    is_uri,
    load_image,
    load_in_condition,
    memory_of,
    open_image,
    read_bytes,
)
from vlrm_ray.store.patience import impatient
from vlrm_ray.types import ImageCondition

NAMES = [
    "a.png", "a b.png", "c#d.png", "100%.png", "50%25.png", "50%20x.png", "a+b.png", "[1].png", "what?.png", "a&b=c.png",
    "图片.png", "фото 1.png", "é.png", "😀.png", " leading.png", "back\\slash.png", "it's \"it\".png", "new\nline.png", "a:b.png",
    os.fsdecode(b"latin-\xe9.png"),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_local_file_opens_by_path_and_by_uri(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(png())
    plain = str(path)
    encoded = quote(plain, errors="surrogateescape")
    for uri in (
        plain, f"file://{plain}", f"file://{encoded}", f"file:{encoded}", f"FILE://{encoded}", f"file://localhost{encoded}",
    ):  # fmt: skip
        assert read_bytes(uri) == png(), uri
    assert load_image(f"file://{encoded}").size == (16, 16)
    assert not is_uri(plain)
    assert is_uri(f"file://{plain}")


def test_a_file_uri_is_decoded_first(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(b"with a space")
    (tmp_path / "a%20b.png").write_bytes(b"as written")
    assert read_bytes(f"file://{tmp_path}/a%20b.png") == b"with a space"
    assert read_bytes(str(tmp_path / "a%20b.png")) == b"as written"


@pytest.mark.parametrize("uri", ["http://127.0.0.1/x.png", "HTTPS://example.org/a b.png", "ftp://h/x.png"])
def test_an_address_on_the_web_is_named_as_not_fetched(uri: str) -> None:
    assert is_uri(uri)
    with pytest.raises(BadImage, match="image_url_not_fetched"):
        read_bytes(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1/x.png", "image url not fetched; download the image and give the file"),
        ("/none/x.png", "image missing; check the path"),
        ("data:image/png;base64,AAAA" + "A" * 9000, "image undecodable; give a PNG, JPEG"),
    ],
)
def test_the_command_says_what_to_do_about_an_image(uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        verify.run(argparse.Namespace(image=uri, data=None, text="A dog.", page=None, config=None, overrides=[]))
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "make",
    [
        lambda data: "data:image/png;base64," + base64.b64encode(data).decode(),
        lambda data: "data:image/png;base64," + base64.b64encode(data).decode().rstrip("="),
        lambda data: "DATA:image/png;BASE64,\n" + base64.encodebytes(data).decode(),
        lambda data: "data:image/png;name=a;base64," + quote(base64.b64encode(data).decode(), safe=""),
        lambda data: "data:;base64," + base64.b64encode(data).decode(),
        lambda data: "data:image/png," + quote(data),
    ],
)
def test_a_data_uri_is_decoded(make: object) -> None:
    for data in (png(), png(width=9), png(width=10)):
        uri = make(data)  # type: ignore[operator]
        assert is_uri(uri)
        assert read_bytes(uri) == data


@pytest.mark.parametrize("uri", ["data:", "data:image/png;base64", "data:image/png;base64,!!!", "data:;base64,AAAAA"])
def test_a_damaged_data_uri_has_a_reason(uri: str) -> None:
    with pytest.raises(BadImage, match="image_undecodable"):
        read_bytes(uri)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "image_missing"),
        (".", "image_missing"),
        ("/dev/zero", "image_missing"),
        ("/etc/passwd/x.png", "image_missing"),
        ("file:///none.png", "image_missing"),
        ("file:///%ff%00.png", "image_unreadable"),
        ("a\0b.png", "image_unreadable"),
        ("\ud800.png", "image_unreadable"),
        ("mock:///none.png", "image_missing"),
        ("nowhere://x/y.png", "image_unreadable"),
    ],
)
def test_what_cannot_be_read_has_a_reason(uri: str, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        read_bytes(uri)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("mock:///a%20b.png", "a b.png"),
        ("mock:///a b.png", "a b.png"),
        ("mock:///c#d.png", "c#d.png"),
        ("mock:///100%.png", "100%.png"),
        ("mock:///ü/[1].png", "ü/[1].png"),
        ("s3://bucket/a b#c.png?region=us-east-1", "bucket/a b#c.png"),
        ("s3://bucket/ü.png?region=us-east-1", "bucket/ü.png"),
    ],
)
def test_keys_of_an_object_store_may_have_any_characters(uri: str, path: str) -> None:
    assert open_filesystem(uri)[1] == path


def test_the_hash_is_that_of_the_file() -> None:
    path = Path(__file__).parents[1] / "data" / "images" / "orientation6.jpg"
    assert images.validate_image(str(path)) == sha256_of(path.read_bytes())


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """Twelve images of 1 megapixel: 4 MB of memory each."""
    for index in range(12):
        (tmp_path / f"{index}.png").write_bytes(png(width=1000, height=1000 + index))
    return [str(tmp_path / f"{index}.png") for index in range(12)]


def test_the_cache_is_bounded_by_bytes(photos: list[str]) -> None:
    cache = ImageCache(9_000_000)
    for uri in photos:
        cache.load(uri)
        assert cache.used <= cache.limit
    assert cache.load(photos[-1]) is cache.load(photos[-1])
    assert cache.load(photos[0]) is not cache.load(photos[1])


def test_the_cache_keeps_what_was_used_last_and_no_image_above_its_limit(photos: list[str]) -> None:
    cache = ImageCache(9_000_000)
    first = cache.load(photos[0])
    cache.load(photos[1])
    assert cache.load(photos[0]) is first
    cache.load(photos[2])
    assert cache.load(photos[0]) is first
    tiny = ImageCache(100)
    assert tiny.load(photos[0]) is not tiny.load(photos[0])
    assert tiny.used == 0


@pytest.mark.parametrize("as_uri", [False, True])
def test_a_file_that_was_overwritten_is_read_again(as_uri: bool, tmp_path: Path) -> None:
    path, cache = tmp_path / "a photo.png", ImageCache(9_000_000)
    uri = path.as_uri() if as_uri else str(path)
    for color in ("red", "blue"):
        Image.new("RGB", (8, 8), color).save(path)
        os.utime(path, ns=(0, len(color)))  # the files have the same size, and may be written within one tick
        assert cache.load(uri).getpixel((0, 0)) == ImageColor.getrgb(color)
        assert cache.load(uri) is cache.load(uri)


def test_many_small_images_stay_in_one_batch_and_large_ones_do_not() -> None:
    opened: list[int] = []

    def produce(side: int, count: int) -> Iterator[Image.Image]:
        for index in range(count):
            opened.append(index)
            yield Image.new("RGB", (side, side))

    assert [len(batch) for batch in image_batches(produce(128, 70), 32)] == [32, 32, 6]
    assert [len(batch) for batch in image_batches(produce(1000, 7), 32, limit=10_000_000)] == [3, 3, 1]
    opened.clear()
    next(image_batches(produce(1000, 100), 32, limit=10_000_000))
    assert opened == [0, 1, 2]


def test_the_detector_opens_a_bounded_number_of_images(photos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from actors.experts import DetectorExpert
    from vlrm_ray.config import Detector
    from vlrm_ray.store.ledger import Ledger
    from vlrm_ray.store.rows import Row
    from vlrm_ray.types import Prompt

    class Board:
        def add(self, stage: str, rows: int, seconds: float) -> None: ...

    class Blind:
        largest = 0

        def detect(self, batch: list[np.ndarray]) -> list[list[object]]:
            self.largest = max(self.largest, sum(pixels.nbytes for pixels in batch))
            return [[] for _ in batch]

    monkeypatch.setattr(images, "BATCH_BYTES", 8_000_000)
    expert = DetectorExpert(Detector(), Ledger(str(Path(photos[0]).parent / "run")), Board())
    expert.__dict__["detector"] = blind = Blind()
    rows = [Row(0, 1, Prompt(str(i), uri, str(i), "?"), "") for i, uri in enumerate(photos)]
    tracemalloc.start()
    assert [answer[0].height for answer in expert._detect(rows)] == [1000 + index for index in range(12)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert blind.largest <= 2 * 3 * 1000 * 1012
    assert peak < 12 * 3_000_000


def test_memory_counts_four_bytes_for_each_pixel() -> None:
    assert memory_of(Image.new("RGB", (4032, 3024))) == 4 * 4032 * 3024


# --- images as models see them ------------------------------------------------------------------


def test_a_photograph_of_12_megapixels_fits_into_a_context_of_8192_tokens() -> None:
    limit = Prompts().max_pixels
    for size in ((4032, 3024), (3024, 4032), (8000, 1500), (20_000, 120)):
        image = bounded(Image.new("RGB", size), limit)
        assert image.width * image.height <= limit
        assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.02)
        tokens = round(image.width / 28) * round(image.height / 28)  # of Qwen2.5-VL
        assert tokens <= 1400, size


def test_a_smaller_image_is_not_touched() -> None:
    image = Image.effect_noise((96, 96), 60).convert("RGB")
    assert bounded(image, 96 * 96) is image
    assert bounded(image, 0) is image
    assert Prompts().max_pixels > 128 * 128  # rendered scenes


def test_models_see_a_bounded_image_and_experts_the_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    Image.effect_noise((200, 100), 60).convert("RGB").save(path)
    assert open_image(path).size == (200, 100)
    assert load_image(path).size == (200, 100)
    assert load_image(path, 5000).size == (100, 50)
    assert load_image(path, 5000) is load_image(path, 5000)
    for condition in (ImageCondition.FULL, ImageCondition.IMAGE_DEGRADED):
        image = load_in_condition(path, condition, 5000)
        assert image is not None
        assert image.size == (100, 50)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_a_process_without_files_or_memory_says_nothing_of_an_image(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"x")

    def fails(self: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fails)
    with impatient(), pytest.raises(StorageError, match="run the same command again"):
        read_bytes(str(tmp_path / "a.png"))
