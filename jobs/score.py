"""Score responses with a published reward model: rows of a file in, the same rows with their rewards out.

    python jobs/score.py --rm runs/scenes/versions/0003 --data rows.jsonl --out scores.parquet
    python jobs/score.py --rm s3://bucket/rm --data rows.parquet --out scores.jsonl --k 4 --critiques \\
        critic.engine.actors=1 critic.engine.gpus=1 critic.engine.dtype=bfloat16

The rows have the columns image (a path, a URI, or the content of an image file), question and response; all other columns
are kept. The file, or each file of a folder, is JSON lines, a JSON list, CSV or Parquet; the output is Parquet or JSON lines, by its suffix. It adds
the columns reward, label_mass, critiques, critique_rewards (one per critique) and reason, which says why a row has no reward.

A row's reward is the mean over --k critiques, calibrated if the version was evaluated. --k 0 asks for Yes or No without a
critique, which is faster and less accurate.

Finished parts are kept in the folder OUT.parts. You can interrupt the command at any time; run the same command again to
resume. If the data, the model or the settings have changed, it is refused.

There are two critics unless critic.engine.actors says otherwise. Without RAY_ADDRESS give cluster.cpus too, at least
critic.engine.actors times critic.engine.cpus.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, also inside a Ray job

from vlrm_ray.config import Config
from vlrm_ray.engines import Request
from vlrm_ray.errors import UserError, run_as_program
from vlrm_ray.evaluation.benchmarks.judging import POINTWISE
from vlrm_ray.evaluation.benchmarks.setup import judge_from_folder
from vlrm_ray.pipeline.cluster import check_kept, connected, stage_name
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.reward.reward_model import published_folder
from vlrm_ray.reward.score_files import SCHEMA, ScoreData, ScoreFile, may_get_a_reward, part_size
from vlrm_ray.reward.scoring import BadItem, Score, Scoring
from vlrm_ray.reward.temperature_scaling import read_temperature
from vlrm_ray.store.filesystem import redacted
from vlrm_ray.store.lease import DriverLease

REPLACED = "\ufffd"
"""The character that stands for bytes which are not valid in a file's encoding."""


def main() -> None:
    """Parse the command line and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rm", required=True, metavar="URI", help="folder or URI of a published reward model")
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="rows to score: path or URI of a file, or of a folder of files"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="output, .parquet or .jsonl: a path or URI")
    parser.add_argument(
        "--images", default="", metavar="DIR", help="folder that image paths start at (default: that of --data)"
    )
    parser.add_argument("--k", type=int, default=1, help="critiques per row, 1 is greedy, 0 is none (default: 1)")
    parser.add_argument("--critiques", action="store_true", help="write the texts of the critiques too")
    parser.add_argument("--retry", action="store_true", help="score parts with rows that have no reward once more")
    parser.add_argument("--config", metavar="FILE", help="YAML configuration file, as for jobs/iterate.py")
    parser.add_argument("--dry-run", action="store_true", help="check model and data, print what is to do, then exit")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="configuration overrides, such as critic.engine.kind=transformers",
    )
    score(parser.parse_intermixed_args(), Progress())


def score(arguments: argparse.Namespace, progress: Progress) -> None:
    """Score the rows that have no score yet, and write the output."""
    check_kept("--out", arguments.out)
    if any(override.startswith("critic.k=") for override in arguments.overrides):
        raise UserError("critic.k is the number of critiques in training; give the number for scores as --k")
    start, out = time.monotonic(), ScoreFile(arguments.out)
    folder, critique_format = published_folder("--rm", arguments.rm)
    judge = judge_from_folder(arguments.rm, POINTWISE, max(1, arguments.k), arguments.config, arguments.overrides)
    critic, temperature = judge.config.critic, read_temperature(folder)
    scoring = Scoring.create(
        critique_format,
        arguments.k,
        critic.max_tokens,
        critic.temperature,
        judge.config.selection.label_mass,
        temperature,
        with_texts=arguments.critiques,
    )
    data = ScoreData.open(arguments.data)
    size = part_size(data.rows, critic.engine.actors)
    progress.log(f"{data.rows} rows to score by {redacted(arguments.rm)}, k={arguments.k}, calibration {temperature}")
    if arguments.dry_run:
        progress.log(f"parts of {size} rows on {critic.engine.actors} actors, engine {critic.engine.kind}")
        return
    settings = {"images": arguments.images, "critiques": arguments.critiques, "calibration": temperature}
    identity = {**judge.identity, "data": data.sha256, **settings, "k": arguments.k, "columns": SCHEMA.names}
    size = out.bind(identity, size)
    with DriverLease(out.ledger, progress.log):
        run = _Run(judge.config, data, out, scoring, size, arguments.images, progress)
        run.score(out.finished(without_failed=arguments.retry))
        out.write(data, size)
        _report(data, out, size, time.monotonic() - start, progress)


class _Run:
    """The scoring of the parts that are missing."""

    def __init__(
        self,
        config: Config,
        data: ScoreData,
        out: ScoreFile,
        scoring: Scoring,
        size: int,
        images: str,
        progress: Progress,
    ) -> None:
        self.config, self.data, self.out, self.scoring, self.size = config, data, out, scoring, size
        self.progress, self.locate = progress, data.locate(images)
        self.sent: dict[int, tuple[int, list[Score | None]]] = {}

    def score(self, finished: set[int]) -> None:
        """Score all parts but the finished ones, on a new or an existing Ray cluster."""
        parts = range(-(-self.data.rows // self.size))
        rows = sum(self._rows_of(part) for part in parts if part not in finished)
        if finished:
            self.progress.log(f"resumed: {self.data.rows - rows} rows have their scores already")
        if not rows:
            return
        with ExitStack() as stack:
            with self.progress.stage(f"{stage_name(self.config)}, start the engines"):
                stack.enter_context(connected(self.config, self.progress.log))
                pool = self._pool(stack)
            with self.progress.stage("score", rows, "rows") as meter:
                for number, answers in pool(self._batches(finished, meter.add)):
                    part, scores = self.sent.pop(number)
                    answered = iter(answers)
                    self.out.put(part, [known or self.scoring.score(next(answered)) for known in scores])
                    meter.add(len(scores))

    def _rows_of(self, part: int) -> int:
        return min(self.size, self.data.rows - part * self.size)

    def _pool(self, stack: ExitStack) -> Any:
        from actors.engine_batches import BATCHES_IN_FLIGHT
        from actors.fleet import JUDGE_REMEDY, Fleet

        fleet = Fleet(self.config, self.out.ledger)
        stack.callback(fleet.close)
        fleet.start(policy=False)
        sequences = self.size * (self.scoring.sampling.n if self.scoring.sampling else 1)
        in_flight = max(BATCHES_IN_FLIGHT, 2 * self.config.critic.engine.max_num_seqs // sequences)
        return fleet.batches("critic", self.scoring.sampling, in_flight, JUDGE_REMEDY)

    def _batches(self, finished: set[int], done: Any) -> Iterator[list[Request]]:
        """The requests of each part, of a committed one only for rows that may get a reward now.

        Rows that cannot be sent have their score at once.
        """
        number, committed = 0, self.out.finished()
        for part, rows in self.data.parts(self.size):
            if part in finished:
                continue
            requests: list[Request] = []
            scores: list[Score | None] = []
            known: Sequence[Score | None] = self.out.scores(part) if part in committed else [None] * len(rows)
            for row, before in zip(rows, known, strict=True):
                if before and not may_get_a_reward(before.reason):
                    scores.append(before)
                    continue
                try:
                    requests.append(self._request(row))
                    scores.append(None)
                except BadItem as error:
                    scores.append(Score(reason=str(error)))
            if requests:
                self.sent[number] = part, scores
                number += 1
                yield requests
            else:
                self.out.put(part, [score for score in scores if score])
                done(len(scores))

    def _request(self, row: Mapping[str, Any]) -> Request:
        question, response = row.get("question"), row.get("response")
        for name, text in (("question", question), ("response", response)):
            if isinstance(text, str) and REPLACED in text:
                raise BadItem(f"{name}_with_invalid_characters")
        image = row.get("images") if row.get("image") is None else row["image"]
        return self.scoring.request(image, question, response, self.locate)


def _report(data: ScoreData, out: ScoreFile, size: int, seconds: float, progress: Progress) -> None:
    """Print the closing line; raises UserError if no row has a reward."""
    reasons = Counter(out.reasons(range(-(-data.rows // size))))
    scored = reasons.pop("", 0)
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    failed = f"{data.rows - scored} without reward" + (f" ({counts})" if counts else "")
    if not scored:
        raise UserError(f"no row has a reward: {counts}; see {redacted(out.out)}, correct the rows, and add --retry")
    progress.log(f"{data.rows} rows, {scored} scored, {failed}, {seconds:.1f} s: {redacted(out.out)}")


if __name__ == "__main__":
    run_as_program(main, resumes=True)
