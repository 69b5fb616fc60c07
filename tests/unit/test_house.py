"""The rules of the house: which room may import which, and what never reaches training."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUND = {
    "config", "config_sections", "types", "errors", "ids", "engines", "monitoring", "torchvision_shim",
}  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "ids": set(),
    "types": set(),
    "torchvision_shim": set(),
    "monitoring": set(),
    "config_loading": {"errors"},
    "config_sections": set(),
    "config": {"config_loading", "config_sections", "errors"},
    "engines": {"errors", "types"},
    "store": {"config", "errors", "ids", "types"},
    "claims": {"engines", "errors", "types"},
    "experts": {"config", "errors", "ids", "types", "store"},
    "preferences": {"config", "ids", "types"},
    "reward": GROUND | {"store", "preferences"},
    "evaluation": GROUND | {"store", "preferences", "reward"},
    "scenes": GROUND | {"store", "claims", "experts", "preferences", "reward", "evaluation"},
    "pipeline": GROUND | {"store", "claims", "experts", "preferences", "reward", "evaluation", "scenes"},
    "report": GROUND | {"store", "claims", "experts", "preferences", "reward", "evaluation", "scenes", "pipeline"},
}
"""Rooms of `vlrm_ray/` from the ground up. `actors` may import all of them, `jobs` may import `actors` too."""
ROOMS = {**MAY_IMPORT, "actors": set(MAY_IMPORT), "jobs": {*MAY_IMPORT, "actors"}}
MOST_ROOMS, MOST_ARROWS = 20, 100
ENGINES = {"torch", "ray", "vllm", "transformers"}
WITHOUT_ENGINES = (
    "types.py",
    "config.py",
    "config_loading.py",
    "config_sections.py",
    "claims/rules.py",
    "experts/verifier.py",
    "preferences/pairing.py",
    "preferences/selection.py",
    "preferences/critique.py",
    "evaluation/metrics.py",
)
MEASURED_ON_SCENES = {
    "pipeline/evaluators.py": {"bench", "evaluation", "pope"},
    "pipeline/prompts.py": {"images", "language", "world"},
}
"""Where a run itself uses the embedded world: to draw its prompts, and to evaluate what it has trained."""


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def room_of(module: str) -> str | None:
    """The room that a dotted name lies in; None for other packages and for `vlrm_ray` itself."""
    first, *rest = module.split(".")
    if first in ("actors", "jobs"):
        return first
    return rest[0] if first == "vlrm_ray" and rest and rest[0] in MAY_IMPORT else None


def arrows() -> dict[tuple[str, str], list[str]]:
    """Imports from one room to another, each with the lines that make it."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in (p for folder in ("vlrm_ray", "actors", "jobs") for p in files(folder)):
        name = path.relative_to(ROOT)
        here = room_of(".".join(name.with_suffix("").parts))
        for line, module in imports(path):
            there = room_of(module)
            if here and there and here != there:
                found.setdefault((here, there), []).append(f"{name}:{line}: {here} may not import {module}")
    return found


def test_rooms_import_only_what_the_table_allows() -> None:
    forbidden = [line for (here, there), lines in arrows().items() if there not in ROOMS[here] for line in lines]
    assert not forbidden, "\n".join(forbidden)


def test_the_table_names_every_room_and_has_no_circle() -> None:
    on_disk = {p.stem for p in (ROOT / "vlrm_ray").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert on_disk - {"__init__"} == set(MAY_IMPORT)
    seen: set[str] = set()
    for room, allowed in ROOMS.items():  # listed from the ground up, so each may name only those before it
        assert allowed <= seen, room
        seen.add(room)


def test_the_plan_fits_on_a_page() -> None:
    assert len(ROOMS) <= MOST_ROOMS
    assert len(arrows()) <= MOST_ARROWS


@pytest.mark.parametrize("package", ["vlrm_ray", "actors", "jobs"])
def test_modules_form_no_circle(package: str) -> None:
    """A circle of modules is a design error even where a late import makes it run; a package's face is no module."""
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in files(package) if p.stem != "__init__"}

    def targets(path: Path) -> set[str]:
        names = {name for _, module in imports(path) for name in (module, module.rpartition(".")[0])}
        return names & modules.keys()

    graph = {name: targets(path) - {name} for name, path in modules.items()}
    while free := [name for name, wanted in graph.items() if not wanted & graph.keys()]:
        for name in free:
            del graph[name]
    assert not graph, f"circle among {sorted(graph)}"


@pytest.mark.parametrize("name", WITHOUT_ENGINES)
def test_pure_modules_import_no_engine(name: str) -> None:
    assert ENGINES.isdisjoint(module.split(".")[0] for _, module in imports(ROOT / "vlrm_ray" / name))


@pytest.mark.parametrize(
    "room", ["store", "claims", "experts", "preferences", "reward", "pipeline", "report", "../actors"]
)
def test_training_never_sees_ground_truth(room: str) -> None:
    """Nothing that a run trains on may come from a scene: such rooms do not import the embedded world."""
    for path in files(f"vlrm_ray/{room}"):
        name = path.resolve().relative_to(ROOT)
        allowed = MEASURED_ON_SCENES.get("/".join(name.parts[1:]), set())
        used = {m.split(".")[2]: line for line, m in imports(path) if m.startswith("vlrm_ray.scenes.")}
        assert used.keys() <= allowed, [
            f"{name}:{line}: imports vlrm_ray.scenes.{m}" for m, line in used.items() if m not in allowed
        ]


def test_the_driver_is_short() -> None:
    assert len((ROOT / "jobs" / "iterate.py").read_text().splitlines()) <= 150


@pytest.mark.parametrize("folder", ["vlrm_ray", "actors", "jobs", "tests"])
def test_files_and_functions_stay_small(folder: str) -> None:
    """At most 400 lines a file and 60 a function, so that each can be read at a sitting."""
    long = [f"{p.relative_to(ROOT)}: {n} lines" for p in files(folder) if (n := len(p.read_text().splitlines())) > 400]
    for path in files(folder):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                long += [f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {size} lines"] * (size > 60)
    assert not long, "\n".join(long)


@pytest.mark.parametrize("folder", ["vlrm_ray", "actors", "jobs"])
def test_public_names_have_docstrings(folder: str) -> None:
    """Every public module, class, function and method says what it is; a `Protocol`'s and a property's too."""
    bare = []
    for path in files(folder):
        tree = ast.parse(path.read_text())
        if not ast.get_docstring(tree):
            bare.append(f"{path.relative_to(ROOT)}:1")
        owners = [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_"))]
        for node in (n for owner in owners for n in owner.body):
            named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_"
            if named and not ast.get_docstring(node):
                bare.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}")
    assert not bare, "\n".join(bare)
