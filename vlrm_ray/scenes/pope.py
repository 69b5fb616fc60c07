"""A POPE benchmark made of rendered scenes, built from ground truth by the rule of POPE (Li et al. 2023).

For each image there are questions about three objects that are present. Each is followed by a question about an
absent object: a random one, the one most frequent in all images ("popular"), or the one that appears most often
together with the object of the previous question ("adversarial"). Objects are colored shapes. The scenes favor the
colors of the tiny VLM's prior, so that popular objects are also those that it expects.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from vlrm_ray.engines import Request
from vlrm_ray.evaluation.benchmarks import yes_no
from vlrm_ray.evaluation.benchmarks.pope import STRATEGIES
from vlrm_ray.evaluation.clusters import clustered_share
from vlrm_ray.evaluation.evaluator import Evaluated, JudgeFn
from vlrm_ray.evaluation.metrics import Metric
from vlrm_ray.evaluation.pairs import CritiquePair, ask_once, in_pairs, is_judged
from vlrm_ray.preferences.critique import CritiqueFormat
from vlrm_ray.scenes.images import store_image
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import COLORS, HELD_OUT, SHAPES, Scene, World
from vlrm_ray.store.ledger import Ledger

WORLD = World(bias=0.5, shape_counts=(0, 0, 0.5, 0.5))
PER_IMAGE = 3
"""Questions about present objects for each image, and as many about absent ones."""
NAMES = tuple(f"{color} {shape}" for shape in SHAPES for color in COLORS if (shape, color) not in HELD_OUT)
"""Names of all objects that the scenes can contain."""
_FIRST_SEED = 75_000_000


@dataclass(frozen=True)
class Question:
    """A yes-or-no question about the presence of an object.

    Attributes:
        scene: the scene of the image.
        strategy: how the absent objects are chosen, one of POPE's `STRATEGIES`.
        text: the question.
        present: the correct answer.
    """

    scene: Scene
    strategy: str
    text: str
    present: bool


def scenes(number: int) -> list[Scene]:
    """Scenes with at least `PER_IMAGE` different objects; no other stage uses their seeds."""
    sampled = (WORLD.sample(_FIRST_SEED + i) for i in count())
    suitable = (scene for scene in sampled if len(object_names(scene)) >= PER_IMAGE)
    return [next(suitable) for _ in range(number)]


def object_names(scene: Scene) -> list[str]:
    """Distinct names of the scene's shapes, in reading order."""
    return list(dict.fromkeys(obj.name for obj in scene.shapes))


def make_questions(drawn: Sequence[Scene]) -> list[Question]:
    """All questions about the scenes, by strategy. The same scenes always give the same questions."""
    names = [object_names(scene) for scene in drawn]
    frequency = Counter(dict.fromkeys(NAMES, 0))
    frequency.update(name for present in names for name in present)
    cooccurrences = _cooccurrences(names)
    ranked = [name for name, _ in frequency.most_common()]
    candidates: Mapping[str, Callable[[str], Sequence[str]]] = {
        "random": lambda name: (),
        "popular": lambda name: ranked,
        "adversarial": lambda name: [other for other, _ in cooccurrences[name].most_common()],
    }
    return [
        question
        for strategy in STRATEGIES
        for scene, present in zip(drawn, names, strict=True)
        for question in _questions_about(scene, present, strategy, candidates[strategy], ranked)
    ]


def _cooccurrences(names: Sequence[Sequence[str]]) -> dict[str, Counter[str]]:
    """For each name, how many images contain it together with each other name."""
    counts: dict[str, Counter[str]] = {}
    for present in names:
        for name in present:
            counts.setdefault(name, Counter()).update(other for other in present if other != name)
    return counts


def _questions_about(
    scene: Scene,
    present: Sequence[str],
    strategy: str,
    candidates: Callable[[str], Sequence[str]],
    all_names: Sequence[str],
) -> Iterator[Question]:
    """Yield a question about a present and one about an absent object in turn.

    `candidates` ranks the absent objects for the present one; without a candidate, a random one is taken.
    """
    rng = random.Random(f"pope-{strategy}-{scene.seed}")
    absent = [name for name in all_names if name not in present]
    for name in present[:PER_IMAGE]:
        yield Question(scene, strategy, question_text(name), True)
        ranked = [other for other in candidates(name) if other in absent]
        chosen = ranked[0] if ranked else rng.choice(absent)
        absent.remove(chosen)
        yield Question(scene, strategy, question_text(chosen), False)


def question_text(name: str) -> str:
    """The question whether an object is present, in the language of the embedded scenes."""
    return f"Is there {'an' if name[0] in 'aeiou' else 'a'} {name}?"


def write(folder: Path, number: int) -> int:
    """Write the images of `number` scenes and the question files in POPE's public format.

    Returns:
        The number of questions.
    """
    drawn = scenes(number)
    folder.mkdir(parents=True, exist_ok=True)
    for scene in drawn:
        paint(scene).image.save(folder / _file(scene))
    truth = [{"image": _file(scene), "objects": object_names(scene)} for scene in drawn]
    _write_lines(folder / "scenes_ground_truth.json", truth)
    questions = make_questions(drawn)
    for strategy in STRATEGIES:
        selected = [q for q in questions if q.strategy == strategy]
        rows = [
            {"question_id": i, "image": _file(q.scene), "text": q.text, "label": "yes" if q.present else "no"}
            for i, q in enumerate(selected, 1)
        ]
        _write_lines(folder / f"scenes_pope_{strategy}.json", rows)
    return len(questions)


def _file(scene: Scene) -> str:
    return f"{scene.seed}.png"


def _write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Pope:
    """Implements `vlrm_ray.evaluation.evaluator.Evaluator` for a POPE of rendered scenes."""

    title, headline = "pope", (*(f"pope_{strategy}_accuracy" for strategy in STRATEGIES), "pope_yes_ratio")

    def __init__(self, images: int, critique_format: CritiqueFormat, ledger: Ledger) -> None:
        """Ask about `images` scenes, whose images are stored in `ledger`."""
        self.questions, self.critique_format, self.ledger = make_questions(scenes(images)), critique_format, ledger

    def critique_count(self) -> int:
        """See `Evaluator.critique_count`."""
        return critique_count(self.questions)

    def evaluate(self, judge: JudgeFn) -> Evaluated:
        """Measure the accuracy of each strategy, and the share of yes."""
        answers = answer_questions(self.questions, self.critique_format, judge, self.ledger)
        return Evaluated(measure(self.questions, answers))


def critique_count(questions: Sequence[Question]) -> int:
    """Number of critiques that `answer_questions` requests: two per question, shared questions counted once."""
    return 2 * len({(question.scene.seed, question.text) for question in questions})


def answer_questions(
    questions: Sequence[Question],
    critique_format: CritiqueFormat,
    judge: JudgeFn,
    ledger: Ledger,
) -> list[bool | None]:
    """Answer each question by the statement ("Yes, ..." or "No, ...") with the higher reward; None for a tie, and if one was not judged.

    Questions that several strategies share are judged once.

    Args:
        questions: output of `make_questions`.
        critique_format: format of the critiques.
        judge: the reward model.
        ledger: stores the images.
    """
    requests = [
        Request(critique_format.prompt(q.text, answer), store_image(q.scene, ledger))
        for q in questions
        for answer in yes_no.answers(q.text)
    ]
    return [_preferred(pair) for pair in in_pairs(ask_once(judge, requests))]


def _preferred(pair: CritiquePair) -> bool | None:
    yes, no = (critique.reward for critique in pair)
    return yes > no if is_judged(pair) and yes != no else None


def measure(questions: Sequence[Question], answers: Sequence[bool | None]) -> dict[str, Metric]:
    """Accuracy by strategy, the share of yes and that of undecided questions, which are wrong; named as in `report.json`."""
    result = {}
    for strategy in STRATEGIES:
        asked = [(q, answer) for q, answer in zip(questions, answers, strict=True) if q.strategy == strategy]
        hits, images = [answer is q.present for q, answer in asked], [q.scene.seed for q, _ in asked]
        result[f"pope_{strategy}_accuracy"] = clustered_share(hits, images)
    images = [q.scene.seed for q in questions]
    return result | {
        "pope_yes_ratio": clustered_share([answer is True for answer in answers], images),
        "pope_undecided": clustered_share([answer is None for answer in answers], images),
    }
