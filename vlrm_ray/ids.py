"""Identities and seeds: functions of content, never of worker ranks or time."""

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(*parts: object) -> str:
    """Hash of the parts' JSON form, 16 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def seed_of(*parts: object) -> int:
    """A sampling seed of 31 bits."""
    return int(digest("seed", *parts), 16) & 0x7FFFFFFF


def sha256_of(data: bytes) -> str:
    """Full hexadecimal sha256."""
    return hashlib.sha256(data).hexdigest()


def fingerprint(folder: Path) -> str:
    """Hash over the names and contents of all files in a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return digest([(str(p.relative_to(folder)), sha256_of(p.read_bytes())) for p in files])


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal content gives equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
