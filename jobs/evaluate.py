"""Evaluate a reward model, the vision experts or a finished run.

    python jobs/evaluate.py COMMAND [options]
    python jobs/evaluate.py COMMAND --help      options and examples of a command

Examples:

    python jobs/evaluate.py verify --image photo.png --text "There is a red circle."
    python jobs/evaluate.py report --run runs/scenes
    python jobs/evaluate.py bench --rm runs/scenes/versions/0003 --benchmark pope --data FOLDER --out FOLDER
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, also inside a Ray job

from jobs.commands import run_command
from vlrm_ray.errors import run_as_program

COMMANDS: dict[str, str] = {
    "claims": "extract the claims from each line of a text file",
    "verify": "check one response against one image, or all responses of a file: claims, verdicts and evidence",
    "calibrate": "measure the detector or the OCR reader on labelled images (COCO, YOLO, words) or the photographs of `make photos`",
    "experts": "measure the accuracy of the experts' verdicts on held-out scenes, under image shifts, or on photographs",
    "show": "write a web page about one prompt of a run: image, responses, verdicts, pairs, critiques",
    "report": "write report.html and report.json of a run again",
    "bench": "score a reward model or a VLM on a public benchmark",
    "compare": "compare two results of `bench`, item by item",
    "study": "train the method and its ablations over several seeds and compare them",
}
"""Summary of each command for `--help`; the commands are modules of `jobs/evaluations/`."""
RESUMED = {"bench", "study"}
"""Commands that go on where they were stopped."""


def main() -> None:
    """Run the command that the command line names."""
    run_command(__doc__ or "", "jobs.evaluations", COMMANDS)


if __name__ == "__main__":
    run_as_program(main, resumes=not RESUMED.isdisjoint(sys.argv[1:2]))
