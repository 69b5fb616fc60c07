"""Ellipsis, pronouns, coordination, relative clauses, synonyms, and concessions."""

from itertools import pairwise

from vlrm_ray.scenes.hard.facts import NUMBERS, Draft, Drafts, Facts, Template, Thing, drafts
from vlrm_ray.scenes.world import SIGN


def _claimed_colors(f: Facts, thing: Thing) -> tuple[str, ...]:
    """The color of an object, and three that it does not have, those of other objects first."""
    others = [t.color for t in f.shapes if t.color != thing.color]
    return tuple(dict.fromkeys((thing.color, *others, *f.other_colors(thing))))[:4]


def _ellipsis(f: Facts) -> Drafts:
    for first, second in f.pairs:
        a, b = first.shape, second.shape
        for color in _claimed_colors(f, second):
            true = color == second.color
            yield from drafts(
                true,
                f"The {a} is {first.color}, the {b} {color}.",
                f"The {a} is {first.color} and the {b} {color}.",
                f"{a.title()} {first.color}, {b} {color}.",
                f"The color of the {a} is {first.color}, that of the {b} {color}.",
                f"The {a} is {first.color}, whereas the {b} is {color}.",
                f"The {a}: {first.color}. The {b}: {color}.",
            )
        same = first.color == second.color
        yield from drafts(
            same,
            f"The {a} is {first.color} and so is the {b}.",
            f"The {a} is {first.color}, and the {b} is, too.",
            f"The {a} is {first.color}, as is the {b}.",
            f"The {a} is {first.color}; the {b} as well.",
        )
        yield from drafts(
            not same,
            f"The {a} is {first.color}; the {b} isn't.",
            f"The {a} is {first.color}, unlike the {b}.",
            f"The {a} is {first.color}, which cannot be said of the {b}.",
        )
    for shape in f.plural:
        colors = f.colors_of(shape)
        if len(colors) == 2 and colors[0] != colors[1]:
            first_color, second_color = colors
            for color in (second_color, *(c for c in f.colors if c not in colors)):
                yield from drafts(
                    color == second_color,
                    f"One {shape} is {first_color}, the other {color}.",
                    f"One of the {shape}s is {first_color}, the other one is {color}.",
                    f"There are two {shape}s, one {first_color} and one {color}.",
                    f"There is a {first_color} {shape} and a {color} one.",
                    f"There is a {first_color} and a {color} {shape}.",
                )


def _pronoun(f: Facts) -> Drafts:
    for thing in f.single:
        shape = thing.shape
        for color in _claimed_colors(f, thing):
            yield from drafts(
                color == thing.color,
                f"There is a {shape}. It is {color}.",
                f"I see a {shape}. Its color is {color}.",
                f"The image has one {shape}; that one is {color}.",
                f"Look at the {shape}: this shape is {color}.",
                f"There is only one {shape}, and it's {color}.",
            )
            yield Draft(color != thing.color, f"There is a {shape}. It is not {color}.")
    for first, second in f.pairs:
        for color in _claimed_colors(f, second):
            yield from drafts(
                color == second.color,
                f"I see a {first.shape} and a {second.shape}. The former is {first.color}, the latter {color}.",
                f"There is a {first.name}. Then there is a {second.shape}, and it is {color}.",
            )
        yield from drafts(
            first.color == second.color,
            f"There is a {first.shape} and a {second.shape}. They are both {first.color}.",
            f"There is a {first.shape} and a {second.shape}. They have the same color.",
        )
        for color in f.colors:
            yield Draft(
                color not in (first.color, second.color),
                f"There is a {first.shape} and a {second.shape}. Neither of them is {color}.",
            )
    for shape in f.plural:
        colors = f.colors_of(shape)
        number = NUMBERS[len(colors)]
        for color in f.colors:
            n = colors.count(color)
            yield from drafts(n == len(colors), f"There are {number} {shape}s. All of them are {color}.")
            yield from drafts(n == 0, f"There are {number} {shape}s. None of them is {color}.")
            if n <= 1:
                yield Draft(n == 1, f"There are {number} {shape}s. One of them is {color}.")


def _coordination(f: Facts) -> Drafts:
    for first, second in f.pairs:
        a, b = first.shape, second.shape
        if first.color == second.color:
            for color in _claimed_colors(f, first):
                yield from drafts(
                    color == first.color,
                    f"There is a {color} {a} and {b}.",
                    f"There is a {a} and a {b}, both {color}.",
                    f"The {a} and {b} are {color}.",
                    f"The {a} as well as the {b} is {color}.",
                    f"A {a} and a {b}, both of them {color}, are in the image.",
                    f"The {a} and the {b} are {color}.",
                )
        for color in _claimed_colors(f, second):
            yield from drafts(
                color == second.color,
                f"The {a} and the {b} are {first.color} and {color}, respectively.",
                f"There is a {first.name} and a {color} {b}.",
                f"A {first.color} {a}, plus a {color} {b}.",
                f"Next to other things I see a {first.name}, a {color} {b}." if len(f.things) > 2 else "",
                f"There is a {first.name} along with a {color} {b}.",
                f"{first.name.capitalize()} and {color} {b}.",
            )


def _same_different(f: Facts) -> Drafts:
    for first, second in f.pairs:
        a, b, same = first.shape, second.shape, first.color == second.color
        yield from drafts(
            same,
            f"The {a} and the {b} have the same color.",
            f"The {a} has the same color as the {b}.",
            f"The {a} is as {second.color} as the {b}.",
            f"The {a} shares its color with the {b}.",
        )
        yield from drafts(
            not same,
            f"The {a} and the {b} differ in color.",
            f"The {a} is of a different color than the {b}.",
            f"The {a} does not have the same color as the {b}.",
            f"Unlike the {b}, the {a} is {first.color}.",
        )
    for shape in f.plural:
        kinds = len(set(f.colors_of(shape)))
        yield from drafts(kinds == 1, f"The {shape}s all have the same color.", f"The {shape}s do not differ in color.")
        yield from drafts(kinds > 1, f"The {shape}s do not all have the same color.", f"The {shape}s vary in color.")
    if len(f.only_shapes) >= 2:
        distinct = len(set(f.colors_of_all)) == len(f.shapes)
        yield from drafts(distinct, "No two shapes have the same color.", "Each shape has a different color.")
        kinds = len(f.present)
        yield from drafts(kinds == len(f.shapes), "No two shapes are of the same kind.", "No shape occurs twice.")


def _relative_clause(f: Facts) -> Drafts:
    for thing in f.single:
        shape = thing.shape
        for color in _claimed_colors(f, thing):
            yield from drafts(
                color == thing.color,
                f"There is a {shape} that is {color}.",
                f"There is a {shape}, which is {color}.",
                f"The {shape}, which is {color}, is in the image.",
                f"There is a {shape} whose color is {color}.",
                f"What is {color} is the {shape}." if f.colored(color) <= 1 else "",
                f"What I see is a {color} {shape}.",
                f"A {shape} painted {color} is part of the picture.",
            )
            yield Draft(color != thing.color, f"There is a {shape} that is anything but {color}.")
    for first, second in f.pairs:
        if first.color != second.color:
            for true, a, b in ((True, first.shape, second.shape), (False, second.shape, first.shape)):
                yield from drafts(
                    true,
                    f"There is a {a} that is {first.color} and a {b} that is not.",
                    f"There is a {a} which is {first.color}, and a {b} which isn't.",
                )


_SYNONYMS = {
    "circle": ("disc", "round shape", "circular shape"),
    "square": ("square-shaped figure", "square shape", "four-sided shape"),
    "triangle": ("triangular shape", "three-sided figure", "triangle shape"),
    "star": ("star-shaped figure", "star shape", "five-pointed star"),
}


def _synonyms(f: Facts, shape: str) -> tuple[str, ...]:
    """Other names of a shape; a sign has four sides, too, so beside one only "square" is unambiguous."""
    return (shape, *_SYNONYMS[shape]) if shape != "square" or not f.word else (shape,)


def _synonym(f: Facts) -> Drafts:
    for thing in f.single:
        for noun in _synonyms(f, thing.shape):
            for color in _claimed_colors(f, thing):
                yield from drafts(
                    color == thing.color,
                    f"The picture depicts a {color} {noun}.",
                    f"The {noun} is colored {color}.",
                    f"The {noun} has a {color} fill.",
                    f"A {color}-colored {noun} is displayed.",
                    f"There is a {noun}, {color} in color.",
                    f"The hue of the {noun} is {color}.",
                    f"One can make out a {noun} of {color} color.",
                    f"Featured is a solid {color} {noun}.",
                )
    for shape in (*f.absent, *f.present):
        for noun in _synonyms(f, shape):
            yield from drafts(f.count(shape) == 0, f"There is no {noun}.", f"I cannot make out any {noun}.")
            yield from drafts(f.count(shape) > 0, f"The scene features a {noun}.", f"A {noun} is present.")
    names = ("sign", "signboard", "text sign")
    yield from drafts(bool(f.word), *(f"The picture includes a {name}." for name in names))
    yield from drafts(not f.word, *(f"The picture includes no {name}." for name in names))


def _concession(f: Facts) -> Drafts:
    for thing in f.single:
        for other in f.other_colors(thing):
            for true, seeming, seen in ((True, other, thing.color), (False, thing.color, other)):
                yield from drafts(
                    true,
                    f"At first glance the {thing.shape} looks {seeming}, but it is {seen}.",
                    f"I first thought the {thing.shape} was {seeming}, but it is {seen}.",
                    f"Although you might expect the {thing.shape} to be {seeming}, it is {seen}.",
                    f"Most {thing.shape}s may be {seeming}, but this one is {seen}.",
                    f"While {thing.shape}s can be {seeming}, the one here is {seen}.",
                    f"Despite the expectation of a {seeming} {thing.shape}, the {thing.shape} is {seen}.",
                )
    for name in (*f.absent, *f.present, SIGN):
        for here in f.present:
            if here != name:
                yield from drafts(
                    f.count(name) == 0,
                    f"Even though there is no {name}, there is a {here}.",
                    f"There is a {here}, though not a {name}.",
                    f"I first thought I saw a {name}, but it is a {here}; there is no {name}.",
                    f"What you might take for a {name} is a {here}; there is no {name}.",
                    f"While there is a {here}, a {name} is missing.",
                )


def _disjunction(f: Facts) -> Drafts:
    for thing in f.single:
        for other in f.other_colors(thing)[:3]:
            last = f.other_colors(thing)[-1]
            yield from drafts(
                True,
                f"The {thing.shape} is either {other} or {thing.color}.",
                f"The {thing.shape} is {thing.color} or {other}.",
                f"Whether {other} or {thing.color}, the {thing.shape} has one of these two colors.",
            )
            if other != last:
                yield from drafts(
                    False, f"The {thing.shape} is either {other} or {last}.", f"The {thing.shape} is {other} or {last}."
                )
    names = (*f.present, *f.absent, SIGN)
    for a, b in pairwise(names):
        if not (f.count(a) and f.count(b)):
            yield from drafts(
                f.count(a) + f.count(b) > 0,
                f"There is a {a} or a {b}.",
                f"There is either a {a} or a {b}.",
                f"The image has a {b} or a {a}, one of the two.",
            )


def _cleft(f: Facts) -> Drafts:
    for thing in f.single:
        for color in _claimed_colors(f, thing):
            if f.colored(color) <= 1:
                yield from drafts(
                    color == thing.color,
                    f"It is the {thing.shape} that is {color}.",
                    f"The one that is {color} is the {thing.shape}.",
                )
            yield from drafts(
                color == thing.color,
                f"{color.title()} is the color of the {thing.shape}.",
                f"It is a {color} {thing.shape} that I see.",
                f"{color.title()} it is, the {thing.shape}.",
            )
        for name in f.absent:
            yield Draft(True, f"Absent from the image is any {name}.")
        for name in f.present:
            yield Draft(False, f"Absent from the image is any {name}.")


TEMPLATES: dict[str, Template] = {
    "ellipsis": _ellipsis,
    "pronoun": _pronoun,
    "coordination": _coordination,
    "same_different": _same_different,
    "relative_clause": _relative_clause,
    "synonym": _synonym,
    "concession": _concession,
    "disjunction": _disjunction,
    "cleft": _cleft,
}
"""Template of each construction."""
