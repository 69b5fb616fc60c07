"""The POPE benchmark of rendered scenes: its rule, its file format, and its metrics."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.unit import benchmark_files as files
from vlrm_ray.engines import Completion, Request
from vlrm_ray.evaluation.benchmarks import BENCHMARKS
from vlrm_ray.preferences.critique import COMPACT
from vlrm_ray.scenes import pope
from vlrm_ray.store.ledger import Ledger

SCENES = pope.scenes(60)
QUESTIONS = pope.make_questions(SCENES)


def test_each_strategy_asks_about_three_present_and_three_absent_objects() -> None:
    for strategy in ("random", "popular", "adversarial"):
        asked = [q for q in QUESTIONS if q.strategy == strategy]
        assert [q.present for q in asked] == [True, False] * (3 * len(SCENES))
        assert Counter(q.scene.seed for q in asked) == {scene.seed: 6 for scene in SCENES}
        for scene in SCENES:
            texts = [q.text for q in asked if q.scene is scene]
            assert len(set(texts)) == 6


def named(question: pope.Question) -> str:
    return question.text.split(maxsplit=3)[3].removesuffix("?")


def test_labels_are_the_ground_truth() -> None:
    for question in QUESTIONS:
        assert (named(question) in {obj.name for obj in question.scene.shapes}) is question.present


def absent_frequency(strategy: str) -> float:
    frequency = Counter(name for scene in SCENES for name in pope.object_names(scene))
    asked = [q for q in QUESTIONS if q.strategy == strategy and not q.present]
    return sum(frequency[named(q)] for q in asked) / len(asked)


def test_the_first_popular_negative_is_the_most_frequent_absent_object() -> None:
    frequency = Counter(name for scene in SCENES for name in pope.object_names(scene))
    for scene in SCENES:
        negatives = [named(q) for q in QUESTIONS if q.scene is scene and q.strategy == "popular" and not q.present]
        absent = sorted((frequency[name] for name in frequency if name not in pope.object_names(scene)), reverse=True)
        assert [frequency[name] for name in negatives] == absent[:3]
    assert absent_frequency("popular") > absent_frequency("adversarial") > absent_frequency("random")


def test_the_first_adversarial_negative_appears_most_often_with_the_present_object() -> None:
    for scene in SCENES:
        present = pope.object_names(scene)
        with_first = [pope.object_names(s) for s in SCENES if present[0] in pope.object_names(s)]
        together = Counter(name for names in with_first for name in names if name not in present)
        first = next(q for q in QUESTIONS if q.scene is scene and q.strategy == "adversarial" and not q.present)
        assert together[named(first)] == max(together.values())


def test_scenes_use_their_own_range_of_seeds() -> None:
    seeds = {scene.seed for scene in pope.scenes(300)}
    assert len(seeds) == 300
    assert all(75_000_000 <= seed < 76_000_000 for seed in seeds)


def test_the_written_files_can_be_read_as_public_pope_files(tmp_path: Path) -> None:
    assert pope.write(tmp_path, 5) == 90
    items = BENCHMARKS["pope"].read(tmp_path, files.silent)
    assert Counter(item.groups[0] for item in items) == {"random": 30, "popular": 30, "adversarial": 30}
    row = json.loads((tmp_path / "scenes_pope_random.json").read_text().splitlines()[0])
    assert list(row) == ["question_id", "image", "text", "label"]
    assert (tmp_path / row["image"]).is_file()
    assert (items[0].question, items[0].better) == (row["text"], 0)


def test_a_judge_that_always_says_yes_has_an_accuracy_of_one_half(tmp_path: Path) -> None:
    asked = pope.make_questions(SCENES[:2])
    requests: list[Request] = []

    def judge(batch: list[Request]) -> list[Completion]:
        requests.extend(batch)
        return [Completion("", 0.9, 0.1) if "Response: Yes," in r.text else Completion("", 0.2, 0.8) for r in batch]

    found = pope.measure(asked, pope.answer_questions(asked, COMPACT, judge, Ledger(str(tmp_path))))
    assert {name: metric.value for name, metric in found.items()} == {
        "pope_random_accuracy": 0.5, "pope_popular_accuracy": 0.5, "pope_adversarial_accuracy": 0.5,
        "pope_yes_ratio": 1.0, "pope_undecided": 0.0,
    }  # fmt: skip
    assert found["pope_random_accuracy"].n == 12
    assert len(requests) == len(set(requests)) < 2 * len(asked)  # questions shared by strategies are judged once


@pytest.mark.parametrize(
    "refused", [("Yes,", "No,"), ("Yes,",), ("No,",), ()], ids=["both", "the yes", "the no", "tied"]
)
def test_a_tie_and_a_refused_statement_leave_the_question_undecided_which_is_wrong(
    refused: tuple[str, ...], tmp_path: Path
) -> None:
    asked = pope.make_questions(SCENES[:1])

    def judge(batch: list[Request]) -> list[Completion]:
        sides = [any(f"Response: {side}" in request.text for side in refused) for request in batch]
        mass = 0.4 if len(refused) == 1 else 0.5  # a refused statement must not win by a reward of one half
        return [Completion("", refused="x") if side else Completion("", mass, 1 - mass) for side in sides]

    found = pope.measure(asked, pope.answer_questions(asked, COMPACT, judge, Ledger(str(tmp_path))))
    assert found.pop("pope_undecided").value == 1.0
    assert {m.value for m in found.values()} == {0.0}
