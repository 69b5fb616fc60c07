"""The POPE of rendered scenes: its rule, its public format, and what a judge's rewards make of it."""

import json
from collections import Counter
from pathlib import Path

from tests.unit import benchmark_files as files
from vlrm_ray.engines import Completion, Request
from vlrm_ray.evaluation.benchmarks import BENCHMARKS
from vlrm_ray.preferences.critique import COMPACT
from vlrm_ray.scenes import pope
from vlrm_ray.store.ledger import Ledger

SCENES = pope.scenes(60)
QUESTIONS = pope.questions(SCENES)


def test_each_strategy_asks_for_three_things_that_are_there_and_three_that_are_not() -> None:
    for strategy in ("random", "popular", "adversarial"):
        asked = [q for q in QUESTIONS if q.strategy == strategy]
        assert [q.there for q in asked] == [True, False] * (3 * len(SCENES))
        assert Counter(q.scene.seed for q in asked) == {scene.seed: 6 for scene in SCENES}
        for scene in SCENES:
            texts = [q.text for q in asked if q.scene is scene]
            assert len(set(texts)) == 6


def named(question: pope.Question) -> str:
    return question.text.split(maxsplit=3)[3].removesuffix("?")


def test_labels_are_the_ground_truth() -> None:
    for question in QUESTIONS:
        assert (named(question) in {thing.name for thing in question.scene.shapes}) is question.there


def absent_frequency(strategy: str) -> float:
    frequency = Counter(name for scene in SCENES for name in pope.things(scene))
    asked = [q for q in QUESTIONS if q.strategy == strategy and not q.there]
    return sum(frequency[named(q)] for q in asked) / len(asked)


def test_the_first_popular_negative_is_the_most_frequent_thing_that_is_not_there() -> None:
    frequency = Counter(name for scene in SCENES for name in pope.things(scene))
    for scene in SCENES:
        negatives = [named(q) for q in QUESTIONS if q.scene is scene and q.strategy == "popular" and not q.there]
        absent = sorted((frequency[name] for name in frequency if name not in pope.things(scene)), reverse=True)
        assert [frequency[name] for name in negatives] == absent[:3]
    assert absent_frequency("popular") > absent_frequency("adversarial") > absent_frequency("random")


def test_the_first_adversarial_negative_appears_most_often_with_what_was_asked() -> None:
    for scene in SCENES:
        there = pope.things(scene)
        together = Counter(n for s in SCENES if there[0] in pope.things(s) for n in pope.things(s) if n not in there)
        first = next(q for q in QUESTIONS if q.scene is scene and q.strategy == "adversarial" and not q.there)
        assert together[named(first)] == max(together.values())


def test_scenes_are_those_of_no_other_stage() -> None:
    seeds = {scene.seed for scene in pope.scenes(300)}
    assert len(seeds) == 300
    assert all(75_000_000 <= seed < 76_000_000 for seed in seeds)


def test_the_written_files_are_read_as_a_public_pope(tmp_path: Path) -> None:
    assert pope.write(tmp_path, 5) == 90
    items = BENCHMARKS["pope"].read(tmp_path, files.silent)
    assert Counter(item.groups[0] for item in items) == {"random": 30, "popular": 30, "adversarial": 30}
    row = json.loads((tmp_path / "scenes_pope_random.json").read_text().splitlines()[0])
    assert list(row) == ["question_id", "image", "text", "label"]
    assert (tmp_path / row["image"]).is_file()
    assert (items[0].question, items[0].better) == (row["text"], 0)


def test_a_judge_that_says_yes_to_everything_has_half_of_it_right(tmp_path: Path) -> None:
    asked = pope.questions(SCENES[:2])
    requests: list[Request] = []

    def judge(batch: list[Request]) -> list[Completion]:
        requests.extend(batch)
        return [Completion("", 0.9, 0.1) if "Response: Yes," in r.text else Completion("", 0.2, 0.8) for r in batch]

    found = pope.measure(asked, pope.answer_questions(asked, COMPACT, judge, Ledger(str(tmp_path))))
    assert {name: metric.value for name, metric in found.items()} == {
        "pope_random_accuracy": 0.5, "pope_popular_accuracy": 0.5, "pope_adversarial_accuracy": 0.5,
        "pope_yes_ratio": 1.0,
    }  # fmt: skip
    assert found["pope_random_accuracy"].n == 12
    assert len(requests) == len(set(requests)) < 2 * len(asked)  # what strategies share is asked once


def test_a_judge_that_cannot_tell_is_wrong_everywhere(tmp_path: Path) -> None:
    asked = pope.questions(SCENES[:1])
    answers = pope.answer_questions(asked, COMPACT, lambda batch: [Completion("")] * len(batch), Ledger(str(tmp_path)))
    assert {m.value for m in pope.measure(asked, answers).values()} == {0.0}
