"""Measure the throughput of the pipeline on this machine.

    python jobs/bench.py                          the embedded scenes: one round, then the bare engine on the same prompts
    python jobs/bench.py prompts.per_round=320    with overrides, as for jobs/iterate.py
    python jobs/bench.py COMMAND [options]
    python jobs/bench.py COMMAND --help           options and examples of a command

Folders of runs are temporary. Absolute times depend on the load of the machine; ratios compare measurements of the same session.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.commands import run_command
from vlrm_ray.errors import run_as_program

COMMANDS: dict[str, str] = {
    "round": "one round, then the bare engine on the same prompts; the command if none is given",
    "experts": "the vision experts and the verifier alone, without Ray",
    "stream": "the stream of a round with simulated engines: scaling, slots, bytes; memory at given numbers of prompts",
    "overlap": "idle GPUs of whole runs with and without cluster.overlap, with simulated engines and trainings",
    "autoscaling": "a run on nodes that Ray's autoscaler starts and stops on this machine, with simulated engines",
    "train": "the training on CPU against the loop of stage one; or large trainings, computed",
    "sizes": "rounds and costs on 8 to 64 GPUs, computed, as tables",
}
"""Summary of each command for `--help`; the commands are modules of `jobs/benches/`."""


def main() -> None:
    """Run the command that the command line names, `round` without one."""
    run_command(__doc__ or "", "jobs.benches", COMMANDS, default="round")


if __name__ == "__main__":
    run_as_program(main)
