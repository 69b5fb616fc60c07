"""What can be said about a scene: descriptions, questions, and statements that are true or false."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from vlrm_ray.scenes import statement_claims
from vlrm_ray.scenes.world import COLORS, GRID, SHAPES, SIGN, WORDS, Scene, Thing
from vlrm_ray.types import Claim

ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
NUMBERS = ("no", "one", "two", "three", "four", "five")
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Check:
    """One claim as a critique checks it: what is claimed beside what is seen, and whether it holds.

    What is seen is looked up before it is judged: a tiny model can copy the place of "red circle"
    from its description, or find none, but it cannot judge in one step.
    """

    text: str
    holds: bool

    def __str__(self) -> str:
        return f"{self.text} {'yes' if self.holds else 'no'}"


@dataclass(frozen=True)
class Statement:
    """Sentences about a scene, with the claims in them and a check for each that decides."""

    text: str
    checks: tuple[Check, ...]
    claims: tuple[Claim, ...]

    @property
    def true(self) -> bool:
        """Whether every claim holds."""
        return all(check.holds for check in self.checks)


@dataclass(frozen=True)
class Exchange:
    """A question, its true answer, and the same answer with one claim made false.

    Attributes:
        rephrased: asks the same in other words.
        slots: what the right answer says where the wrong one says something else, and what that is.
    """

    kind: str
    question: str
    rephrased: str
    right: Statement
    wrong: Statement
    slots: tuple[str, str]


def place(cell: tuple[int, int]) -> str:
    """Name of a grid cell, "top left" to "bottom right"."""
    return f"{ROWS[cell[0]]} {COLUMNS[cell[1]]}"


def label(thing: Thing) -> str:
    """Name of a thing as lists give it: "red circle" or "sign STOP"."""
    return f"{SIGN} {thing.word}" if thing.shape == SIGN else thing.name


def located(scene: Scene, name: str) -> str:
    """A name with the place of the first thing that has it, alone if none has."""
    return next((f"{name} {place(t.cell)}" for t in scene.things if t.name == name), name)


def seen(scene: Scene) -> str:
    """All things with their places, in reading order."""
    return ", ".join(f"{label(t)} {place(t.cell)}" for t in scene.things)


def grid(scene: Scene) -> str:
    """The nine cells in reading order, "empty" where there is nothing."""
    at = {t.cell: label(t) for t in scene.things}
    return ", ".join(at.get((r, c), "empty") for r in range(GRID) for c in range(GRID)) + "."


def plural(shape: str, count: int) -> str:
    """The shape's noun for a count."""
    return shape if count == 1 else f"{shape}s"


def exchange(scene: Scene, rng: random.Random, kind: str) -> Exchange | None:
    """A question of the given kind about the scene, or None where the scene offers none."""
    return KINDS[kind](scene, rng)


def any_exchange(scene: Scene, rng: random.Random, kinds: tuple[str, ...]) -> Exchange:
    """A question of a random kind out of `kinds` that the scene offers; existence always is."""
    for kind in rng.sample(kinds, len(kinds)):
        found = exchange(scene, rng, kind)
        if found is not None:
            return found
    return _existence(scene, rng)


# --- existence, attribute, count, relation, text: one claim each -------------------------------


def _existence(scene: Scene, rng: random.Random) -> Exchange:
    present = {t.name for t in scene.shapes}
    thing = rng.choice(scene.shapes)
    other = _neighbour(thing, rng, present)
    asked = thing.name if rng.random() < 0.5 else other
    there = asked in present

    def said(yes: bool) -> Statement:
        text = f"Yes, there is a {asked}." if yes else f"No, there is no {asked}."
        phrase = located(scene, asked)
        check = Check(phrase if yes else f"no {phrase}", yes == there)
        return Statement(
            _article(text), (check,), statement_claims.there(asked) if yes else statement_claims.absent(asked)
        )

    question = _article(f"Is there a {asked}?")
    rephrased = _article(f"Do you see a {asked}?")
    yes, no = f"{asked} there", f"{asked} missing"
    slots = (yes, no) if there else (no, yes)
    return Exchange("existence", question, rephrased, said(there), said(not there), slots)


def _object(scene: Scene, rng: random.Random) -> Exchange:
    present = {t.name for t in scene.shapes}
    thing = rng.choice(scene.shapes)
    other = _neighbour(thing, rng, present)

    def said(name: str) -> Statement:
        check = Check(located(scene, name), name in present)
        return Statement(_article(f"There is a {name}."), (check,), statement_claims.there(name))

    question, rephrased = "Name one shape.", "Tell me one shape."
    return Exchange("existence", question, rephrased, said(thing.name), said(other), (thing.name, other))


def _attribute(scene: Scene, rng: random.Random) -> Exchange | None:
    unique = _unique_shapes(scene)
    if not unique:
        return None
    thing = rng.choice(unique)
    wrong = rng.choice([c for c in COLORS if c != thing.color])
    shape = thing.shape
    return Exchange(
        "attribute",
        f"What color is the {shape}?",
        f"Which color does the {shape} have?",
        _attribute_claim(thing, thing.color),
        _attribute_claim(thing, wrong),
        (thing.name, f"{wrong} {shape}"),
    )


def _attribute_claim(thing: Thing, color: str) -> Statement:
    check = _painted(thing, color)
    return Statement(f"The {thing.shape} is {color}.", (check,), statement_claims.painted(thing.shape, color))


def _painted(thing: Thing, color: str) -> Check:
    return Check(f"{thing.shape} {color} found {thing.color}", color == thing.color)


def _count(scene: Scene, rng: random.Random) -> Exchange:
    shape = rng.choice(SHAPES) if rng.random() < 0.3 else rng.choice(scene.shapes).shape
    right = scene.count(shape)
    wrong = rng.choice([n for n in (right - 1, right + 1) if 0 <= n <= 5])
    return Exchange(
        "count",
        f"How many {shape}s are there?",
        f"Count the {shape}s.",
        _count_claim(scene, shape, right),
        _count_claim(scene, shape, wrong),
        (NUMBERS[right], NUMBERS[wrong]),
    )


def _count_claim(scene: Scene, shape: str, number: int) -> Statement:
    there = "is" if number == 1 else "are"
    phrase = f"{NUMBERS[number]} {plural(shape, number)}"
    found = scene.count(shape)
    check = Check(f"{phrase} found {NUMBERS[found]}", number == found)
    return Statement(f"There {there} {phrase}.", (check,), statement_claims.counted(shape, number))


def relations(one: Thing, two: Thing) -> list[str]:
    """Which relations hold between two things, by their cells."""
    across = [] if one.col == two.col else ["left of" if one.col < two.col else "right of"]
    down = [] if one.row == two.row else ["above" if one.row < two.row else "below"]
    return across + down


def _relation(scene: Scene, rng: random.Random) -> Exchange | None:
    things = _unique_names(scene)
    if len(things) < 2:
        return None
    one, two = rng.sample(things, 2)
    right = rng.choice(relations(one, two))
    where = f"the {one.name} relative to the {two.name}"
    return Exchange(
        "relation",
        f"Where is {where}?",
        f"Tell me where {where} is.",
        _relation_claim(one, two, right),
        _relation_claim(one, two, OPPOSITES[right]),
        (right, OPPOSITES[right]),
    )


def _relation_claim(one: Thing, two: Thing, relation: str) -> Statement:
    text = f"{one.name} {place(one.cell)} {relation} {two.name} {place(two.cell)}"
    check = Check(text, relation in relations(one, two))
    claims = statement_claims.related(one.name, relation, two.name)
    return Statement(f"The {one.name} is {relation} the {two.name}.", (check,), claims)


def _text(scene: Scene, rng: random.Random) -> Exchange | None:
    if scene.sign is None:
        return None
    word = scene.sign.word

    def said(claimed: str) -> Statement:
        check = Check(f"{SIGN} {word} says {claimed}", claimed == word)
        return Statement(f"The sign says {claimed}.", (check,), statement_claims.written(claimed, SIGN))

    wrong = rng.choice([w for w in WORDS if w != word])
    return Exchange("text", "What does the sign say?", "Read the sign.", said(word), said(wrong), (word, wrong))


# --- several claims: a description, and two-step reasoning -------------------------------------


def _describe(scene: Scene, rng: random.Random) -> Exchange:
    names = list(dict.fromkeys(t.name for t in scene.shapes))
    present = {name: sum(t.name == name for t in scene.shapes) for name in names}
    spoiled = rng.randrange(len(names))
    victim = next(t for t in scene.shapes if t.name == names[spoiled])
    false_name = _neighbour(victim, rng, set(names))
    swapped = [false_name if i == spoiled else n for i, n in enumerate(names)]
    numbers = [present[n] for n in names]

    def said(listed: list[str]) -> Statement:
        parts, checks = [], []
        claims: tuple[Claim, ...] = ()
        for name, number in zip(listed, numbers, strict=True):
            there = present.get(name, 0)
            several = number > 1
            parts.append(f"{NUMBERS[number]} {name}s" if several else f"a {name}")
            counted = f"{NUMBERS[number]} {name}s found {NUMBERS[there]}"
            checks.append(Check(counted if several else located(scene, name), there >= number))
            claims += statement_claims.counted(name, number) if several else statement_claims.there(name)
        text = f"There {'are' if numbers[0] > 1 else 'is'} {_listed(parts)}."
        if scene.sign is not None:
            text += f" The sign says {scene.sign.word}."
            checks.append(Check(f"{label(scene.sign)} says {scene.sign.word}", True))
            claims += statement_claims.written(scene.sign.word, SIGN)
        return Statement(_article(text), tuple(checks), claims)

    question, rephrased = "Describe the image.", "What do you see?"
    return Exchange("describe", question, rephrased, said(names), said(swapped), (victim.name, false_name))


def _compare(scene: Scene, rng: random.Random) -> Exchange:
    first = rng.choice(scene.shapes).shape
    second = rng.choice([s for s in SHAPES if s != first])
    if rng.random() < 0.5:
        first, second = second, first
    one, two = scene.count(first), scene.count(second)
    truth = "more" if one > two else "fewer" if one < two else "as many"

    def said(word: str) -> Statement:
        link = "as" if word == "as many" else "than"
        phrase = f"{word} {first}s {link} {second}s"
        check = Check(f"{phrase} found {NUMBERS[one]} {NUMBERS[two]}", word == truth)
        return Statement(f"There are {phrase}.", (check,), statement_claims.compared(first, word, second))

    wrong = rng.choice([w for w in ("more", "fewer", "as many") if w != truth])
    return Exchange(
        "compare",
        f"Are there more {first}s or {second}s?",
        f"Compare the {first}s with the {second}s.",
        said(truth),
        said(wrong),
        (truth, wrong),
    )


def _only(scene: Scene, rng: random.Random) -> Exchange | None:
    unique = _unique_shapes(scene)
    if not unique or len(scene.shapes) < 2:
        return None
    thing = rng.choice(unique)
    wrong = rng.choice([c for c in COLORS if c != thing.color])

    def said(color: str) -> Statement:
        counted = Check(f"one {thing.shape} found {NUMBERS[1]}", True)
        text = f"There is only one {thing.shape} and it is {color}."
        claims = (*statement_claims.counted(thing.shape, 1), *statement_claims.painted(thing.shape, color))
        return Statement(text, (counted, _painted(thing, color)), claims)

    question, rephrased = "Which shape is there only once?", "Name a shape that is there just once."
    slots = (thing.name, f"{wrong} {thing.shape}")
    return Exchange("odd_one_out", question, rephrased, said(thing.color), said(wrong), slots)


def _between(scene: Scene, rng: random.Random) -> Exchange | None:
    things = _unique_names(scene)
    if len(things) < 3:
        return None
    one, two, three = rng.sample(things, 3)
    first, second = rng.choice(relations(one, two)), rng.choice(relations(one, three))
    spoil_first = rng.random() < 0.5

    def said(relation_two: str, relation_three: str) -> Statement:
        parts = _relation_claim(one, two, relation_two), _relation_claim(one, three, relation_three)
        text = f"The {one.name} is {relation_two} the {two.name} and {relation_three} the {three.name}."
        return Statement(text, parts[0].checks + parts[1].checks, parts[0].claims + parts[1].claims)

    wrong = (OPPOSITES[first], second) if spoil_first else (first, OPPOSITES[second])
    return Exchange(
        "two_relations",
        f"Where is the {one.name}?",
        f"Tell me where the {one.name} is.",
        said(first, second),
        said(*wrong),
        (f"{first}, {second}", ", ".join(wrong)),
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
    "odd_one_out": _only,
    "two_relations": _between,
}
HALLUCINATION = ("existence", "attribute", "count", "relation", "text")
REASONING = ("compare", "odd_one_out", "two_relations")
ROUND_KINDS = ("describe", "existence", "object", "attribute", "count", "relation", "text", *REASONING)
"""What the rounds ask about."""


def _unique_shapes(scene: Scene) -> list[Thing]:
    return [t for t in scene.shapes if scene.count(t.shape) == 1]


def _unique_names(scene: Scene) -> list[Thing]:
    shapes = [t for t in scene.shapes if scene.count(t.shape, t.color) == 1]
    return shapes + ([scene.sign] if scene.sign else [])


def _neighbour(thing: Thing, rng: random.Random, present: set[str]) -> str:
    """A name that differs from the thing's in colour or in shape, and is not in the scene."""
    colors = [f"{c} {thing.shape}" for c in COLORS]
    shapes = [f"{thing.color} {s}" for s in SHAPES]
    absent = [name for name in colors if name not in present]
    moved = [name for name in shapes if name not in present]
    return rng.choice(absent if rng.random() < 0.5 or not moved else moved)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _article(text: str) -> str:
    return text.replace(" a orange", " an orange")
