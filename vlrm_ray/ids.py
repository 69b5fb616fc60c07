"""Ids, seeds and hashes: computed from content only, so that a restarted or repeated run gets the same ones."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

_SEEDS = 1 << 31
"""Number of different seeds."""


def digest(*parts: object) -> str:
    """Id of some values: the first 16 hex digits of the sha256 of their JSON form."""
    text = json.dumps(parts, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def seed_of(*parts: object) -> int:
    """Sampling seed derived from some values, an integer of 31 bits."""
    return int(digest("seed", *parts), 16) % _SEEDS


def falls_in(share: float, *parts: object) -> bool:
    """Whether some values belong to a share, 0 to 1, of all possible ones. Those of a smaller share belong to a larger one."""
    return seed_of(*parts) < share * _SEEDS


def sha256_of(data: bytes) -> str:
    """sha256 of bytes, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """sha256 of a local file of any size, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(folder: Path, *, without: Collection[str] = ()) -> str:
    """Hash of the names and contents of all files in a folder and its subfolders, but those with a name in `without`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in without)
    return digest([(str(p.relative_to(folder)), sha256_of_file(p)) for p in files])


def canonical_json(value: Any) -> str:
    """JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
