"""Pictures of scenes as files of a run: what training sees of them."""

import io
import posixpath

from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import Scene
from vlrm_ray.store.ledger import Ledger


def store_picture(scene: Scene, ledger: Ledger) -> str:
    """URI of the scene's picture, drawn unless it is there already."""
    name = f"images/{scene.seed}.png"
    if ledger.fs.get_file_info(ledger.path(name)).size is None:
        data = io.BytesIO()
        paint(scene).image.save(data, "PNG")
        ledger.put(name, data.getvalue())
    return ledger.path(name) if ledger.local else posixpath.join(ledger.uri, name)
