"""The language of the embedded scenes: descriptions, questions, and true and false answers about a scene."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from vlrm_ray.scenes import statement_claims
from vlrm_ray.scenes.world import COLORS, GRID, SHAPES, SIGN, WORDS, Scene, SceneObject
from vlrm_ray.types import Claim

ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
NUMBERS = ("no", "one", "two", "three", "four", "five")
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Check:
    """The check of one claim in a critique.

    The text repeats the claim and what the description says about it; the result follows. Writing the looked-up fact
    before the result splits the task into two steps, which the tiny model needs.

    Attributes:
        text: the claim with the fact that it is compared with, such as "circle blue found red".
        holds: whether the claim is true.
    """

    text: str
    holds: bool

    def __str__(self) -> str:
        return f"{self.text} {'yes' if self.holds else 'no'}"


@dataclass(frozen=True)
class Statement:
    """One or more sentences about a scene.

    Attributes:
        text: the sentences.
        checks: the checks that a critique of the text makes; together they decide whether it is true.
        claims: the claims in the text.
    """

    text: str
    checks: tuple[Check, ...]
    claims: tuple[Claim, ...]

    @property
    def true(self) -> bool:
        """Whether every claim is true."""
        return all(check.holds for check in self.checks)


@dataclass(frozen=True)
class Exchange:
    """A question about a scene with a true answer, and a copy of that answer in which one claim is false.

    Attributes:
        kind: kind of question.
        question: the question.
        rephrased: the same question in other words.
        right: the true answer.
        wrong: the false answer.
        slots: the words in which the answers differ, (in `right`, in `wrong`), such as ("red circle", "blue circle").
    """

    kind: str
    question: str
    rephrased: str
    right: Statement
    wrong: Statement
    slots: tuple[str, str]


def cell_name(cell: tuple[int, int]) -> str:
    """Name of a (row, column) cell, "top left" to "bottom right"."""
    return f"{ROWS[cell[0]]} {COLUMNS[cell[1]]}"


def label(obj: SceneObject) -> str:
    """Name of an object in lists: "red circle" or "sign STOP"."""
    return f"{SIGN} {obj.word}" if obj.shape == SIGN else obj.name


def with_cell(scene: Scene, name: str) -> str:
    """The name followed by the cell of the first object with that name, or only the name if there is none."""
    return next((f"{name} {cell_name(o.cell)}" for o in scene.objects if o.name == name), name)


def describe_scene(scene: Scene) -> str:
    """All objects with their cells, in reading order: "red circle top left, sign STOP middle right"."""
    return ", ".join(f"{label(o)} {cell_name(o.cell)}" for o in scene.objects)


def describe_grid(scene: Scene) -> str:
    """The contents of the nine cells in reading order; "empty" for a cell without an object."""
    labels = {o.cell: label(o) for o in scene.objects}
    return ", ".join(labels.get((r, c), "empty") for r in range(GRID) for c in range(GRID)) + "."


def plural(shape: str, count: int) -> str:
    """The shape's noun in the singular or plural, as the count requires."""
    return shape if count == 1 else f"{shape}s"


def make_exchange(scene: Scene, rng: random.Random, kind: str) -> Exchange | None:
    """Make a question of the given kind, or return None if the scene does not allow one."""
    return KINDS[kind](scene, rng)


def any_exchange(scene: Scene, rng: random.Random, kinds: tuple[str, ...]) -> Exchange:
    """Make a question of a random kind out of those of `kinds` that the scene allows, else one about existence."""
    for kind in rng.sample(kinds, len(kinds)):
        exchange = make_exchange(scene, rng, kind)
        if exchange is not None:
            return exchange
    return _existence(scene, rng)


# --- existence, attribute, count, relation, text: one claim each -------------------------------


def _existence(scene: Scene, rng: random.Random) -> Exchange:
    present = {o.name for o in scene.shapes}
    obj = rng.choice(scene.shapes)
    other = _absent_name(obj, rng, present)
    name = obj.name if rng.random() < 0.5 else other
    is_present = name in present

    def answer(yes: bool) -> Statement:
        text = f"Yes, there is a {name}." if yes else f"No, there is no {name}."
        phrase = with_cell(scene, name)
        check = Check(phrase if yes else f"no {phrase}", yes == is_present)
        claims = statement_claims.presence(name) if yes else statement_claims.absence(name)
        return Statement(_fix_article(text), (check,), claims)

    question = _fix_article(f"Is there a {name}?")
    rephrased = _fix_article(f"Do you see a {name}?")
    yes, no = f"{name} there", f"{name} missing"
    slots = (yes, no) if is_present else (no, yes)
    return Exchange("existence", question, rephrased, answer(is_present), answer(not is_present), slots)


def _object(scene: Scene, rng: random.Random) -> Exchange:
    present = {o.name for o in scene.shapes}
    obj = rng.choice(scene.shapes)
    other = _absent_name(obj, rng, present)

    def answer(name: str) -> Statement:
        check = Check(with_cell(scene, name), name in present)
        return Statement(_fix_article(f"There is a {name}."), (check,), statement_claims.presence(name))

    question, rephrased = "Name one shape.", "Tell me one shape."
    return Exchange("existence", question, rephrased, answer(obj.name), answer(other), (obj.name, other))


def _attribute(scene: Scene, rng: random.Random) -> Exchange | None:
    unique = _unique_shapes(scene)
    if not unique:
        return None
    obj = rng.choice(unique)
    wrong = rng.choice([c for c in COLORS if c != obj.color])
    shape = obj.shape
    return Exchange(
        "attribute",
        f"What color is the {shape}?",
        f"Which color does the {shape} have?",
        _attribute_statement(obj, obj.color),
        _attribute_statement(obj, wrong),
        (obj.name, f"{wrong} {shape}"),
    )


def _attribute_statement(obj: SceneObject, color: str) -> Statement:
    check = _color_check(obj, color)
    return Statement(f"The {obj.shape} is {color}.", (check,), statement_claims.color(obj.shape, color))


def _color_check(obj: SceneObject, color: str) -> Check:
    return Check(f"{obj.shape} {color} found {obj.color}", color == obj.color)


def _count(scene: Scene, rng: random.Random) -> Exchange:
    shape = rng.choice(SHAPES) if rng.random() < 0.3 else rng.choice(scene.shapes).shape
    right = scene.count(shape)
    wrong = rng.choice([n for n in (right - 1, right + 1) if 0 <= n <= 5])
    return Exchange(
        "count",
        f"How many {shape}s are there?",
        f"Count the {shape}s.",
        _count_statement(scene, shape, right),
        _count_statement(scene, shape, wrong),
        (NUMBERS[right], NUMBERS[wrong]),
    )


def _count_statement(scene: Scene, shape: str, number: int) -> Statement:
    verb = "is" if number == 1 else "are"
    phrase = f"{NUMBERS[number]} {plural(shape, number)}"
    true_number = scene.count(shape)
    check = Check(f"{phrase} found {NUMBERS[true_number]}", number == true_number)
    return Statement(f"There {verb} {phrase}.", (check,), statement_claims.count(shape, number))


def relations(first: SceneObject, second: SceneObject) -> list[str]:
    """The relations of the first object to the second that hold, by their cells."""
    horizontal = [] if first.col == second.col else ["left of" if first.col < second.col else "right of"]
    vertical = [] if first.row == second.row else ["above" if first.row < second.row else "below"]
    return horizontal + vertical


def _relation(scene: Scene, rng: random.Random) -> Exchange | None:
    unique = _unique_objects(scene)
    if len(unique) < 2:
        return None
    first, second = rng.sample(unique, 2)
    right = rng.choice(relations(first, second))
    where = f"the {first.name} relative to the {second.name}"
    return Exchange(
        "relation",
        f"Where is {where}?",
        f"Tell me where {where} is.",
        _relation_statement(first, second, right),
        _relation_statement(first, second, OPPOSITES[right]),
        (right, OPPOSITES[right]),
    )


def _relation_statement(first: SceneObject, second: SceneObject, relation: str) -> Statement:
    text = f"{first.name} {cell_name(first.cell)} {relation} {second.name} {cell_name(second.cell)}"
    check = Check(text, relation in relations(first, second))
    claims = statement_claims.relation(first.name, relation, second.name)
    return Statement(f"The {first.name} is {relation} the {second.name}.", (check,), claims)


def _text(scene: Scene, rng: random.Random) -> Exchange | None:
    if scene.sign is None:
        return None
    word = scene.sign.word

    def answer(claimed: str) -> Statement:
        check = Check(f"{SIGN} {word} says {claimed}", claimed == word)
        return Statement(f"The sign says {claimed}.", (check,), statement_claims.text(claimed, SIGN))

    wrong = rng.choice([w for w in WORDS if w != word])
    return Exchange("text", "What does the sign say?", "Read the sign.", answer(word), answer(wrong), (word, wrong))


# --- several claims: a description, and two-step reasoning -------------------------------------


def _describe(scene: Scene, rng: random.Random) -> Exchange:
    names = list(dict.fromkeys(o.name for o in scene.shapes))
    counts = {name: sum(o.name == name for o in scene.shapes) for name in names}
    replaced = rng.randrange(len(names))
    original = next(o for o in scene.shapes if o.name == names[replaced])
    false_name = _absent_name(original, rng, set(names))
    false_names = [false_name if i == replaced else n for i, n in enumerate(names)]
    numbers = [counts[n] for n in names]

    def answer(listed: list[str]) -> Statement:
        parts, checks = [], []
        claims: tuple[Claim, ...] = ()
        for name, number in zip(listed, numbers, strict=True):
            true_number = counts.get(name, 0)
            several = number > 1
            parts.append(f"{NUMBERS[number]} {name}s" if several else f"a {name}")
            counted = f"{NUMBERS[number]} {name}s found {NUMBERS[true_number]}"
            checks.append(Check(counted if several else with_cell(scene, name), true_number >= number))
            claims += statement_claims.count(name, number) if several else statement_claims.presence(name)
        text = f"There {'are' if numbers[0] > 1 else 'is'} {_join(parts)}."
        if scene.sign is not None:
            text += f" The sign says {scene.sign.word}."
            checks.append(Check(f"{label(scene.sign)} says {scene.sign.word}", True))
            claims += statement_claims.text(scene.sign.word, SIGN)
        return Statement(_fix_article(text), tuple(checks), claims)

    question, rephrased = "Describe the image.", "What do you see?"
    slots = (original.name, false_name)
    return Exchange("describe", question, rephrased, answer(names), answer(false_names), slots)


def _compare(scene: Scene, rng: random.Random) -> Exchange:
    first = rng.choice(scene.shapes).shape
    second = rng.choice([s for s in SHAPES if s != first])
    if rng.random() < 0.5:
        first, second = second, first
    first_count, second_count = scene.count(first), scene.count(second)
    right = "more" if first_count > second_count else "fewer" if first_count < second_count else "as many"

    def answer(comparison: str) -> Statement:
        link = "as" if comparison == "as many" else "than"
        phrase = f"{comparison} {first}s {link} {second}s"
        check = Check(f"{phrase} found {NUMBERS[first_count]} {NUMBERS[second_count]}", comparison == right)
        return Statement(f"There are {phrase}.", (check,), statement_claims.comparison(first, comparison, second))

    wrong = rng.choice([w for w in ("more", "fewer", "as many") if w != right])
    return Exchange(
        "compare",
        f"Are there more {first}s or {second}s?",
        f"Compare the {first}s with the {second}s.",
        answer(right),
        answer(wrong),
        (right, wrong),
    )


def _odd_one_out(scene: Scene, rng: random.Random) -> Exchange | None:
    unique = _unique_shapes(scene)
    if not unique or len(scene.shapes) < 2:
        return None
    obj = rng.choice(unique)
    wrong = rng.choice([c for c in COLORS if c != obj.color])

    def answer(color: str) -> Statement:
        count_check = Check(f"one {obj.shape} found {NUMBERS[1]}", True)
        text = f"There is only one {obj.shape} and it is {color}."
        claims = (*statement_claims.count(obj.shape, 1), *statement_claims.color(obj.shape, color))
        return Statement(text, (count_check, _color_check(obj, color)), claims)

    question, rephrased = "Which shape is there only once?", "Name a shape that is there just once."
    slots = (obj.name, f"{wrong} {obj.shape}")
    return Exchange("odd_one_out", question, rephrased, answer(obj.color), answer(wrong), slots)


def _two_relations(scene: Scene, rng: random.Random) -> Exchange | None:
    unique = _unique_objects(scene)
    if len(unique) < 3:
        return None
    subject, second, third = rng.sample(unique, 3)
    to_second, to_third = rng.choice(relations(subject, second)), rng.choice(relations(subject, third))
    first_is_false = rng.random() < 0.5

    def answer(to_second: str, to_third: str) -> Statement:
        parts = _relation_statement(subject, second, to_second), _relation_statement(subject, third, to_third)
        text = f"The {subject.name} is {to_second} the {second.name} and {to_third} the {third.name}."
        return Statement(text, parts[0].checks + parts[1].checks, parts[0].claims + parts[1].claims)

    wrong = (OPPOSITES[to_second], to_third) if first_is_false else (to_second, OPPOSITES[to_third])
    return Exchange(
        "two_relations",
        f"Where is the {subject.name}?",
        f"Tell me where the {subject.name} is.",
        answer(to_second, to_third),
        answer(*wrong),
        (f"{to_second}, {to_third}", ", ".join(wrong)),
    )


KINDS: dict[str, Callable[[Scene, random.Random], Exchange | None]] = {
    "describe": _describe,
    "existence": _existence,
    "object": _object,
    "attribute": _attribute,
    "count": _count,
    "relation": _relation,
    "text": _text,
    "compare": _compare,
    "odd_one_out": _odd_one_out,
    "two_relations": _two_relations,
}
"""Makes a question of each kind; returns None if the scene does not allow one."""
HALLUCINATION = ("existence", "attribute", "count", "relation", "text")
"""Kinds of ScenesBench's hallucination group."""
REASONING = ("compare", "odd_one_out", "two_relations")
"""Kinds of ScenesBench's reasoning group."""
ROUND_KINDS = ("describe", "existence", "object", "attribute", "count", "relation", "text", *REASONING)
"""Kinds of the training rounds' prompts."""


def _unique_shapes(scene: Scene) -> list[SceneObject]:
    """Objects that are the only ones of their shape."""
    return [o for o in scene.shapes if scene.count(o.shape) == 1]


def _unique_objects(scene: Scene) -> list[SceneObject]:
    """Objects whose name is unique in the scene; the sign comes last."""
    shapes = [o for o in scene.shapes if scene.count(o.shape, o.color) == 1]
    return shapes + ([scene.sign] if scene.sign else [])


def _absent_name(obj: SceneObject, rng: random.Random, present: set[str]) -> str:
    """A name that differs from the object's in color or in shape, and is not in `present`."""
    recolored = [name for c in COLORS if (name := f"{c} {obj.shape}") not in present]
    reshaped = [name for s in SHAPES if (name := f"{obj.color} {s}") not in present]
    return rng.choice(recolored if rng.random() < 0.5 or not reshaped else reshaped)


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _fix_article(text: str) -> str:
    """Replace "a" by "an" before "orange", the only name that needs it."""
    return text.replace(" a orange", " an orange")
