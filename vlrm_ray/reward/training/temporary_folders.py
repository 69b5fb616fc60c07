"""Temporary folders of train workers. A worker that dies leaves its own behind, and the next attempt removes them."""

import shutil
import tempfile
from pathlib import Path

from vlrm_ray.ids import digest


class TemporaryFolders:
    """The temporary folders of one rank on its node, named by the run and the rank."""

    def __init__(self, run: str, rank: int) -> None:
        """Name the folders.

        Args:
            run: URI or path of the run's folder.
            rank: number of the worker.
        """
        self.run, self.rank = digest(run), rank

    def new(self, kind: str) -> Path:
        """Create an empty folder; `kind` says what for."""
        return Path(tempfile.mkdtemp(prefix=f"{self._prefix()}{self.rank}-{kind}-"))

    def clear(self) -> None:
        """Remove what earlier attempts of the run left on this node, whatever their ranks were.

        Called before the first collective operation of an attempt: no rank has folders of its own yet.
        """
        for folder in Path(tempfile.gettempdir()).glob(f"{self._prefix()}*"):
            shutil.rmtree(folder, ignore_errors=True)  # another rank may remove it too

    def _prefix(self) -> str:
        return f"vlrm-train-{self.run}-"
