"""The documentation agrees with the code: files, names, configuration keys and commands in it exist."""

import argparse
import ast
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache, reduce
from itertools import pairwise
from pathlib import Path

import pytest

from jobs import bench, config_reference, evaluate
from vlrm_ray.config import Config, keys, load

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "cluster/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
SCRIPTS = ("iterate", "evaluate", "bench", "score", "build_assets", "config_reference", "watching", "photos", "doctor")
WITH_COMMANDS = {"evaluate": ("evaluations", evaluate.COMMANDS), "bench": ("benches", bench.COMMANDS)}
"""Programs with several commands: the folder of their modules in `jobs/`, and the commands."""
SHARED_OPTIONS = ("evaluations/extractor_options", "benches/output")
"""Modules of `jobs/` that declare options for several commands."""
SUFFIXES = (
    ".py",
    ".md",
    ".yaml",
    ".yml",
    ".json",
    ".toml",
    ".txt",
    ".svg",
    ".png",
    ".pt",
    ".onnx",
    ".jsonl",
    ".parquet",
)
NOT_IN_CHECKOUT = re.compile(
    r"runs/.*|versions/.*|round-0001/.*|evidence/.*|images/.*|metrics/.*|train/|refused/|suspects/|site/.*|(s3|gs)://.*|/.*|\.\w+|.*[*<].*"
    r"|yolo11m\.pt|models\.json|(report|config|driver|prompts)\.(html|json)|vlrm_(reward|calibration)\.json|photo\.\w+|mine\.yaml|(prompts|metrics|rows)\.jsonl|scores\.parquet.*|prompts\.parquet|responses\.txt"
    r"|detector\.(pt|calibration\.json)|recognition/|recognition\.calibration\.json|.assets:.*|NAME\.py|.*/NAME\.py"
)
"""Files of a run, of an example, or outside the checkout."""
PHOTO_FILES = re.compile(
    r"@vladmandic/[a-z-]+|(archives|set)/|SPLIT/[A-Za-z0-9/.*-]+|licences\.txt|(statements|truth|responses|responses\.truth)\.jsonl"
)
"""Packages, and files in the cache of `make photos`."""
BENCHMARK_FILES = re.compile(
    r"data/(test-.*|all_data\.json|annotations\.json)|data/query/query_all\.json|mm_reward_bench\.jsonl"
    r"|coco_pope_random\.json|HallusionBench(_result)?\.json|hallusion_output_.*|answers/.*|(predictions|summary|labels)\.jsonl?"
    r"|cal\.py|2_get_accuracy\.py|evaluat(e|ion)\.py|inference\.py.*"
)
"""Files of public benchmarks and of their official scorers."""
OLD_NAMES = {"experts.reader.finder", "experts.reader.reader", "train.balance"}
"""Names that the changelog and the results mention because they are gone."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def inline_code(page: Path) -> Iterator[str]:
    """Texts in single backticks, without code blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text))


def commands(page: Path) -> Iterator[list[str]]:
    """Commands that run a program of `jobs/`, in code blocks and inline, without comments and continuations."""
    text = page.read_text()
    blocks = [match.replace("\\\n", " ") for match in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
    for line in [line for block in blocks for line in block.splitlines()] + list(inline_code(page)):
        words = shlex.split(line, comments=True)
        starts = [i for i, word in enumerate(words) if word.startswith("jobs/") and i and "python" in words[i - 1]]
        yield from (words[start:] for start in starts)


@cache
def definitions() -> dict[str, set[str]]:
    """Classes and functions of the code, each with its members: methods, properties and annotated fields."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in ("vlrm_ray", "actors", "jobs") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                members = found.setdefault(node.name, set())
                if isinstance(node, ast.ClassDef):
                    members |= {n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
                    members |= {
                        n.target.id
                        for n in node.body
                        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
                    }
    return found


def module_exists(dotted: str) -> bool:
    """Whether a dotted name is a module or package of the checkout, or a name in one."""
    parts = dotted.split(".")
    path = ROOT.joinpath(*parts)
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module = ROOT.joinpath(*parts[:-1]).with_suffix(".py")
    return (
        module.is_file() and re.search(rf"^(class|def)? ?{parts[-1]}\b", module.read_text(), re.MULTILINE) is not None
    )


def key_exists(key: str) -> bool:
    """Whether a dotted name is a configuration key or a section."""
    return any(known == key or known.startswith(f"{key}.") for known in keys())


SECTIONS = {key.partition(".")[0] for key in keys() if "." in key}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_in_backticks_exist(page: Path) -> None:
    missing = []
    for text in inline_code(page):
        looks_like_file = " " not in text and ("/" in text or text.endswith(SUFFIXES))
        if (
            not looks_like_file
            or NOT_IN_CHECKOUT.fullmatch(text)
            or BENCHMARK_FILES.fullmatch(text)
            or PHOTO_FILES.fullmatch(text)
        ):
            continue
        if not any((folder / text).exists() for folder in (ROOT, page.parent)):
            missing.append(text)
    assert not missing, f"{name_of(page)} names files that do not exist: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_in_backticks_exist(page: Path) -> None:
    """Modules (`vlrm_ray.x`), functions (`name()`), methods (`Name.method()`), classes (`CamelCase`), fields (`Name.field`)."""
    missing = []
    for text in inline_code(page):
        if re.fullmatch(r"(vlrm_ray|actors|jobs)(\.\w+)+", text) and not text.endswith(SUFFIXES):
            missing += [] if module_exists(text) else [text]
        elif text.endswith(SUFFIXES):
            continue
        elif match := re.fullmatch(r"([A-Z]\w*[a-z]\w*)(?:\.(\w+))?(?:\(\w*\))?", text):
            owner, member = match.groups()
            known = definitions()
            missing += [] if owner in known and (member is None or member in known[owner]) else [text]
        elif match := re.fullmatch(r"(\w+)\(\)", text):
            missing += [] if match[1] in definitions() else [text]
    assert not missing, f"{name_of(page)} uses names that the code does not define: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_are_in_the_files_that_the_documentation_gives(page: Path) -> None:
    """As in: `name()` in `file.py`, `First` and `Second` (`file.py`)."""
    wrong = []
    text = " ".join(page.read_text().split())
    for names, file in re.findall(r"((?:`[\w.]+(?:\(\w*\))?`(?:, | and )?)+) (?:in |\()\[?`([\w/]+\.py)`", text):
        source = (ROOT / file).read_text()
        for name in re.findall(r"`(\w+)", names):
            if not re.search(rf"^((async )?def |class )?{name}\b", source, re.MULTILINE):
                wrong.append((name, file))
    assert not wrong, f"{name_of(page)} looks for names in the wrong file: {wrong}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_configuration_keys_in_backticks_exist(page: Path) -> None:
    missing = []
    for text in inline_code(page):
        for word in text.split():
            key, _, value = word.partition("=")
            if (
                re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", key)
                and key.partition(".")[0] in SECTIONS
                and not key.endswith(SUFFIXES)
            ):
                if key in OLD_NAMES:
                    continue
                missing += [] if key_exists(key) else [word]
                if value:
                    load(None, [word])
    assert not missing, f"{name_of(page)} names keys that the configuration does not have: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken, f"{name_of(page)} has broken links: {broken}"


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_understood_by_their_programs(page: Path) -> None:
    """Programs exist, flags are declared, and overrides name keys with valid values."""
    for words in commands(page):
        program = Path(words[0]).stem
        assert (ROOT / words[0]).is_file(), words
        assert program in SCRIPTS, words
        folder, known = WITH_COMMANDS.get(program, ("", {}))
        if len(words) > 1 and words[1] in known:
            arguments = words[2:]
            declared = flags(ROOT / "jobs" / folder / f"{words[1]}.py")
        else:
            assert not folder or len(words) == 1, f"{name_of(page)}: no such command: {words}"
            arguments, declared = words[1:], flags(ROOT / words[0])
        unknown = [word for word in arguments if word.startswith("--") and word.partition("=")[0] not in declared]
        assert not unknown, f"{name_of(page)}: {' '.join(words)}: unknown {unknown}"
        shipped = [word for word in arguments if word.startswith("jobs/configs/")]
        load(ROOT / shipped[0] if shipped else None, [word for word in arguments if re.match(r"[a-z_.]+=", word)])
        for flag, value in pairwise(arguments):
            assert flag != "--config" or value in ("FILE", "mine.yaml") or (ROOT / value).is_file(), words


@cache
def flags(program: Path) -> set[str]:
    """Flags that a program's source declares, with those of `SHARED_OPTIONS` where it adds them."""
    source = program.read_text()
    for shared in SHARED_OPTIONS:
        if f"from jobs.{shared.replace('/', '.')} import" in source:
            source += (ROOT / "jobs" / f"{shared}.py").read_text()
    return {"--help", *re.findall(r'"(--[a-z-]+)"', source)}


@pytest.mark.parametrize("command", ["claims", "show", "report", "compare"])
def test_flags_are_found_in_the_source(command: str) -> None:
    """`flags` agrees with argparse where a command can be imported without an engine."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"jobs.evaluations.{command}").add_arguments(parser)
    declared = {flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")}
    assert flags(ROOT / "jobs" / "evaluations" / f"{command}.py") == declared | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)(?:[A-Z]+=\S+ )*make ([a-z]+)", page.read_text(), re.MULTILINE))
    assert named <= targets, named - targets


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_configuration_page_is_up_to_date() -> None:
    """After a change of `vlrm_ray/config.py` run `python jobs/config_reference.py`."""
    assert config_reference.PAGE.read_text() == config_reference.page()


def test_the_configuration_page_has_every_key() -> None:
    text = config_reference.page()
    assert not [key for key in keys() if f"| `{key}` |" not in text]


def test_the_configuration_page_shows_the_defaults_of_a_whole_configuration() -> None:
    rows = {line.split("`")[1]: line for line in config_reference.page().splitlines() if line.startswith("| `")}
    config = Config()
    for key in keys():
        value = reduce(getattr, key.split("."), config)
        default = json.dumps(value, default=str).replace("|", "\\|")
        assert f" | `{default}`" in rows[key], key


@pytest.mark.parametrize("limits", ["`evaluation.holdout` | number ≥ 0, < 1 |", "`policy.top_p` | number > 0, ≤ 1 |"])
def test_the_configuration_page_shows_all_limits_of_a_value(limits: str) -> None:
    assert limits in config_reference.page()


def test_every_room_has_a_reference_page() -> None:
    reference = "".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    rooms = [p for p in (ROOT / "vlrm_ray").iterdir() if (p / "__init__.py").is_file() or p.suffix == ".py"]
    names = {f"vlrm_ray.{path.stem}" for path in rooms if path.stem != "__init__"} | {"actors", "jobs"}
    assert set(re.findall(r"^::: (\S+)$", reference, re.MULTILINE)) == names
