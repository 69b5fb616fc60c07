"""Writes the images of `tests/data/images/` and records how Chromium shows them, in `browser.json` beside them.

    python tests/data/record_browser.py            # needs `chromium` on PATH

Each image shows the same blocks of color, stored in another way: other formats, orientations, kinds of transparency,
bit depths and color models. `tests/unit/test_decoding.py` compares the pixels that we decode with the recorded ones.
"""

import io
import json
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).with_name("images")
BLOCK, COLUMNS, ROWS = 16, 3, 2
COLORS = [(214, 39, 40), (44, 160, 44), (31, 80, 200), (245, 215, 30), (20, 20, 20), (150, 150, 150)]
"""Colors of the blocks, row by row."""
GRAYS = [240, 200, 150, 100, 60, 20]
STEP = 16
"""Distance of the recorded pixels."""
TAGS = {"SHORT": (3, "H"), "LONG": (4, "I"), "BYTE": (1, "B"), "ASCII": (2, "s"), "RATIONAL": (5, "II")}


def blocks(values: list[tuple[int, ...]] | list[int], dtype: type = np.uint8) -> np.ndarray:
    """Array of 32 x 48 pixels with one value for each block."""
    grid = np.array(values, dtype).reshape(ROWS, COLUMNS, *np.shape(values[0]))
    return grid.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def color() -> Image.Image:
    """The blocks in color."""
    return Image.fromarray(blocks(COLORS))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """File of an image."""
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def jpeg(image: Image.Image, **options: object) -> bytes:
    """JPEG file without chroma subsampling."""
    return saved(image, "JPEG", quality=92, **{"subsampling": 0} | options)


def orientation(value: int, order: str = "MM", kind: str = "SHORT", thumbnail: bool = False) -> bytes:
    """EXIF block (TIFF structure) with the tag Orientation, in the main directory or in the thumbnail's."""
    sign, (number, code) = {"MM": ">", "II": "<"}[order], TAGS[kind]
    data = struct.pack(sign + code, *([value] * len(code)) if code != "s" else [str(value).encode()])
    inline = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(sign + "I", 26)
    entry = struct.pack(sign + "HHI", 0x0112, number, 1) + inline
    head = order.encode() + struct.pack(sign + "HI", 42, 8)
    directory = struct.pack(sign + "H", 1) + entry + struct.pack(sign + "I", 0)
    if thumbnail:
        return head + struct.pack(sign + "HI", 0, 14) + directory
    return head + directory + (data if len(data) > 4 else b"")


def with_segment(file: bytes, payload: bytes, marker: int = 0xE1) -> bytes:
    """JPEG file with one more APP segment at its start."""
    return file[:2] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + file[2:]


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels: np.ndarray, kind: int, depth: int = 8, extra: bytes = b"", after: bytes = b"") -> bytes:
    """PNG file from samples (h, w) or (h, w, bands); `kind` is PNG's color type, `extra` are chunks before IDAT."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    if depth == 16:
        lines = [row.astype(">u2").tobytes() for row in rows]
    elif depth == 8:
        lines = [row.astype(np.uint8).tobytes() for row in rows]
    else:
        bits = (rows[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        lines = [np.packbits(line.reshape(-1)).tobytes() for line in bits]
    data = zlib.compress(b"".join(b"\0" + line for line in lines), 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


def bmp(rows: list[bytes], depth: int, masks: tuple[int, ...], header: int = 108, top_down: bool = False) -> bytes:
    """BMP file of 48 x 32 pixels with color masks (red, green, blue, alpha)."""
    width, height = COLUMNS * BLOCK, ROWS * BLOCK
    body = b"".join(rows if top_down else rows[::-1])
    compression = 3 if masks else 0
    info = struct.pack(
        "<IiiHHIIiiII", header, width, -height if top_down else height, 1, depth, compression, len(body), 0, 0, 0, 0
    )
    info = (info + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0")
    if header == 108:
        info = info[:56] + b"sRGB"[::-1] + info[60:]
    start = 14 + len(info)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + body


def oriented_images() -> Iterator[tuple[str, bytes]]:
    """Images with an orientation, in all formats that have one, and with broken or misplaced ones."""
    for value in range(1, 9):
        yield f"orientation{value}.jpg", jpeg(color(), exif=b"Exif\0\0" + orientation(value))
    for value in (3, 5, 6, 8):
        yield f"orientation{value}.png", png(blocks(COLORS), 2, extra=chunk(b"eXIf", orientation(value, "II")))
        yield f"orientation{value}.webp", saved(color(), "WEBP", lossless=True, exif=orientation(value))
    for value in (3, 6):
        yield (
            f"orientation{value}.avif",
            saved(color(), "AVIF", quality=95, subsampling="4:4:4", exif=orientation(value)),
        )
    yield "orientation6_after_data.png", png(blocks(COLORS), 2, after=chunk(b"eXIf", orientation(6)))
    raw = orientation(6)
    text = f"\nexif\n{len(raw):8}\n{raw.hex()}\n".encode()
    yield (
        "orientation6_raw_profile.png",
        png(blocks(COLORS), 2, extra=chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))),
    )
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf="
    xmp += b"'http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/'"
    xmp += b' tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    yield "orientation6_xmp.jpg", with_segment(jpeg(color()), xmp)
    plain, head = jpeg(color()), b"Exif\0\0"
    cases = {
        "little_endian": head + orientation(6, "II"),
        "long": head + orientation(6, kind="LONG"),
        "long_little_endian": head + orientation(6, "II", kind="LONG"),
        "byte": head + orientation(6, kind="BYTE"),
        "ascii": head + orientation(6, kind="ASCII"),
        "rational": head + orientation(6, kind="RATIONAL"),
        "thumbnail_only": head + orientation(6, thumbnail=True),
        "0": head + orientation(0),
        "9": head + orientation(9),
        "65535": head + orientation(65535),
        "garbage": head + b"MM\0*\xff\xff\xff\xff" + bytes(range(40)),
        "cut": head + orientation(6)[:16],
        "empty": head,
        "wrong_order": head + b"XX" + orientation(6)[2:],
    }
    for name, payload in cases.items():
        yield f"exif_{name}.jpg", with_segment(plain, payload)
    yield "exif_two_blocks.jpg", with_segment(with_segment(plain, head + orientation(3)), head + orientation(6))
    yield "exif_garbage.png", png(blocks(COLORS), 2, extra=chunk(b"eXIf", b"garbage"))
    yield "exif_garbage.webp", saved(color(), "WEBP", lossless=True, exif=b"garbage")


def transparent_images() -> Iterator[tuple[str, bytes]]:
    """Images with transparency of every kind; transparent pixels hide other colors."""
    alphas = [255, 0, 128, 255, 0, 64]
    rgba = np.dstack([blocks(COLORS), blocks(alphas)])
    la = np.dstack([blocks(GRAYS), blocks(alphas)])
    yield "rgba.png", png(rgba, 6)
    yield "gray_alpha.png", png(la, 4)
    yield "rgba16.png", png(rgba.astype(np.uint16) * 257, 6, 16)
    yield "gray_alpha16.png", png(la.astype(np.uint16) * 257, 4, 16)
    index, palette = blocks([0, 1, 2, 3, 4, 5]), chunk(b"PLTE", bytes(np.array(COLORS, np.uint8)))
    yield "palette_alpha.png", png(index, 3, extra=palette + chunk(b"tRNS", bytes(alphas)))
    yield "palette_one.png", png(index, 3, extra=palette + chunk(b"tRNS", bytes([255, 255, 0])))
    yield "palette_4bit.png", png(index, 3, 4, extra=palette + chunk(b"tRNS", bytes([0, 128])))
    yield "rgb_key.png", png(blocks(COLORS), 2, extra=chunk(b"tRNS", struct.pack(">HHH", *COLORS[2])))
    wide = blocks(COLORS).astype(np.uint16) * 257
    key = chunk(b"tRNS", struct.pack(">HHH", *(v * 257 for v in COLORS[2])))
    yield "rgb16_key.png", png(wide, 2, 16, extra=key)
    yield "gray_key.png", png(blocks(GRAYS), 0, extra=chunk(b"tRNS", struct.pack(">H", GRAYS[1])))
    yield (
        "gray16_key.png",
        png(blocks(GRAYS).astype(np.uint16) * 257, 0, 16, extra=chunk(b"tRNS", struct.pack(">H", GRAYS[1] * 257))),
    )
    yield "gray4_key.png", png(blocks([15, 12, 9, 6, 3, 0]), 0, 4, extra=chunk(b"tRNS", struct.pack(">H", 9)))
    yield "bit_key.png", png(blocks([0, 1, 0, 1, 0, 1]), 0, 1, extra=chunk(b"tRNS", struct.pack(">H", 0)))
    yield "alpha_turned.png", png(rgba, 6, extra=chunk(b"eXIf", orientation(6)))
    yield "rgba.webp", saved(Image.fromarray(rgba), "WEBP", lossless=True, exact=True)
    yield "rgba_lossy.webp", saved(Image.fromarray(rgba), "WEBP", quality=90)
    indexed = Image.fromarray(index, "P")
    indexed.putpalette(bytes(np.array(COLORS, np.uint8)))
    yield "transparent.gif", saved(indexed, "GIF", transparency=2)
    yield "opaque.gif", saved(indexed, "GIF")
    yield "gray_transparent.gif", saved(Image.fromarray(blocks(GRAYS)), "GIF", transparency=GRAYS[2])
    yield "rgba32.bmp", saved(Image.fromarray(rgba), "BMP")
    bgra = [row[:, [2, 1, 0, 3]].tobytes() for row in rgba]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    yield "alpha_v4.bmp", bmp(bgra, 32, masks)
    yield "alpha_v4_top_down.bmp", bmp(bgra, 32, masks, top_down=True)
    yield "opaque_v4.bmp", bmp(bgra, 32, (*masks[:3], 0))
    yield "rgba.avif", saved(Image.fromarray(rgba), "AVIF", quality=95, subsampling="4:4:4")


def deep_images() -> Iterator[tuple[str, bytes]]:
    """Gray images of all bit depths, 16-bit colors, and other color models."""
    gray = blocks(GRAYS)
    yield "gray8.png", png(gray, 0)
    yield "gray16.png", png(gray.astype(np.uint16) * 257, 0, 16)
    yield "gray16_odd.png", png(blocks([65535, 40000, 1000, 300, 255, 128], np.uint16), 0, 16)
    yield (
        "gray16_12_bits.png",
        png(blocks([4095, 3000, 2000, 1000, 500, 100], np.uint16), 0, 16, extra=chunk(b"sBIT", bytes([12]))),
    )
    yield "gray4.png", png(blocks([15, 12, 9, 6, 3, 0]), 0, 4)
    yield "gray2.png", png(blocks([3, 2, 1, 0, 1, 2]), 0, 2)
    yield "bit.png", png(blocks([0, 1, 0, 1, 0, 1]), 0, 1)
    yield "rgb16.png", png(blocks(COLORS).astype(np.uint16) * 257, 2, 16)
    yield "gray.jpg", jpeg(Image.fromarray(gray))
    yield "progressive.jpg", jpeg(color(), progressive=True)
    yield "subsampled.jpg", jpeg(color(), subsampling=2)
    cmyk = color().convert("CMYK")
    adobe = jpeg(cmyk)
    yield "cmyk.jpg", adobe
    y, cb, cr = (
        Image.merge("RGB", [band.point(lambda v: 255 - v) for band in cmyk.split()[:3]]).convert("YCbCr").split()
    )
    inverted = [band.point(lambda v: 255 - v) for band in (y, cb, cr)]  # Pillow inverts when it saves
    ycck = jpeg(Image.merge("CMYK", (*inverted, cmyk.split()[3])))
    transform = ycck.index(b"Adobe") + 11
    yield "ycck.jpg", ycck[:transform] + b"\x02" + ycck[transform + 1 :]
    start = adobe.index(b"\xff\xee")
    length = struct.unpack(">H", adobe[start + 2 : start + 4])[0]
    yield "cmyk_without_adobe.jpg", adobe[:start] + adobe[start + 2 + length :]
    yield "rgb_stored.jpg", saved(color(), "JPEG", quality=92, keep_rgb=True)
    high = (blocks(COLORS) >> np.array([3, 2, 3])).astype(np.uint16)
    rgb565 = [row.astype("<u2").tobytes() for row in high[..., 0] << 11 | high[..., 1] << 5 | high[..., 2]]
    yield "rgb565.bmp", bmp(rgb565, 16, (0xF800, 0x7E0, 0x1F))
    for name in ("1", "L", "P", "RGB"):
        yield f"{name.lower()}.bmp", saved(color().convert(name), "BMP")


def animations() -> Iterator[tuple[str, bytes]]:
    """Animations: the first frame stays for an hour."""
    first, second = color(), Image.new("RGB", color().size, (255, 0, 255))
    options = {"save_all": True, "append_images": [second], "duration": 65_000}
    yield "animated.gif", saved(first.convert("P", palette=Image.Palette.ADAPTIVE), "GIF", **options)
    yield "animated.png", saved(first, "PNG", **options)
    yield "animated.webp", saved(first, "WEBP", lossless=True, **options)
    small = Image.fromarray(blocks([0, 1, 2, 3, 4, 5])[:16, :16], "P")
    small.putpalette(bytes(np.array(COLORS[::-1], np.uint8)))
    file = saved(small, "GIF")
    start = file.index(b"\x2c\0\0\0\0")  # the image descriptor: move the frame on a larger canvas
    moved = bytearray(file)
    moved[6:10] = struct.pack("<HH", 48, 32)
    moved[start + 1 : start + 5] = struct.pack("<HH", 16, 8)
    yield "small_frame.gif", bytes(moved)


def render(names: list[str]) -> list[tuple[int, int, Image.Image]]:
    """Width, height and RGB pixels of each image as Chromium shows it, at natural size on white."""
    with tempfile.TemporaryDirectory() as scratch:
        page, shot = Path(scratch, "page.html"), Path(scratch, "shot.png")
        images = "".join(
            f'<img src="{(FOLDER / name).as_uri()}" style="position:absolute;left:0;top:{64 * i}px">'
            for i, name in enumerate(names)
        )
        sizes = "[...document.images].map(i => i.naturalWidth + 'x' + i.naturalHeight).join(' ')"
        page.write_text(
            f"<!doctype html><body style='margin:0;background:#fff'>{images}<script>"
            f"onload = () => {{ document.title = {sizes} }}</script>"
        )
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   "--force-device-scale-factor=1", "--force-color-profile=srgb", "--allow-file-access-from-files",
                   f"--user-data-dir={scratch}/profile", f"--window-size=200,{64 * len(names) + 200}"]  # fmt: skip
        subprocess.run([*command, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True, timeout=300)
        dom = subprocess.run(
            [*command, "--dump-dom", page.as_uri()], check=True, capture_output=True, timeout=300, text=True
        ).stdout
        titles = re.search(r"<title>(.*?)</title>", dom)
        assert titles is not None, dom[:500]
        page_image = Image.open(shot).convert("RGB")
        result = []
        for i, text in enumerate(titles[1].split()):
            width, height = map(int, text.split("x"))
            result.append((width, height, page_image.crop((0, 64 * i, width, 64 * i + height))))
        return result


def main() -> None:
    """Write the images and the record."""
    FOLDER.mkdir(exist_ok=True)
    files = {
        name: data
        for group in (oriented_images(), transparent_images(), deep_images(), animations())
        for name, data in group
    }
    for name, data in files.items():
        (FOLDER / name).write_bytes(data)
    record = {}
    for name, (width, height, shown) in zip(files, render(list(files)), strict=True):
        points = [(x, y) for y in range(STEP // 2, height, STEP) for x in range(STEP // 2, width, STEP)]
        record[name] = {
            "size": [width, height],
            "pixels": ["{:02x}{:02x}{:02x}".format(*shown.getpixel(p)) for p in points],
        }
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in record.items())
    (FOLDER / "browser.json").write_text("{\n" + lines + "\n}\n")
    print(f"{len(record)} images, {sum(map(len, files.values()))} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
