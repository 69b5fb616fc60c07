"""Images of scenes as PNG files in a ledger."""

import io
import posixpath

from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import Scene
from vlrm_ray.store.ledger import Ledger


def store_image(scene: Scene, ledger: Ledger) -> str:
    """Store the scene's image as `images/<seed>.png` unless the file exists; returns its path or URI."""
    name = f"images/{scene.seed}.png"
    if ledger.missing([name]):
        data = io.BytesIO()
        paint(scene).image.save(data, "PNG")
        ledger.put(name, data.getvalue())
    return ledger.path(name) if ledger.local else posixpath.join(ledger.uri, name)
