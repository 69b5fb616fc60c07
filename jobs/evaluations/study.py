"""The method against its ablations, over seeds, on ScenesBench's test split.

    python jobs/evaluate.py study                          all arms, seeds 0 to 4
    python jobs/evaluate.py study --arms full,oracle --seeds 0,1 --pairs 200
    python jobs/evaluate.py study --summary                what has finished so far

Interrupt it at any time and run it again: finished runs are not repeated, an unfinished one goes on at
its first unfinished stage. Results are in runs/study/study.json; without that file it goes on from the
committed docs/study.json. Arms of the same seed share the policy's candidates and the experts' evidence.
"""

import argparse
import shutil
import time
from pathlib import Path

from actors.fleet import Fleet, spread
from jobs.study.arms import ARMS, FULL, config_of
from jobs.study.oracle import OracleDetector, OracleTextReader
from jobs.study.page import figure, fill, headline
from jobs.study.plots import draw
from jobs.study.results import Results, method_fingerprint, run_record
from jobs.study.summary import summarize
from vlrm_ray.config import Config, load, with_overrides
from vlrm_ray.errors import UserError
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.pipeline import graph
from vlrm_ray.pipeline.cluster import connected
from vlrm_ray.pipeline.preflight import check_inputs
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.rounds import Rounds, claim_config
from vlrm_ray.preferences.critique import FORMATS
from vlrm_ray.scenes import bench, best_of_n
from vlrm_ray.scenes.facts import KINDS
from vlrm_ray.store.ledger import Ledger

METHOD, COMMITTED = Path("jobs/configs/study.yaml"), Path("docs/study.json")
BETWEEN = 200
"""Pairs per group after rounds that are neither the first nor the last."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--config", metavar="FILE", default=METHOD, help="the method (%(default)s)")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated; all without it: %(default)s")
    parser.add_argument("--seeds", help="comma-separated numbers; without it each arm has its own 3 or 5")
    parser.add_argument("--pairs", type=int, default=2000, help="pairs per group before and after (%(default)s)")
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="part of ScenesBench (%(default)s)")
    parser.add_argument("--prompts", type=int, default=150, help="prompts of the best-of-8 test (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder (%(default)s)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="a page whose marked tables are made anew")
    parser.add_argument("--summary", action="store_true", help="only print what has finished")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted overrides of the method")


def run(arguments: argparse.Namespace) -> None:
    """Run what has not finished, and say what all of it shows."""
    progress = Progress()
    base = with_overrides(
        load(arguments.config, arguments.overrides),
        [f"evaluation.split={arguments.split}", f"evaluation.pairs={arguments.pairs}"],
    )
    results = Results(arguments.out / "study.json", method_fingerprint(base), COMMITTED)
    todo = _todo(arguments, results)
    if todo and not arguments.summary:
        check_inputs(base)
        progress.log(f"{len(todo)} runs to do: " + ", ".join(f"{arm}-{seed}" for arm, seed in todo))
        with connected(base, progress.log):
            graph.tune_ray_data()
            fleet = Fleet(base, Ledger(f"{arguments.out}/shared"), restarts=0)
            try:
                with progress.stage("start engines"):
                    fleet.start()
                for arm, seed in todo:
                    _Run(base, arm, seed, arguments, fleet, progress).into(results)
                    results.content["summary"] = summarize(results)
                    results.write()
            finally:
                fleet.close()
    results.content["summary"] = summarize(results)
    results.write()
    draw(results, arguments.out)
    if arguments.page:
        arguments.page.write_text(fill(arguments.page.read_text(), results.content["summary"]))
    _show(results, progress)


def _todo(arguments: argparse.Namespace, results: Results) -> list[tuple[str, int]]:
    """Runs by seed, then by arm, so that arms which share candidates follow one another."""
    names = arguments.arms.split(",")
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise UserError(f"there is no arm '{unknown[0]}'; choose from {', '.join(ARMS)}")
    try:
        chosen = [int(seed) for seed in arguments.seeds.split(",")] if arguments.seeds else None
    except ValueError:
        raise UserError(f"--seeds {arguments.seeds} is not a list of numbers like 0,1,2") from None
    wanted = [(name, seed) for name in names for seed in (chosen or range(ARMS[name].seeds))]
    return sorted((r for r in wanted if results.run(*r) is None), key=lambda r: (r[1], names.index(r[0])))


class _Run:
    """One arm with one seed."""

    def __init__(
        self, base: Config, arm: str, seed: int, arguments: argparse.Namespace, fleet: Fleet, progress: Progress
    ) -> None:
        self.arm, self.seed, self.progress, self.prompts = arm, seed, progress, arguments.prompts
        self.config = config_of(base, arm, seed, str(arguments.out))
        self.ledger = Ledger(f"{arguments.out}/{self.config.name}")
        truth = (
            ((OracleDetector, OracleTextReader), Verifier(Calibrations(exhaustive=KINDS))) if ARMS[arm].truth else ()
        )
        self.fleet = fleet.share_with(self.config, self.ledger, *truth)

    def into(self, results: Results) -> None:
        """Run to the end, and keep what the run leaves."""
        began = time.monotonic()
        self.progress.log(f"=== {self.arm}, seed {self.seed}: {ARMS[self.arm].what}")
        claim_config(self.config, self.ledger)
        for round_ in range(self.config.rounds + 1):
            self._round(round_)
        best = {"best_of": self._best_of()} if self.arm == FULL else {}
        tested = bench.items(self.config.evaluation.split, self.config.evaluation.pairs, self._store())
        texts = [(item.question, item.chosen, item.rejected) for item in tested]
        results.add(self.arm, self.seed, run_record(self.config, self.ledger, time.monotonic() - began, texts) | best)
        for left in ("versions", "train"):
            shutil.rmtree(self.ledger.path(left), ignore_errors=True)

    def _round(self, round_: int) -> None:
        whole = round_ in (0, self.config.rounds)
        config = self.config if whole else with_overrides(self.config, [f"evaluation.pairs={BETWEEN}"])
        rounds = Rounds(config, self.ledger, self.fleet, self.progress)
        if round_:
            rounds.gather(round_)
            rounds.train(round_)
        rounds.evaluate(round_)

    def _best_of(self) -> dict[str, object]:
        critic = self.config.critic
        votes, total = max(best_of_n.VOTES), self.prompts * 8
        with self.progress.stage("best of 8", total * (2 + votes), "texts") as meter:
            asked = best_of_n.options(
                self.prompts,
                8,
                lambda r, s: spread(self.fleet.policy, r, s, lambda n: meter.add(8 * n)),
                self.config.policy.max_tokens,
                self._store(),
            )
            sighted, blind = (
                best_of_n.rewards(
                    asked,
                    FORMATS[critic.format],
                    lambda r, s: spread(self.fleet.critics, r, s, lambda n: meter.add(n * s.n)),
                    k,
                    critic.max_tokens,
                    blind=unseeing,
                )
                for k, unseeing in ((votes, False), (1, True))
            )
        return dict(best_of_n.best_of(asked, sighted, blind))

    def _store(self) -> Ledger:
        return Ledger(self.config.cache)


def _show(results: Results, progress: Progress) -> None:
    summary = results.content["summary"]
    rows = [[name, headline(name, f), str(f["n"])] for name, f in summary.items() if "ci95" in f]
    progress.table("study", ["figure", "mean over seeds [95 % interval]", "seeds"], rows)
    rows = [[arm, *(figure(f) for f in groups.values())] for arm, groups in summary["ablations"].items()]
    progress.table("full method minus the arm", ["arm", "hallucination", "reasoning", "consistency"], rows)
    progress.log(f"results: {results.path}")
