"""Programs with several commands, `jobs/evaluate.py` and `jobs/bench.py`: one way to choose a command and its options."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from jobs import bench, doctor, evaluate, iterate, score
from vlrm_ray.config import Config
from vlrm_ray.errors import run_as_program


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[object, str, list[str]]]:
    """Runs a program with arguments; returns its exit status, its output and the lines of its error output."""

    def run(program: ModuleType, *arguments: str) -> tuple[object, str, list[str]]:
        monkeypatch.setattr(sys, "argv", [program.__file__, *arguments])
        status: object = 0
        try:
            run_as_program(program.main)
        except SystemExit as end:
            status = end.code
        output, errors = capsys.readouterr()
        return status, output, errors.splitlines()

    return run


@pytest.mark.parametrize("program", [evaluate, bench])
def test_help_lists_all_commands(program: ModuleType, run: Callable[..., tuple[object, str, list[str]]]) -> None:
    status, output, errors = run(program, "--help")
    assert (status, errors) == (0, [])
    assert [line for line in program.COMMANDS.values() if line not in output] == []


@pytest.mark.parametrize(("program", "package"), [(evaluate, "jobs.evaluations"), (bench, "jobs.benches")])
def test_the_help_of_each_command_is_its_module_and_its_options(
    program: ModuleType, package: str, run: Callable[..., tuple[object, str, list[str]]]
) -> None:
    for name in program.COMMANDS:
        status, output, _ = run(program, name, "--help")
        module = importlib.import_module(f"{package}.{name}")
        assert status == 0
        assert (module.__doc__ or "?").strip() in output
        assert "-h, --help" in output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--help"], "measure the detector or the OCR reader on labelled images"),
        (["--help"], "on held-out scenes, under image shifts, or on photographs"),
        (["calibrate", "--help"], "a class with fewer different objects than N is judged mostly by the figures of all"),
        (["experts", "--help"], "from the text to its claims and their verdicts"),
        (["bench", "--help"], "a name of the hub is not taken"),
    ],
)
def test_the_help_says_what_commands_and_options_do(
    arguments: list[str], text: str, run: Callable[..., tuple[object, str, list[str]]]
) -> None:
    _, output, _ = run(evaluate, *arguments)
    assert text in " ".join(output.split())


@pytest.mark.parametrize(
    ("program", "arguments", "line"),
    [
        (evaluate, [], "no command given; expected one of claims, verify, "),
        (evaluate, ["verfy"], "'verfy' is not a command; expected one of claims, verify, "),
        (evaluate, ["--json", "verify"], "'--json' is not a command; "),
        (evaluate, ["compare", "x"], "the following arguments are required: B; see `evaluate.py compare --help`"),
        (evaluate, ["report", "--rum", "x"], "the following arguments are required: --run; see `evaluate.py report -"),
        (bench, ["nonsense"], "'nonsense' is not a command; expected one of round, experts, "),
        (bench, ["--json", "experts"], "experts is a command: write it in front, as in `bench.py experts --help`"),
        (bench, ["--bogus"], "unrecognized arguments: --bogus; see `bench.py round --help`"),
        (
            bench,
            ["sizes", "--config", "x.yaml"],
            "unrecognized arguments: --config x.yaml; see `bench.py sizes --help`",
        ),
        (bench, ["sizes", "rounds=1"], "unrecognized arguments: rounds=1; see `bench.py sizes --help`"),
        (bench, ["autoscaling", "rounds=1"], "unrecognized arguments: rounds=1; "),
        (bench, ["experts", "--paper"], "unrecognized arguments: --paper; "),
        (
            bench,
            ["stream", "1000", "8"],
            "stream 8: some engines would get nothing to do; measure at least 100 prompts",
        ),
        (bench, ["stream", "1000", "--config", "x.yaml"], "--config is for the real engine, "),
        (bench, ["overlap", "within"], "overlap within: expected some of without, overlap, overlap_newest"),
        (bench, ["train", "a", "b"], "unrecognized arguments: b; "),
        (bench, ["train", "a", "--paper"], "--paper measures nothing, so it takes no run; leave a out"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    program: ModuleType, arguments: list[str], line: str, run: Callable[..., tuple[object, str, list[str]]]
) -> None:
    status, output, errors = run(program, *arguments)
    assert (status, output, len(errors)) == (2, "", 1)
    assert errors[0].startswith(f"error: {line}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config", "none.yaml"],
        ["seed=1", "--config", "none.yaml"],
        ["experts", "seed=1", "--config", "none.yaml", "seed=2"],
    ],
)
def test_options_may_stand_between_overrides_and_without_a_command_they_are_those_of_a_round(
    arguments: list[str], run: Callable[..., tuple[object, str, list[str]]]
) -> None:
    status, _, errors = run(bench, *arguments)
    assert status == 2
    assert errors == [line for line in errors if "none.yaml" in line]
    assert len(errors) == 1


def test_the_computed_tables_are_printed(run: Callable[..., tuple[object, str, list[str]]]) -> None:
    status, output, errors = run(bench, "sizes")
    assert (status, errors) == (0, [])
    assert output.startswith("| model | GPUs |")


@pytest.mark.parametrize(("lines", "options"), [(1, ()), (100_000, ()), (1, ("-u",))])
def test_a_reader_that_ends_first_ends_a_program_quietly(lines: int, options: tuple[str, ...]) -> None:
    """As in `jobs/evaluate.py show ... | head`: the output may be written at once (-u), or when the program ends."""
    program = f"""
import sys
from vlrm_ray.errors import run_as_program
def main():
    sys.stdin.readline()
    print("\\n".join(["line"] * {lines}))
run_as_program(main)
"""
    with subprocess.Popen(
        [sys.executable, *options, "-c", program], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": ""}, cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert process.stdout
        process.stdout.close()
        _, errors = process.communicate("go\n")
    assert (process.returncode, errors) == (141, "")


@pytest.mark.parametrize(
    ("program", "function", "options"),
    [
        (iterate, "print_plan", ["--dry-run"]),
        (doctor, "examine", ["--json"]),
    ],
)
def test_overrides_may_stand_on_both_sides_of_an_option(
    program: ModuleType,
    function: str,
    options: list[str],
    run: Callable[..., tuple[object, str, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Config] = []

    def remember(config: Config, *_: object, **__: object) -> list[object]:
        seen.append(config)
        return []

    monkeypatch.setattr(program, function, remember)
    status, _, errors = run(program, "name=x", *options, "rounds=1")
    assert (status, errors) == (0, [])
    assert [(config.name, config.rounds) for config in seen] == [("x", 1)]


def test_overrides_of_scoring_may_stand_on_both_sides_of_an_option(
    run: Callable[..., tuple[object, str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(score, "score", lambda arguments, progress: seen.append(arguments.overrides))
    options = ["--rm", "rm", "--data", "rows.jsonl", "--out", "scores.jsonl"]
    status, _, errors = run(score, "critic.k=1", *options, "cluster.cpus=4")
    assert (status, errors) == (0, [])
    assert seen == [["critic.k=1", "cluster.cpus=4"]]
