"""Derive the hierarchy of nouns that the verifier uses (vlrm_ray/experts/nouns.json) from WordNet 3.0.

    python -m jobs.assets.noun_hierarchy --wordnet /usr/share/wordnet

The folder holds WordNet's database files; Debian's package `wordnet-base` installs them. The classes are those of the
public detection data sets that ultralytics describes (COCO, VOC, Open Images). The output is deterministic.

WordNet lists every meaning of a word, also rare ones. A noun is placed under a broader one only if at least `SHARE` of
its uses as a visible thing in WordNet's annotated corpus (SemCor) have a meaning below it. Other nouns are left out,
and so are the broadest ones ("artifact"), which say nothing about an image. For persons more is demanded, because nearly
every noun has a rare meaning that is one ("shadow", a spy), and no person in the image would then contradict it.
"""

import argparse
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

OUTPUT = Path(__file__).parents[2] / "vlrm_ray/experts/nouns.json"
DATASETS = ("coco", "VOC", "open-images-v7")
"""Descriptions of data sets in ultralytics' folder `cfg/datasets`."""
VISIBLE = {3, 5, 6, 8, 13, 17, 18, 20, 25}
"""WordNet's lexicographer files of visible things: tops, animal, artifact, body, food, object, person, plant, shape."""
FOOD, SHARE, SMOOTHING, MIN_DEPTH = 13, 0.9, 0.2, 6
"""`SMOOTHING` is added to each meaning's count. Nouns nearer to the root than `MIN_DEPTH` are left out, except food."""
SENSES = {
    "apple": ("apple", 1), "banana": ("banana", 2), "bear": ("bear", 1), "bed": ("bed", 1), "bench": ("bench", 1),
    "boat": ("boat", 1), "book": ("book", 2), "bowl": ("bowl", 1), "broccoli": ("broccoli", 2), "bus": ("bus", 1),
    "cake": ("cake", 3), "carrot": ("carrot", 3), "cat": ("domestic cat", 1), "cell phone": ("cellular telephone", 1), "chair": ("chair", 1),
    "couch": ("sofa", 1), "cow": ("cattle", 1), "cup": ("cup", 1), "fork": ("fork", 1), "hair drier": ("hand blower", 1),
    "hot dog": ("hotdog", 3), "keyboard": ("computer keyboard", 1), "kite": ("kite", 3), "knife": ("knife", 1),
    "laptop": ("laptop", 1), "microwave": ("microwave", 2), "mouse": ("computer mouse", 1), "orange": ("orange", 1),
    "potted plant": ("houseplant", 1), "remote": ("remote control", 1), "sink": ("sink", 1), "skis": ("ski", 1),
    "spoon": ("spoon", 1), "sports ball": ("ball", 1), "teddy bear": ("teddy", 1), "tie": ("necktie", 1),
    "toaster": ("toaster", 2), "toilet": ("toilet", 2), "toothbrush": ("toothbrush", 1), "train": ("train", 1),
    "tv": ("television receiver", 1), "umbrella": ("umbrella", 1), "wine glass": ("wineglass", 1),
}  # fmt: skip
"""Meaning of COCO's classes whose name has several or is not in WordNet: lemma and number of the sense."""
ALSO = {"ball": "sports ball", "bus": "bus", "cat": "cat"}
"""Nouns with several meanings that stand for a class in a description of an image."""
CHOSEN = {"goose": 1, "plant": 2, "fruit": 1, "lion": 1, "tiger": 2}
"""Nouns whose meaning in a description of an image is clear, though it is not `SHARE` of their uses: number of the sense."""
LEFT_OUT = {
    ("wheeled vehicle", "container"), ("pancake", "cake"), ("waffle", "cake"), ("tortilla", "cake"), ("vase", "jar"),
    ("toilet bowl", "bowl"),
}  # fmt: skip
"""Edges that do not hold in images, such as from wheeled vehicles to containers: nobody calls a pancake a cake."""
ADDED = {
    ("bus", "motor vehicle"),
    ("railroad train", "vehicle"),
    ("kitten", "domestic cat"),
    ("houseplant", "pot plant"),
}
"""Edges that WordNet lacks: it lists buses and trains as public transport only, and kittens as young mammals."""
AMBIGUOUS = {"glove", "keypad", "lumber", "marble", "bleacher", "plier"}
"""Nouns that mean something else in a description of an image: a glove is hardly ever a baseball glove."""
PERSON, OFTEN = "person", 10
PERSONS = {"batter", "conductor", "hunter", "knight", "pilot", "pirate", "sailor"}
"""Nouns that are placed below `PERSON` although they have other visible meanings. Others need `OFTEN` uses for a person."""


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
        counts: Counter[tuple[str, int]] = Counter()
        for key, number, count in self._lines("cntlist.rev"):
            lemma, _, rest = key.partition("%")
            if rest.startswith("1:"):
                counts[lemma.replace("_", " "), int(number)] = int(count)
        return counts

    @cache  # noqa: B019 - one object in the life of the program
    def ancestors(self, synset: str) -> frozenset[str]:
        """A meaning and all broader ones."""
        above = [self.ancestors(broader) for broader in self.broader(synset)]
        return frozenset({synset}).union(*above)

    def broader(self, synset: str) -> list[str]:
        """The next broader meanings, without `LEFT_OUT` and with `ADDED`."""
        lemmas, above = self.synsets[synset].lemmas, self.synsets[synset].broader
        kept = [b for b in above if (lemmas[0], self.synsets[b].lemmas[0]) not in LEFT_OUT]
        return kept + [self.senses[broad][0] for lemma, broad in sorted(ADDED) if synset == self.senses[lemma][0]]

    @cache  # noqa: B019
    def depth(self, synset: str) -> int:
        """Largest number of steps to the root."""
        return max((1 + self.depth(b) for b in self.synsets[synset].broader), default=0)

    def is_useful(self, synset: str) -> bool:
        """Whether a meaning is narrow enough to say something about an image."""
        return self.depth(synset) >= MIN_DEPTH or self.synsets[synset].file == FOOD

    def meanings(self, lemma: str) -> dict[str, float]:
        """Share of each visible meaning in the uses of a lemma; empty if it is in no database or names individuals."""
        weights = {
            synset: self.counts[lemma, number] + SMOOTHING
            for number, synset in enumerate(self.senses.get(lemma.lower(), ()), 1)
            if self.synsets[synset].file in VISIBLE and not self.synsets[synset].individual
        }
        total = sum(weights.values())
        return {synset: weight / total for synset, weight in weights.items()}

    def meaning(self, lemma: str) -> str | None:
        """The narrowest meaning that has `SHARE` of a lemma's uses below it; None if there is no useful one."""
        if lemma in CHOSEN:
            return self.senses[lemma][CHOSEN[lemma] - 1]
        share: Counter[str] = Counter()
        for synset, part in self.meanings(lemma).items():
            share.update(dict.fromkeys(self.ancestors(synset), part))
        common = [s for s, part in share.items() if part >= SHARE and self.is_useful(s)]
        found = max(common, key=lambda s: (len(self.ancestors(s)), s), default=None)
        return None if found and self.is_doubtful(lemma, found) else found

    def is_doubtful(self, lemma: str, found: str) -> bool:
        """Whether a lemma is left out: it is `AMBIGUOUS`, or below `PERSON` and mostly says something else."""
        person = self.senses[PERSON][0]
        if lemma in AMBIGUOUS or person not in self.ancestors(found):
            return lemma in AMBIGUOUS
        uses = {s: self.counts[lemma, number] + SMOOTHING for number, s in enumerate(self.senses[lemma.lower()], 1)}
        of_persons = {s: count for s, count in uses.items() if person in self.ancestors(s)}
        visible = self.meanings(lemma)
        if sum(count for s, count in uses.items() if s in visible) < sum(uses.values()) / 2:
            return True
        return not visible.keys() <= of_persons.keys() and lemma not in PERSONS and sum(of_persons.values()) < OFTEN

    def _lines(self, name: str) -> Iterator[list[str]]:
        """Fields of each line of a database file, without its licence."""
        for line in (self.folder / name).read_text("utf-8").splitlines():
            if not line.startswith("  "):
                yield line.partition(" | ")[0].split()

    def licence(self) -> str:
        """The licence at the head of the database."""
        lines = (self.folder / "data.noun").read_text("utf-8").splitlines()
        return "\n".join(line.strip().partition(" ")[2] for line in lines if line.startswith("  ")).strip()


def class_names(folder: Path) -> set[str]:
    """Names of the classes of `DATASETS` in lower case, from ultralytics' descriptions of them."""
    content = [yaml.safe_load((folder / f"{name}.yaml").read_text("utf-8")) for name in DATASETS]
    return {re.sub(r" \(.*\)", "", name).lower() for dataset in content for name in dataset["names"].values()}


def hierarchy(wordnet: WordNet, classes: set[str]) -> dict[str, Any]:
    """The content of nouns.json; see `vlrm_ray.experts.hierarchy`."""
    chosen = {name: wordnet.senses[lemma][number - 1] for name, (lemma, number) in SENSES.items()}
    meanings = {lemma: wordnet.meaning(lemma) for lemma in _common_nouns(wordnet)}
    meanings |= {lemma: chosen[name] for lemma, name in ALSO.items()}
    anchors = {s for name in classes if (s := chosen.get(name) or meanings.get(name))}
    kept_above = {a for synset in anchors for a in wordnet.ancestors(synset) if wordnet.is_useful(a)}
    related = {lemma: m for lemma, m in meanings.items() if m and (m in kept_above or wordnet.ancestors(m) & anchors)}
    own = {
        lemma: m
        for lemma, m in related.items()
        if lemma in (*ALSO, *CHOSEN) or wordnet.meanings(lemma).get(m, 0) >= SHARE
    }
    used = {a for m in (*related.values(), *anchors) for a in wordnet.ancestors(m) if wordnet.is_useful(a)}
    names = {}
    for synset in used:
        lemmas = wordnet.synsets[synset].lemmas
        names[synset] = next((lemma for lemma in lemmas if own.get(lemma) == synset), f"{lemmas[0]}#{synset}")
    edges = [(names[b], names[s]) for s in used for b in wordnet.broader(s) if b in names]
    edges += [(names[m], lemma) for lemma, m in related.items() if lemma not in own]
    return {
        "classes": {name: names[s] for name, s in sorted(chosen.items())},
        "synonyms": _grouped((names[m], lemma) for lemma, m in own.items() if names[m] != lemma),
        "narrower": _grouped(edges),
    }


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, member in sorted(pairs):
        groups.setdefault(name, []).append(member)
    return groups


def _common_nouns(wordnet: WordNet) -> list[str]:
    """Lemmas that are written in lower case in a visible meaning: no Latin names of families and species."""
    visible = (s for s in wordnet.synsets.values() if s.file in VISIBLE and not s.individual)
    return sorted({lemma for s in visible for lemma in s.lemmas if lemma.islower()})


def main() -> None:
    """Write nouns.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun, index.noun and cntlist.rev")
    wordnet = WordNet(parser.parse_args().wordnet)
    datasets = Path(str(importlib.util.find_spec("ultralytics").origin)).parent / "cfg/datasets"  # type: ignore[union-attr]
    content = {"source": "WordNet 3.0", "license": wordnet.licence(), **hierarchy(wordnet, class_names(datasets))}
    OUTPUT.write_text(_lines(content) + "\n", "utf-8")


def _lines(content: dict[str, Any]) -> str:
    """JSON with one noun of a table on a line."""
    entries = (
        f"{json.dumps(key)}: "
        + (
            "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n}"
            if isinstance(value, dict)
            else json.dumps(value)
        )
        for key, value in content.items()
    )
    return "{\n" + ",\n".join(entries) + "\n}"


if __name__ == "__main__":
    main()
