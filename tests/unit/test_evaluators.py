"""What a run is measured by: pairs about images that are held out, and public benchmarks, after each round."""

from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest

from tests.unit.benchmark_files import label_lines, png
from tests.unit.test_holdout import HASHES
from vlrm_ray.config import BenchmarkData, Config, load
from vlrm_ray.engines import Completion, Request
from vlrm_ray.errors import UserError
from vlrm_ray.evaluation.benchmarks import BENCHMARKS
from vlrm_ray.evaluation.benchmarks.evaluator import PublicBenchmark
from vlrm_ray.evaluation.benchmarks.setup import check_benchmark
from vlrm_ray.evaluation.evaluator import Evaluated, merged
from vlrm_ray.evaluation.held_out import ACCURACY, HeldOutPair, HeldOutPairs
from vlrm_ray.evaluation.metrics import share
from vlrm_ray.ids import seed_of
from vlrm_ray.pipeline import evaluators
from vlrm_ray.pipeline.holdout import holds_out, is_held_out
from vlrm_ray.preferences.critique import COMPACT
from vlrm_ray.scenes import pope
from vlrm_ray.store.ledger import Ledger

TRUE, FALSE = "There is a red bus.", "There are two dogs in it."


def config(*overrides: str) -> Config:
    return load(None, ["prompts.source=photos", "evaluation.pairs=0", "evaluation.holdout=0.5", *overrides])


def pairs(count: int) -> list[HeldOutPair]:
    return [HeldOutPair(f"pair{i}", f"{i}.png", HASHES[i], "What?", TRUE, FALSE) for i in range(count)]


def sees(requests: list[Request]) -> list[Completion]:
    """A judge that knows the false response, if it gets the image."""
    return [
        Completion("Judgement: Yes", *((0.1, 0.8) if FALSE in request.text and request.image else (0.7, 0.2)))
        for request in requests
    ]


def committed(ledger: Ledger, part: int, hashes: list[str], pairs_each: int = 1) -> None:
    """A part of round 1 with a prompt and its pairs for each image."""
    prompts = [(f"{part}-{i}", sha256) for i, sha256 in enumerate(hashes)]
    candidates = [
        {"prompt_id": name, "image": f"{name}.png", "sha256": sha256, "question": "What?", "text": text}
        for name, sha256 in prompts
        for text in (TRUE, FALSE)
    ]
    found = [
        {"pair_id": f"{name}-{k}", "prompt_id": name, "chosen": TRUE, "rejected": FALSE}
        for name, _ in prompts
        for k in range(pairs_each)
    ]
    tables = {"generate": pa.Table.from_pylist(candidates), "pair": pa.Table.from_pylist(found)}
    ledger.put_part(1, part, tables, {})


# --- pairs about images that are held out -------------------------------------------------------


def test_accuracy_with_and_without_the_image_and_by_length() -> None:
    evaluator = HeldOutPairs(pairs(20), COMPACT)
    found = evaluator.evaluate(sees)
    assert (found.metrics[ACCURACY].value, found.metrics[ACCURACY].n) == (1.0, 20)
    assert found.metrics[f"blind_{ACCURACY}"].value == 0.0  # equal rewards are a tie, which is wrong
    assert found.metrics["held_out_pick_shorter_accuracy"].value == 1.0
    assert found.metrics["held_out_pick_longer_accuracy"].value == 0.0
    assert found.metrics["held_out_balanced_accuracy"].value == 1.0
    assert found.details["hits"] == {ACCURACY: "1" * 20}
    assert found.details["samples"][0]["chosen_critique"]["yes"] == 0.7
    assert found.metrics["held_out_undecided"].value == 0.0


@pytest.mark.parametrize(("count", "published"), [(49, False), (50, True)])
def test_the_temperature_of_a_few_pairs_is_not_published(count: int, published: bool) -> None:
    found = HeldOutPairs(pairs(count), COMPACT).evaluate(sees)
    assert found.calibration.get("n") == (2 * count if published else None)
    assert 0 < found.details["temperature"] < 10


def test_a_pair_with_a_refused_response_is_wrong_and_no_measure_of_rewards() -> None:
    def judge(requests: list[Request]) -> list[Completion]:
        answers = zip(requests, sees(requests), strict=True)
        return [
            Completion("", refused="too_long") if TRUE in r.text and r.image in ("0.png", "1.png") else a
            for r, a in answers
        ]

    found = HeldOutPairs(pairs(20), COMPACT).evaluate(judge).metrics
    assert (found[ACCURACY].value, found["held_out_undecided"].value) == (0.9, 0.1)
    assert found["held_out_balanced_accuracy"].n == found["held_out_ece"].n == 36


def test_pairs_that_the_model_labels_itself_do_not_measure_it() -> None:
    assert holds_out(config())
    assert not holds_out(config("pairing.labels=self"))


def test_equal_requests_are_sent_once() -> None:
    sent: list[Request] = []
    evaluator = HeldOutPairs(pairs(3), COMPACT)

    def judge(requests: list[Request]) -> list[Completion]:
        sent.extend(requests)
        return sees(requests)

    evaluator.evaluate(judge)
    assert len(sent) == len(set(sent)) == evaluator.critique_count() == 3 * 2 + 2  # without the image all are alike


def test_the_calibration_error_is_measured_on_other_images_than_the_temperature_was_fitted_on() -> None:
    """Surely right on half of the images, surely wrong on the others: one temperature for all would hide it."""
    given = pairs(200)
    right = {pair.image for pair in given if seed_of("fold", pair.sha256) % 2}

    def judge(requests: list[Request]) -> list[Completion]:
        yes = [(TRUE in request.text) == (request.image in right) for request in requests]
        return [Completion("Judgement: Yes", *((0.99, 0.01) if is_yes else (0.01, 0.99))) for is_yes in yes]

    assert HeldOutPairs(given, COMPACT).evaluate(judge).metrics["held_out_ece"].value > 0.5


def test_no_pair_is_reported_as_such() -> None:
    found = HeldOutPairs([], COMPACT).evaluate(lambda requests: pytest.fail("nothing is to be judged"))
    assert {metric.n for metric in found.metrics.values()} == {0}
    assert found.calibration == {}


def test_the_pairs_of_round_1_about_held_out_images_are_measured(tmp_path: Path) -> None:
    ledger, settings = Ledger(str(tmp_path)), config()
    committed(ledger, 0, HASHES[:50])
    committed(ledger, 1, HASHES[50:60])
    out = {sha256 for sha256 in HASHES[:60] if is_held_out(settings, sha256)}
    found = evaluators.held_out_pairs(settings, ledger)
    assert {pair.sha256 for pair in found} == out
    assert (found[0].question, found[0].chosen, found[0].rejected) == ("What?", TRUE, FALSE)
    for table in tmp_path.rglob("*.parquet"):
        table.unlink()
    assert evaluators.held_out_pairs(settings, ledger) == found  # later rounds read no table


def test_of_too_many_pairs_those_measured_are_from_all_parts_and_of_different_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, settings = Ledger(str(tmp_path)), config()
    parts = [HASHES[40 * part : 40 * part + 40] for part in range(4)]
    for part, hashes in enumerate(parts):
        committed(ledger, part, hashes, pairs_each=3)
    images = {sha256 for hashes in parts for sha256 in hashes if is_held_out(settings, sha256)}
    monkeypatch.setattr(evaluators, "MOST_PAIRS", len(images) // 2)
    found = evaluators.held_out_pairs(settings, ledger)
    assert len({pair.sha256 for pair in found}) == len(found) == len(images) // 2
    assert {pair.pair_id.partition("-")[0] for pair in found} == {"0", "1", "2", "3"}
    ledger.delete("round-0001/held_out.json")
    monkeypatch.setattr(evaluators, "MOST_PAIRS", len(images) + 5)
    found = evaluators.held_out_pairs(settings, ledger)
    assert ({pair.sha256 for pair in found}, len(found)) == (images, len(images) + 5)


# --- what a run is measured by ------------------------------------------------------------------


def test_own_data_are_measured_by_default_and_scenes_by_their_bench(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    committed(ledger, 0, HASHES[:10])

    def titles(settings: Config, round_: int = 1) -> list[str]:
        return [e.title for e in evaluators.evaluators(settings, round_, ledger, ledger)]

    assert titles(load(None, ["prompts.source=photos", "evaluation.pairs=0"])) == ["held-out pairs"]
    scenes = load(None, ["evaluation.pairs=2", "evaluation.pope=2", "rounds=2"])
    assert [titles(scenes, round_) for round_ in (0, 1, 2)] == [
        ["evaluate", "pope"],
        ["evaluate"],
        ["evaluate", "pope"],
    ]
    assert not evaluators.is_measured(config("evaluation.holdout=0"))


def test_only_a_baseline_that_depends_on_nothing_else_is_cached() -> None:
    scenes = ["cache=somewhere", "evaluation.pairs=2"]
    assert evaluators.baseline_name(load(None, scenes)).startswith("starts/")
    assert evaluators.baseline_name(load(None, [*scenes, "prompts.source=photos"])) == ""
    assert evaluators.baseline_name(load(None, [*scenes, "evaluation.benchmarks=[{name: pope, data: x}]"])) == ""


def test_results_of_several_evaluators_are_joined() -> None:
    first = Evaluated({"a": share([True])}, {"hits": {"a": "1"}, "samples": [{"item_id": "a"}], "reliability": [1]})
    second = Evaluated({"b": share([False])}, {"hits": {"b": "0"}, "samples": [{"item_id": "b"}], "reliability": [2]})
    content = merged([first, second])
    assert (content["metrics"]["a"]["value"], content["metrics"]["b"]["value"]) == (1.0, 0.0)
    assert content["hits"] == {"a": "1", "b": "0"}
    assert [sample["item_id"] for sample in content["samples"]] == ["a", "b"]
    assert content["reliability"] == [1]


# --- public benchmarks --------------------------------------------------------------------------


def test_a_benchmark_is_judged_by_one_critique_of_each_answer(tmp_path: Path) -> None:
    pope.write(tmp_path / "data", 4)
    evaluator = PublicBenchmark("pope", str(tmp_path / "data"), config().critic, 0.5, Ledger(str(tmp_path / "run")))
    sent: list[Request] = []

    def says_yes(requests: list[Request]) -> list[Completion]:
        sent.extend(requests)
        return [Completion("Judgement: Yes", *((0.9, 0.1) if "Yes" in r.text else (0.2, 0.7))) for r in requests]

    found = evaluator.evaluate(says_yes)
    assert len(sent) == evaluator.critique_count() == 2 * len(evaluator.items)
    assert all(request.image for request in sent)
    assert found.metrics["benchmark_pope_accuracy"].value == 0.5  # half of POPE's answers are yes
    assert found.metrics["benchmark_pope_undecided"].value == 0.0
    assert found.details["hits"]["benchmark_pope_accuracy"].count("1") == len(evaluator.items) / 2
    assert set(found.details["clusters"]["benchmark_pope_accuracy"]) == {0, 1, 2, 3}, "questions about the same image"


def test_own_labels_have_an_accuracy_in_each_group_and_equal_rewards_are_undecided(tmp_path: Path) -> None:
    """The judge likes cups, but gives both responses of the fourth pair the same reward."""
    label_lines(tmp_path)

    def likes_cups(requests: list[Request]) -> list[Completion]:
        liked = ["A cup" in request.text or "all 3" in request.text for request in requests]
        return [Completion("Judgement: Yes", *((0.7, 0.2) if is_liked else (0.2, 0.7))) for is_liked in liked]

    evaluator = PublicBenchmark("labels", str(tmp_path), config().critic, 0.5, Ledger(str(tmp_path / "run")))
    found = {name.removeprefix("benchmark_labels_"): m for name, m in evaluator.evaluate(likes_cups).metrics.items()}
    assert {name: metric.value for name, metric in found.items() if name.endswith("_group")} == {
        "all_group": 1.0, "counting_group": 1.0, "places_group": 1.0, "text_in_images_group": 0.0,
    }  # fmt: skip
    assert (found["accuracy"].value, found["accuracy"].n, found["undecided"].value) == (0.8, 5, 0.2)


def test_the_configuration_knows_all_benchmarks() -> None:
    assert get_args(BenchmarkData.model_fields["name"].annotation) == tuple(BENCHMARKS)


def test_a_benchmark_is_listed_once_because_its_metrics_have_its_name() -> None:
    with pytest.raises(UserError, match=r"evaluation\.benchmarks: expected each name once.* other data of pope with"):
        config("evaluation.benchmarks=[{name: pope, data: a}, {name: pope, data: b}]")


def test_an_item_whose_image_is_missing_counts_as_wrong(tmp_path: Path) -> None:
    pope.write(tmp_path / "data", 4)
    (image, *_) = sorted((tmp_path / "data").rglob("*.png"))
    image.unlink()
    found = PublicBenchmark("pope", str(tmp_path / "data"), config().critic, 0.5, Ledger(str(tmp_path))).evaluate(sees)
    assert found.details["quarantined"]["pope"]["image_missing"] > 0


def test_unknown_benchmarks_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluation\.benchmarks\.0\.name: .*'pope'.* or 'labels', got 'popes'"):
        config("evaluation.benchmarks=[{name: popes, data: a}]")
    with pytest.raises(UserError, match="folder not found"):
        check_benchmark("pope", str(tmp_path / "nowhere"))


def test_images_are_stored_for_engines_on_other_nodes_only_if_asked_for(tmp_path: Path) -> None:
    from vlrm_ray.evaluation.benchmarks.images import ImageResolver

    (tmp_path / "a.png").write_bytes(png())
    local = ImageResolver([tmp_path], Ledger(str(tmp_path / "run")))
    assert local.uri("a.png") == str(tmp_path / "a.png")
    stored = ImageResolver([tmp_path], Ledger(str(tmp_path / "run")), store_files=True)
    assert stored.uri("a.png").startswith(str(tmp_path / "run"))
