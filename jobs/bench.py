"""Measure the throughput of the pipeline on this machine: one round, then the bare engine on the same prompts.

    python jobs/bench.py                          the embedded scenes
    python jobs/bench.py prompts.per_round=320    with overrides, as for jobs/iterate.py
    python jobs/bench.py --json                   also print the figures as JSON
    python jobs/bench.py experts                  the vision experts and the verifier alone, without Ray
    python jobs/bench.py stream --json            the stream of a round with simulated engines: scaling, slots, bytes, and
                                                  CPU seconds of the generate stage with the real engine; one line of JSON
    python jobs/bench.py stream 1000 10000        the driver's memory and the orchestration's ceiling at these prompts
    python jobs/bench.py overlap --json           idle GPUs of whole runs with and without cluster.overlap, with simulated
                                                  engines and trainings on 8 GPUs of a simulated cluster
    python jobs/bench.py autoscaling --json       a run on nodes that Ray's autoscaler starts and stops on this machine, of
                                                  which one is killed: nodes over time, with simulated engines
    python jobs/bench.py train --json             the training on CPU: against the loop of stage one, what each part of it
                                                  gains, a whole fit under Ray, memory at the start; one line of JSON
    python jobs/bench.py train RUN_FOLDER         the same with the pairs of a run's first round
    python jobs/bench.py train --paper            step time and memory on 8 to 64 GPUs, computed, as a table
    python jobs/bench.py sizes                    rounds and costs on 8 to 64 GPUs, computed, as tables

The figures of stream, overlap, autoscaling and train are always JSON; with --json their progress is printed to the standard error output.

The run's folder is temporary. Absolute times depend on the load of the machine; the ratio of pipeline and bare engine
compares two measurements of the same session.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from jobs.benches.round import measure_round
from vlrm_ray.config import load, with_overrides
from vlrm_ray.errors import UserError, run_as_program
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.store.ledger import Ledger


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", help="YAML configuration file, as for jobs/iterate.py")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on the last line")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="configuration overrides with dotted keys; `experts`, `stream`, `overlap`, `autoscaling`, `train` or `sizes` in "
        "front measures these alone",
    )
    parser.add_argument("--paper", action="store_true", help="with train: compute large trainings, measure nothing")
    arguments = parser.parse_args()
    if arguments.overrides[:1] == ["experts"]:
        from jobs.benches.experts import measure_experts

        figures = measure_experts(load(arguments.config, arguments.overrides[1:]), Progress())
        _show(figures, Progress(), as_json=arguments.json)
        return
    if arguments.overrides == ["sizes"]:
        from jobs.benches.sizing import print_tables

        print_tables()
        return
    if arguments.overrides[:1] == ["stream"]:
        _measure_stream(arguments)
        return
    if arguments.overrides[:1] == ["overlap"]:
        from jobs.benches.overlap import measure_overlap

        print(json.dumps(measure_overlap(_progress(arguments), arguments.overrides[1:])))
        return
    if arguments.overrides[:1] == ["autoscaling"]:
        from jobs.benches.autoscaling import measure_autoscaling

        print(json.dumps(measure_autoscaling(_progress(arguments))))
        return
    if arguments.overrides[:1] == ["train"]:
        _measure_train(arguments)
        return
    with tempfile.TemporaryDirectory() as scratch:
        config = load(arguments.config, [*arguments.overrides, "rounds=1", f"folder={scratch}", "name=bench"])
        check_inputs(config)
        progress = Progress()
        figures = measure_round(config, Ledger(f"{scratch}/bench"), progress)
    _show(figures, progress, as_json=arguments.json)


def _measure_stream(arguments: argparse.Namespace) -> None:
    """Measure the stream, and print the figures as one line of JSON."""
    from jobs.benches.generate_cpu import PARTS, measure_ratio
    from jobs.benches.stream import measure_size, measure_stream

    progress = _progress(arguments)
    sizes = arguments.overrides[1:]
    if wrong := [size for size in sizes if not size.isdecimal() or not int(size)]:
        raise UserError(f"stream {wrong[0]}: expected numbers of prompts, such as stream 1000 10000")
    if sizes:
        print(json.dumps(measure_size(progress, [int(size) for size in sizes])))
        return
    figures = measure_stream(progress)
    with tempfile.TemporaryDirectory() as scratch:
        config = load(arguments.config, ["rounds=1", f"folder={scratch}", "name=bench"])
        config = with_overrides(config, [f"prompts.per_round={PARTS * config.part_rows}"])
        check_inputs(config)
        figures |= measure_ratio(config, Ledger(f"{scratch}/bench"), progress)
    print(json.dumps(figures))


def _measure_train(arguments: argparse.Namespace) -> None:
    """Measure the training and print the figures as one line of JSON, or compute large ones and print a table."""
    runs = arguments.overrides[1:]
    if len(runs) > 1:
        raise UserError(f"train {' '.join(runs)}: expected at most one argument, the folder of a run")
    if arguments.paper:
        from jobs.benches.train_paper import print_tables

        print_tables()
        return
    from jobs.benches.train import measure_train

    print(json.dumps(measure_train(runs[0] if runs else None, _progress(arguments))))


def _progress(arguments: argparse.Namespace) -> Progress:
    """Progress on the standard output, or with --json on the standard error output."""
    return Progress(Console(stderr=True, highlight=False, soft_wrap=True) if arguments.json else None)


def _show(figures: dict[str, float], progress: Progress, *, as_json: bool) -> None:
    progress.table("bench", ["figure", "value"], [[name, f"{value:.2f}"] for name, value in figures.items()])
    if as_json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    run_as_program(main)
