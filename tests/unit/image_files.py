"""Files of images that tests write."""

import io

from PIL import Image


def png(color: str | tuple[int, int, int] = "red", width: int = 16, height: int = 0) -> bytes:
    """A PNG file of one color; a square unless a height is given."""
    file = io.BytesIO()
    Image.new("RGB", (width, height or width), color).save(file, "PNG")
    return file.getvalue()
