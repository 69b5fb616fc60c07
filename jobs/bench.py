"""Measure the throughput of the pipeline on this machine: one round, then the bare engine on the same prompts.

    python jobs/bench.py                          the embedded scenes
    python jobs/bench.py prompts.per_round=320    with overrides, as for jobs/iterate.py
    python jobs/bench.py --json                   also print the figures as JSON
    python jobs/bench.py experts                  the vision experts and the verifier alone, without Ray
    python jobs/bench.py stream                   the stream of a round with simulated engines: scaling, slots, bytes
    python jobs/bench.py stream 1000 10000        the driver's memory and the orchestration's ceiling at these prompts

The run's folder is temporary. Absolute times depend on the load of the machine; the ratio of pipeline and bare engine
compares two measurements of the same session.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.benches.round import measure_round
from vlrm_ray.config import load
from vlrm_ray.errors import run_as_program
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
        help="configuration overrides with dotted keys; `experts` or `stream` in front measures these alone",
    )
    arguments = parser.parse_args()
    if arguments.overrides[:1] == ["experts"]:
        from jobs.benches.experts import measure_experts

        figures = measure_experts(load(arguments.config, arguments.overrides[1:]), Progress())
        _show(figures, Progress(), as_json=arguments.json)
        return
    if arguments.overrides[:1] == ["stream"]:
        from jobs.benches.stream import measure_size, measure_stream

        prompts = [int(number) for number in arguments.overrides[1:]]
        progress = Progress()
        print(json.dumps(measure_size(progress, prompts) if prompts else measure_stream(progress)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        config = load(arguments.config, [*arguments.overrides, "rounds=1", f"folder={scratch}", "name=bench"])
        check_inputs(config)
        progress = Progress()
        figures = measure_round(config, Ledger(f"{scratch}/bench"), progress)
    _show(figures, progress, as_json=arguments.json)


def _show(figures: dict[str, float], progress: Progress, *, as_json: bool) -> None:
    progress.table("bench", ["figure", "value"], [[name, f"{value:.2f}"] for name, value in figures.items()])
    if as_json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    run_as_program(main)
