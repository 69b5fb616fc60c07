"""Photographs of 12 megapixels: no process takes more than 1 GB above what it takes with its model loaded."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.ray.programs import ROOT, run_program

SIZE = (4032, 3024)


@pytest.mark.parametrize(("kind", "photos"), [("detector", 16), ("vllm", 16), ("transformers", 16), ("reader", 2)])
def test_memory_does_not_grow_with_the_photographs(kind: str, photos: int, tmp_path: Path) -> None:
    for index in range(photos):
        Image.new("RGB", SIZE, (index, 90, 160)).save(tmp_path / f"{index:02d}.jpg")
    program = str(ROOT / "tests" / "ray" / "photo_memory.py")
    result = run_program(program, kind, str(tmp_path), PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr[-2000:]
    memory = json.loads(result.stdout.splitlines()[-1])
    assert memory["peak"] - memory["start"] < 1000
