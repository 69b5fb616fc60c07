"""Where a benchmark's data and results are: folders or URIs, the results never inside the data; and judging without images."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import evaluate
from tests.ray.programs import exit_status
from tests.s3_server import S3Server
from tests.unit import benchmark_files as files
from tests.unit.test_benchmarks_flow import PAIRWISE, POINTWISE, judge_for_cups
from vlrm_ray.config import Config, asset_path
from vlrm_ray.engines import Completion
from vlrm_ray.errors import StorageError, UserError
from vlrm_ray.evaluation.benchmarks import BENCHMARKS, compare, results, scoring
from vlrm_ray.evaluation.benchmarks.context_budget import ContextBudget
from vlrm_ray.evaluation.benchmarks.evaluator import PublicBenchmark
from vlrm_ray.evaluation.benchmarks.images import ImageResolver
from vlrm_ray.evaluation.benchmarks.items import Item
from vlrm_ray.evaluation.benchmarks.judging import JudgeOutput, JudgeSettings
from vlrm_ray.evaluation.benchmarks.scoring import Batch, JudgementLog, Scorer
from vlrm_ray.evaluation.benchmarks.setup import check_benchmark, check_output_folder, data_folder
from vlrm_ray.store.ledger import Ledger

POPE = BENCHMARKS["pope"]


def uploaded(s3: S3Server, folder: Path) -> str:
    """URI of a POPE of 18 questions in the bucket."""
    folder.mkdir()
    files.pope_files(folder)
    for path in folder.iterdir():
        s3.put(f"data/{path.name}", path.read_bytes())
    return s3.uri("data")


def scorer(data: Path, out: str, log: JudgementLog, settings: JudgeSettings = POINTWISE) -> Scorer:
    budget = ContextBudget(Path(asset_path("assets:vlm")), 400)
    return Scorer(settings, ImageResolver([data], Ledger(out), store_files=True), budget, log, batch_size=4)


# --- folders and URIs -------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True])
def test_data_and_results_may_be_in_an_object_store_and_an_interrupted_run_resumes(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """A process that is killed copies nothing at its end; what it had copied before, here after each batch, is kept."""
    data, out = data_folder("--data", uploaded(s3, tmp_path / "data")), s3.uri("out")
    items = POPE.read(data, files.silent)
    monkeypatch.setattr(scoring, "COPY_SECONDS", -1 if killed else 1000)
    local = JudgementLog(tmp_path / "local.jsonl", Ledger(out))

    def interrupted(batches: Iterator[Batch]) -> Iterator[tuple[int, list[JudgeOutput]]]:
        yield from list(judge_for_cups(batches))[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), nullcontext(local) if killed else JudgementLog.of(Ledger(out)) as log:
        first = scorer(data, out, log)
        first.score(first.missing(items, both=False), interrupted, lambda count: None)
    with JudgementLog.of(Ledger(out)) as log:
        assert len(log.judged) == 6
        second = scorer(data, out, log)
        second.score(second.missing(items, both=False), judge_for_cups, lambda count: None)
        assert all(request.image and "s3://" in request.image for request in second._requests(items[0], 0))
    results.write_results(POPE, items, log.judged, {}, out)
    results.check_any_judged(items, log.judged, out, data)
    assert len(s3.get("out/judged.jsonl").splitlines()) == json.loads(s3.get("out/summary.json"))["n"] == 18
    assert set(compare.load(out).outcomes) == {item.key for item in items}


def test_a_benchmark_of_each_round_may_be_in_an_object_store(s3: S3Server, tmp_path: Path) -> None:
    uri = uploaded(s3, tmp_path / "data")
    check_benchmark("pope", uri)
    with pytest.raises(StorageError, match="there is no such folder or file"):
        check_benchmark("pope", s3.uri("nowhere"))
    found = PublicBenchmark("pope", uri, Config().critic, 0.5, Ledger(s3.uri("run"))).evaluate(
        lambda requests: [Completion("Judgement: Yes", 0.9, 0.1) for _ in requests]
    )
    assert found.metrics["benchmark_pope_undecided"].n == 18


def test_a_folder_that_is_not_there_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--images .*/nowhere: folder not found; give the folder, or a URI"):
        data_folder("--images", str(tmp_path / "nowhere"))


@pytest.mark.parametrize("inside", ["data", "data/", "data/results", "link/results", "other/../data"])
def test_results_inside_the_data_are_refused(inside: str, tmp_path: Path) -> None:
    for name in ("data", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(UserError, match=r"--out .* is inside --data .*; give a folder outside of it$"):
        check_output_folder(str(tmp_path / inside), str(tmp_path / "data"))


def test_results_beside_or_above_the_data_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for out in ("data-results", "out", ""):
        check_output_folder(str(tmp_path / out), str(tmp_path / "data"))
    check_output_folder("s3://bucket/pope-results?region=x", "s3://bucket/pope?region=x")
    with pytest.raises(UserError, match="is inside --data s3://bucket/pope"):
        check_output_folder("s3://bucket/pope/results?region=x", "s3://bucket/pope?region=x")


def test_the_command_refuses_results_inside_the_data_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert exit_status(evaluate.main, "bench", "--benchmark", "pope", "--rm", asset_path("assets:vlm"), *where) == 2
    message = capsys.readouterr().err
    assert "is inside --data" in message
    assert len(message.strip().splitlines()) == 1


# --- without the images -----------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [POINTWISE, PAIRWISE])
def test_a_blind_judge_gets_the_same_requests_without_the_images(settings: JudgeSettings, tmp_path: Path) -> None:
    """An item whose image is missing is left out for both, so that results with and without images are of the same items."""
    (tmp_path / "data").mkdir()
    files.pope_files(tmp_path / "data")
    items = POPE.read(tmp_path / "data", files.silent)
    missing = Item(99, "x", ("random",), "Is there a cup?", "nowhere.png", ("Yes.", "No."), 0)
    log = JudgementLog(tmp_path / "judged.jsonl")
    sighted, blind = (
        scorer(tmp_path / "data", str(tmp_path), log, each) for each in (settings, replace(settings, blind=True))
    )
    sighted_requests, blind_requests = (
        [request for item in items for request in each._requests(item, 0)] for each in (sighted, blind)
    )
    assert all(request.image for request in sighted_requests)
    assert {request.image for request in blind_requests} == {None}
    assert [r.text for r in blind_requests] == [r.text for r in sighted_requests]
    assert blind._problem(missing, 0) == "image_missing"
