"""Derive the hierarchy of nouns that the verifier uses (vlrm_ray/experts/nouns.json) from WordNet 3.0.

    python -m jobs.assets.noun_hierarchy --wordnet /usr/share/wordnet

The folder holds WordNet's database files; Debian's package `wordnet-base` installs them. The classes are those of the
public detection data sets that ultralytics describes (COCO, Objects365, Open Images, VOC). The output is deterministic.

WordNet lists every meaning of a word, also rare ones. A noun is placed under a broader one only if at least `SHARE` of
its uses as a visible thing in WordNet's annotated corpus (SemCor) have a meaning below it. Other nouns are left out,
and so are the broadest ones ("artifact"), which say nothing about an image.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import yaml

OUTPUT = Path(__file__).parents[2] / "vlrm_ray/experts/nouns.json"
DATASETS = ("coco", "VOC", "Objects365", "open-images-v7")
"""Descriptions of data sets in ultralytics' folder `cfg/datasets`."""
VISIBLE = {3, 5, 6, 8, 13, 17, 18, 20}
"""WordNet's lexicographer files of visible things: tops, animal, artifact, body, food, object, person, plant."""
FOOD, SHARE, SMOOTHING, MIN_DEPTH = 13, 0.9, 0.2, 6
"""`SMOOTHING` is added to each meaning's count. Nouns nearer to the root than `MIN_DEPTH` are left out, except food."""
SENSES = {
    "bear": ("bear", 1), "boat": ("boat", 1), "book": ("book", 2), "broccoli": ("broccoli", 2), "cake": ("cake", 3),
    "cell phone": ("cellular telephone", 1), "chair": ("chair", 1), "couch": ("sofa", 1), "cow": ("cattle", 1),
    "cup": ("cup", 1), "glove": ("glove", 2), "hair drier": ("hand blower", 1), "hot dog": ("hotdog", 3),
    "keyboard": ("computer keyboard", 1), "kite": ("kite", 3), "laptop": ("laptop", 1), "microwave": ("microwave", 2),
    "mouse": ("computer mouse", 1), "orange": ("orange", 1), "potted plant": ("plant", 2),
    "remote": ("remote control", 1), "sink": ("sink", 1), "skis": ("ski", 1), "sports ball": ("ball", 1),
    "teddy bear": ("teddy", 1), "tie": ("necktie", 1), "train": ("train", 1), "tv": ("television receiver", 1),
    "toilet": ("toilet", 2), "umbrella": ("umbrella", 1), "wine glass": ("wineglass", 1),
}  # fmt: skip
"""Meaning of COCO's classes whose name has several or is not in WordNet: lemma and number of the sense."""
LEFT_OUT = {("wheeled vehicle", "container")}
"""Edges that do not hold in images: WordNet lists wheeled vehicles as containers."""


class Synset(NamedTuple):
    """One meaning: lexicographer file, lemmas, broader meanings, and whether it is an individual (a named person)."""

    file: int
    lemmas: tuple[str, ...]
    broader: tuple[str, ...]
    individual: bool


@dataclass(frozen=True)
class WordNet:
    """The nouns of a WordNet database; file formats in the manual pages wndb(5), senseidx(5) and cntlist(5)."""

    folder: Path

    @cached_property
    def synsets(self) -> dict[str, Synset]:
        """Meanings by their offset in `data.noun`."""
        return dict(self._read_synsets())

    def _read_synsets(self) -> Iterator[tuple[str, Synset]]:
        for fields in self._lines("data.noun"):
            count = int(fields[3], 16)
            lemmas = tuple(name.replace("_", " ") for name in fields[4 : 4 + 2 * count : 2])
            first = 5 + 2 * count
            pointers = [fields[i : i + 3] for i in range(first, first + 4 * int(fields[first - 1]), 4)]
            broader = tuple(target for kind, target, _ in pointers if kind == "@")
            yield fields[0], Synset(int(fields[1]), lemmas, broader, any(kind == "@i" for kind, _, _ in pointers))

    @cached_property
    def senses(self) -> dict[str, list[str]]:
        """Meanings of each lemma in lower case, most frequent first."""
        return {f[0].replace("_", " "): f[-int(f[2]) :] for f in self._lines("index.noun")}

    @cached_property
    def counts(self) -> Counter[tuple[str, int]]:
        """Uses of each lemma in each of its meanings (from 1) in the annotated corpus."""
        keys = (line.split() for line in (self.folder / "cntlist.rev").read_text("utf-8").splitlines())
        nouns = {key: int(count) for key, _, count in keys if key.partition("%")[2].startswith("1:")}
        numbers = {key: int(number) for key, number, _ in
                   (line.split() for line in (self.folder / "cntlist.rev").read_text("utf-8").splitlines())}
        return Counter({(key.partition("%")[0].replace("_", " "), numbers[key]): n for key, n in nouns.items()})

    def _lines(self, name: str) -> Iterator[list[str]]:
        """Fields of each line of a database file, without its licence."""
        for line in (self.folder / name).read_text("utf-8").splitlines():
            if not line.startswith("  "):
                yield line.partition(" | ")[0].split()

    def licence(self) -> str:
        """The licence at the head of the database."""
        lines = (self.folder / "data.noun").read_text("utf-8").splitlines()
        return "\n".join(line.strip().partition(" ")[2] for line in lines if line.startswith("  ")).strip()
