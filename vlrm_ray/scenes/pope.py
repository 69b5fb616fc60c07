"""A POPE of rendered scenes, built from ground truth by POPE's rule (Li et al. 2023).

For each picture three things that are there, and beside each one thing that is not: a random one,
the one most frequent in all pictures, or the one that most often appears together with what was just
asked. Things are coloured shapes. Usual colours are common here, as in the world where the tiny VLM
grew up, so what is popular is also what it expects.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from vlrm_ray.engines import Completion, Request, scored_critique
from vlrm_ray.evaluation import metrics
from vlrm_ray.evaluation.benchmarks import yes_no
from vlrm_ray.evaluation.benchmarks.pope import STRATEGIES
from vlrm_ray.evaluation.metrics import Metric
from vlrm_ray.preferences.critique import CritiqueFormat
from vlrm_ray.scenes.pictures import store_picture
from vlrm_ray.scenes.render import paint
from vlrm_ray.scenes.world import COLORS, HELD_OUT, SHAPES, Scene, World
from vlrm_ray.store.ledger import Ledger

WORLD = World(bias=0.5, shape_counts=(0, 0, 0.5, 0.5))
PER_PICTURE = 3
"""Things asked about that are there, and as many that are not."""
NAMES = tuple(f"{color} {shape}" for shape in SHAPES for color in COLORS if (shape, color) not in HELD_OUT)
"""All that can be there."""
_FIRST_SEED = 75_000_000


@dataclass(frozen=True)
class Question:
    """Whether there is a thing in the picture of a scene."""

    scene: Scene
    strategy: str
    text: str
    there: bool


def scenes(number: int) -> list[Scene]:
    """Scenes with enough different things, seen by no other stage."""
    drawn = (WORLD.sample(_FIRST_SEED + i) for i in count())
    rich = (scene for scene in drawn if len(things(scene)) >= PER_PICTURE)
    return [next(rich) for _ in range(number)]


def things(scene: Scene) -> list[str]:
    """Names of what is there, each once, in reading order."""
    return list(dict.fromkeys(thing.name for thing in scene.shapes))


def questions(shown: Sequence[Scene]) -> list[Question]:
    """All questions about the scenes, by strategy; the same scenes give the same questions."""
    names = [things(scene) for scene in shown]
    frequency = Counter(dict.fromkeys(NAMES, 0))
    frequency.update(name for listed in names for name in listed)
    together = _together(names)
    ranked = [name for name, _ in frequency.most_common()]
    choose: Mapping[str, Callable[[str], Sequence[str]]] = {
        "random": lambda asked: (),
        "popular": lambda asked: ranked,
        "adversarial": lambda asked: [name for name, _ in together[asked].most_common()],
    }
    return [
        question
        for strategy in STRATEGIES
        for scene, listed in zip(shown, names, strict=True)
        for question in _about(scene, listed, strategy, choose[strategy], ranked)
    ]


def _together(names: Sequence[Sequence[str]]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for listed in names:
        for name in listed:
            found.setdefault(name, Counter()).update(other for other in listed if other != name)
    return found


def _about(
    scene: Scene, listed: Sequence[str], strategy: str, candidates: Callable[[str], Sequence[str]], known: Sequence[str]
) -> Iterator[Question]:
    rng = random.Random(f"pope-{strategy}-{scene.seed}")
    absent = [name for name in known if name not in listed]
    for asked in listed[:PER_PICTURE]:
        yield Question(scene, strategy, ask(asked), True)
        likely = [name for name in candidates(asked) if name in absent]
        missing = likely[0] if likely else rng.choice(absent)
        absent.remove(missing)
        yield Question(scene, strategy, ask(missing), False)


def ask(name: str) -> str:
    """The question, as the world of scenes words it."""
    return f"Is there {'an' if name[0] in 'aeiou' else 'a'} {name}?"


def write(folder: Path, number: int) -> int:
    """Pictures and question files in POPE's public format; returns the number of questions."""
    shown = scenes(number)
    folder.mkdir(parents=True, exist_ok=True)
    for scene in shown:
        paint(scene).image.save(folder / _file(scene))
    truth = [{"image": _file(scene), "objects": things(scene)} for scene in shown]
    _write_lines(folder / "scenes_ground_truth.json", truth)
    asked = questions(shown)
    for strategy in STRATEGIES:
        chosen = [q for q in asked if q.strategy == strategy]
        rows = [
            {"question_id": i, "image": _file(q.scene), "text": q.text, "label": "yes" if q.there else "no"}
            for i, q in enumerate(chosen, 1)
        ]
        _write_lines(folder / f"scenes_pope_{strategy}.json", rows)
    return len(asked)


def _file(scene: Scene) -> str:
    return f"{scene.seed}.png"


def _write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def statements(asked: Sequence[Question]) -> int:
    """How many statements are to be judged: two for each question, those that strategies share once."""
    return 2 * len({(question.scene.seed, question.text) for question in asked})


def answer_questions(
    asked: Sequence[Question],
    wording: CritiqueFormat,
    judge: Callable[[list[Request]], list[Completion]],
    ledger: Ledger,
) -> list[bool | None]:
    """What a reward model answers: the statement with the higher reward, None for a tie.

    Questions that several strategies share are judged once.
    """
    pairs = [
        [Request(wording.prompt(q.text, said), store_picture(q.scene, ledger)) for said in yes_no.answers(q.text)]
        for q in asked
    ]
    unique = list(dict.fromkeys(request for pair in pairs for request in pair))
    rewards = {request: scored_critique(answer).reward for request, answer in zip(unique, judge(unique), strict=True)}
    sides = [(rewards[yes], rewards[no]) for yes, no in pairs]
    return [None if yes == no else yes > no for yes, no in sides]


def measure(asked: Sequence[Question], answers: Sequence[bool | None]) -> dict[str, Metric]:
    """Accuracy by strategy (a tie is wrong) and the share of yes, as `report.json` holds them."""
    found = {
        f"pope_{strategy}_accuracy": metrics.share(
            [said is q.there for q, said in zip(asked, answers, strict=True) if q.strategy == strategy]
        )
        for strategy in STRATEGIES
    }
    return found | {"pope_yes_ratio": metrics.share([said is True for said in answers])}
