"""The safetensors files of a model folder, read tensor by tensor and row by row."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from vlrm_ray.errors import UserError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PATTERNS = ["*.safetensors", "*.json"]


class WeightFiles:
    """The tensors of a model folder, or of a model on the Hugging Face hub, which is downloaded first."""

    def __init__(self, folder: str) -> None:
        """Read names of tensors, not their values.

        Raises:
            UserError: there are no safetensors files, one is missing, or one cannot be read.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            from huggingface_hub import snapshot_download

            self.folder = Path(snapshot_download(folder, allow_patterns=_PATTERNS))
        self._file_of: dict[str, str] = self._index()

    def __iter__(self) -> Iterator[str]:
        """Names of the tensors."""
        return iter(self._file_of)

    def read(self, wanted: Mapping[str, tuple[tuple[int, ...], slice]]) -> Iterator[tuple[str, torch.Tensor]]:
        """Read tensors, file by file.

        Args:
            wanted: names of tensors, each with the whole tensor's shape and the rows (of dimension 0) to read.

        Yields:
            Name and rows, of the type in the file. They lie in a mapped file: copy them.

        Raises:
            UserError: a tensor has another shape, or a file cannot be read.
        """
        for name in sorted({self._file_of[key] for key in wanted}):
            with self._open(name) as file:
                for key in [key for key in wanted if self._file_of[key] == name]:
                    shape, rows = wanted[key]
                    part = file.get_slice(key)
                    if tuple(part.get_shape()) != shape:
                        raise UserError(
                            f"the tensor {key} in {self.folder / name} has shape {part.get_shape()}, and config.json asks "
                            f"for {list(shape)}; download both again"
                        )
                    yield key, part[rows] if shape else file.get_tensor(key)

    def _index(self) -> dict[str, str]:
        """The file of each tensor."""
        if (self.folder / INDEX).is_file():
            weight_map: dict[str, str] = json.loads((self.folder / INDEX).read_text())["weight_map"]
            missing = sorted({name for name in weight_map.values() if not (self.folder / name).is_file()})
            if missing:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise UserError(
                    f"{self.folder} lacks {missing[0]}{more}, which {INDEX} names; download the missing files"
                )
            return weight_map
        if not (self.folder / WEIGHTS).is_file():
            raise UserError(
                f"{self.folder} has no {WEIGHTS} or {INDEX}; convert its weights first (pickled weights are not loaded)"
            )
        with self._open(WEIGHTS) as file:
            return dict.fromkeys(file.keys(), WEIGHTS)

    def _open(self, name: str) -> safe_open:
        try:
            return safe_open(self.folder / name, framework="pt")
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{self.folder / name} is not a complete safetensors file ({error}); download it again"
            ) from None
