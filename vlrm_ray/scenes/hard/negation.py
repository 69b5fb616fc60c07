"""Scope of negation, exceptions, contrast and corrections."""

from itertools import pairwise

from vlrm_ray.scenes.hard.facts import NUMBERS, Draft, Drafts, Facts, Template, drafts
from vlrm_ray.scenes.world import SIGN


def _not_all(f: Facts) -> Drafts:
    """Where no object has the color, "not all" is true but misleading, and left out."""
    for shape in f.plural:
        colors = f.colors_of(shape)
        for color in set(colors):
            some_other = set(colors) != {color}
            yield from drafts(
                some_other,
                f"Not all {shape}s are {color}.",
                f"Not every {shape} is {color}.",
                f"The {shape}s are not all {color}.",
                f"The {shape}s aren't all {color}.",
                f"Not all of the {shape}s are {color}.",
                f"There are {len(colors)} {shape}s, not all of which are {color}.",
                f"Not each of the {shape}s is {color}.",
            )
            yield from drafts(some_other, "Not all of them.", "Not all.", question=f"Are all {shape}s {color}?")
            others = [c for c in colors if c != color]
            for other in f.colors if len(others) == 1 else ():
                if other != color:
                    yield Draft(other in others, f"Not all {shape}s are {color}: one is {other}.")
    for color in {t.color for t in f.only_shapes if len(f.only_shapes) >= 2}:
        some_other = f.colored(color) < len(f.only_shapes)
        yield from drafts(some_other, f"Not all shapes are {color}.", f"Not every shape in the image is {color}.")


def _neither_nor(f: Facts) -> Drafts:
    for first, second in f.pairs:
        for color in f.colors:
            a, b = first.shape, second.shape
            yield from drafts(
                color not in (first.color, second.color),
                f"Neither the {a} nor the {b} is {color}.",
                f"The {a} is not {color}, nor is the {b}.",
                f"The {a} isn't {color}, and neither is the {b}.",
                f"There is a {a} and a {b}, neither of which is {color}.",
            )
    for thing in f.single:
        for c, d in pairwise(f.colors):
            yield Draft(thing.color not in (c, d), f"The {thing.shape} is neither {c} nor {d}.")
    names = (*f.absent, *f.present, SIGN)
    for a, b in pairwise(names):
        yield from drafts(
            f.count(a) == f.count(b) == 0,
            f"There is neither a {a} nor a {b} in the image.",
            f"I see neither a {a} nor a {b}.",
            f"The image contains neither {a}s nor {b}s.",
            f"Neither a {a} nor a {b} can be seen.",
            f"There is no {a}, nor is there a {b}.",
        )


def _coordinated_absence(f: Facts) -> Drafts:
    names = (*f.absent, *f.present, SIGN)
    for a, b in pairwise(names):
        yield from drafts(
            f.count(a) == f.count(b) == 0,
            f"There is no {a} or {b}.",
            f"There are no {a}s or {b}s in this picture.",
            f"There are no {a}s and no {b}s.",
            f"I don't see a {a} or a {b}.",
            f"The image doesn't show any {a}s or {b}s.",
            f"No {a} and no {b} can be seen.",
        )
    for here in f.present:
        for gone in (*f.absent, *f.present):
            if here != gone:
                yield from drafts(
                    f.count(gone) == 0,
                    f"There is a {here} but no {gone}.",
                    f"I can see a {here}, but not a {gone}.",
                    f"No {gone}, but a {here}.",
                    f"There isn't a {gone}, but there is a {here}.",
                )
                if len(f.things) == 1:
                    yield Draft(True, f"There is no {gone}, only a {here}.")


def _no_other_than(f: Facts) -> Drafts:
    for thing in f.shapes:
        shape, color = thing.shape, thing.color
        if f.count(shape, color) == 1:
            yield from drafts(
                f.count(shape) == 1,
                f"There are no {shape}s other than the {color} one.",
                f"There is no {shape} besides the {color} one.",
                f"Apart from the {color} {shape}, there are no {shape}s.",
                f"Except for the {color} {shape}, there are no {shape}s.",
                f"There is no other {shape} than the {color} one.",
                f"Other than the {color} {shape}, I see no {shape}s.",
                f"There is a {color} {shape} and no other {shape}.",
                f"No {shape} is in the image except for the {color} one.",
            )
            if f.only_shapes:
                yield from drafts(
                    len(f.things) == 1,
                    f"There is nothing in the image but a {color} {shape}.",
                    f"Apart from the {color} {shape}, the image is empty.",
                    f"There is nothing other than a {color} {shape}.",
                    f"The picture contains nothing except a {color} {shape}.",
                )


def _except(f: Facts) -> Drafts:
    for thing in f.single if len(f.only_shapes) >= 2 else ():
        shape, color = thing.shape, thing.color
        yield from drafts(
            f.colored(color) == 1,
            f"No shape other than the {shape} is {color}.",
            f"Nothing is {color} except the {shape}.",
            f"Nothing but the {shape} is {color}.",
            f"Apart from the {shape}, nothing is {color}.",
            f"None of the shapes except the {shape} is {color}.",
            f"Except for the {shape}, no shape is {color}.",
        )
        rest = [t.color for t in f.shapes if t is not thing]
        for other in {*rest, *f.colors[:3]} - {color} if len(rest) >= 2 else ():
            yield from drafts(
                set(rest) == {other},
                f"Every shape except the {shape} is {other}.",
                f"All shapes but the {shape} are {other}.",
                f"Everything but the {shape} is {other}.",
                f"With the exception of the {shape}, all shapes are {other}.",
                f"The only shape that is not {other} is the {shape}.",
            )
    for shape in f.plural:
        colors = f.colors_of(shape)
        for color in set(colors) if len(colors) >= 3 else ():
            yield from drafts(
                colors.count(color) == len(colors) - 1,
                f"All but one of the {shape}s are {color}.",
                f"All {shape}s except one are {color}.",
            )


def _one_is_not(f: Facts) -> Drafts:
    for shape in f.plural:
        colors = f.colors_of(shape)
        for color in set(colors):
            others = [c for c in colors if c != color]
            if len(others) <= 1:
                yield from drafts(
                    len(others) == 1,
                    f"One {shape} is not {color}.",
                    f"One of the {shape}s is not {color}.",
                    f"Exactly one {shape} isn't {color}.",
                    f"There is one {shape} that is not {color}.",
                )
            for other in f.colors if len(others) == 1 else ():
                if other != color:
                    yield from drafts(
                        other in others,
                        f"One {shape} is not {color}; it is {other}.",
                        f"One of the {shape}s isn't {color} but {other}.",
                    )
            yield from drafts(
                bool(others),
                f"There is a {shape} that is not {color}.",
                f"At least one {shape} is not {color}.",
                f"I can see a {shape} which isn't {color}.",
            )


def _none_of(f: Facts) -> Drafts:
    for shape in f.present:
        for color in f.colors:
            none = color not in f.colors_of(shape)
            yield from drafts(none, f"No {shape} is {color}.", f"There is no {shape} that is {color}.")
            if shape in f.plural:
                yield from drafts(
                    none,
                    f"None of the {shape}s is {color}.",
                    f"None of the {shape}s are {color}.",
                    f"Not one of the {shape}s is {color}.",
                    f"Not a single {shape} is {color}.",
                    f"There are {len(f.colors_of(shape))} {shape}s, none of which is {color}.",
                )
    for shape in (*f.present, *f.absent) if len(f.only_shapes) >= 2 else ():
        yield from drafts(
            f.count(shape) == 0, f"None of the shapes is a {shape}.", f"Not one of the shapes is a {shape}."
        )


def _not_any(f: Facts) -> Drafts:
    for name in (*f.present, *f.absent, SIGN):
        yield from drafts(
            f.count(name) == 0,
            f"There isn't any {name}.",
            f"There aren't any {name}s.",
            f"I don't see any {name}s.",
            f"I can't find a {name} anywhere.",
            f"There is not a single {name}.",
            f"No {name} can be seen anywhere in the image.",
            f"The image doesn't contain any {name}s.",
            f"{name}s are absent from the picture.",
            f"A {name} is nowhere to be seen.",
            f"There are zero {name}s.",
            f"The image is free of {name}s.",
            f"There is no {name} whatsoever.",
            f"Not a {name} in sight.",
        )
        if name != SIGN and not f.word:
            yield Draft(f.count(name) == 0, f"There is no sign of a {name}.")
    for color in f.colors if f.only_shapes else ():
        yield from drafts(f.colored(color) == 0, f"Nothing in the image is {color}.", f"There is nothing {color} here.")


def _not_only(f: Facts) -> Drafts:
    for here in f.present:
        for name in (*f.present, *f.absent, SIGN):
            if here != name:
                yield from drafts(
                    f.count(name) > 0,
                    f"There is not only a {here} but also a {name}.",
                    f"The image shows not only a {here}, but also a {name}.",
                    f"Not only is there a {here}, there is also a {name}.",
                    f"It's not just a {here}: there is a {name}, too.",
                )
    for first, second in f.pairs:
        yield from drafts(
            first.color == second.color,
            f"Not only is the {first.shape} {first.color}, but the {second.shape} is, too.",
            f"Not only the {first.shape} but also the {second.shape} is {first.color}.",
            f"Not just the {first.shape} is {first.color}; so is the {second.shape}.",
        )


def _without(f: Facts) -> Drafts:
    for name in (*f.present, *f.absent, SIGN):
        yield from drafts(
            f.count(name) == 0,
            f"This is a picture without {name}s.",
            f"The image is without any {name}.",
            f"It is an image without a {name}.",
            f"The picture does without a {name}.",
            f"The scene lacks a {name}.",
        )
    for thing in f.single if f.only_shapes else ():
        rest = len(f.shapes) - 1
        for number in {rest, rest + 1, rest + 2} - {0, 1}:
            yield from drafts(
                number == rest,
                f"Without the {thing.shape}, there would be {NUMBERS[number]} shapes.",
                f"Leaving the {thing.shape} aside, there are {NUMBERS[number]} shapes.",
                f"Not counting the {thing.shape}, I see {NUMBERS[number]} shapes.",
            )
    for thing in f.named:
        rest = f.count(thing.shape) - 1
        if thing.shape in f.plural:
            for number in (rest, rest + 1):
                noun = thing.shape if number == 1 else f"{thing.shape}s"
                verb = "is" if number == 1 else "are"
                yield Draft(number == rest, f"Not counting the {thing.name}, there {verb} {NUMBERS[number]} {noun}.")


def _contrast(f: Facts) -> Drafts:
    for thing in f.single:
        for other in f.other_colors(thing):
            for true, yes, no in ((True, thing.color, other), (False, other, thing.color)):
                yield from drafts(
                    true,
                    f"The {thing.shape} is not {no} but {yes}.",
                    f"The {thing.shape} isn't {no}, it's {yes}.",
                    f"The {thing.shape} is {yes}, not {no}.",
                    f"The {thing.shape} is {yes} rather than {no}.",
                    f"The {thing.shape} is {yes} instead of {no}.",
                    f"Instead of a {no} {thing.shape}, there is a {yes} one.",
                    f"There is no {no} {thing.shape}, but there is a {yes} one.",
                    f"Far from being {no}, the {thing.shape} is {yes}.",
                )
    for here in f.present:
        for gone in f.absent:
            for true, yes, no in ((True, here, gone), (False, gone, here)):
                yield from drafts(
                    true,
                    f"Instead of a {no}, there is a {yes}.",
                    f"It is not a {no} that I see but a {yes}.",
                    f"There is a {yes} rather than a {no}.",
                )


def _correction(f: Facts) -> Drafts:
    for first, second in f.pairs:
        if first.color != second.color:
            for true, a, b in ((True, first.shape, second.shape), (False, second.shape, first.shape)):
                yield from drafts(
                    true,
                    f"The {a}, not the {b}, is {first.color}.",
                    f"It is the {a}, not the {b}, that is {first.color}.",
                    f"It's the {a} that is {first.color}, not the {b}.",
                    f"Not the {b} but the {a} is {first.color}.",
                    f"The {a} is {first.color}, but not the {b}.",
                    f"The {a} (not the {b}) is {first.color}.",
                )
    for shape in f.plural:
        right = f.count(shape)
        for true, yes, no in ((True, right, right + 1), (False, right + 1, right)):
            yield from drafts(
                true,
                f"There are {NUMBERS[yes]}, not {NUMBERS[no]}, {shape}s.",
                f"There are {NUMBERS[yes]} {shape}s, not {NUMBERS[no]}.",
                f"Not {NUMBERS[no]} but {NUMBERS[yes]} {shape}s are in the picture.",
                f"I first counted {NUMBERS[no]} {shape}s, but there are {NUMBERS[yes]}.",
            )


TEMPLATES: dict[str, Template] = {
    "not_all": _not_all,
    "neither_nor": _neither_nor,
    "coordinated_absence": _coordinated_absence,
    "no_other_than": _no_other_than,
    "except": _except,
    "one_is_not": _one_is_not,
    "none_of": _none_of,
    "not_any": _not_any,
    "not_only": _not_only,
    "without": _without,
    "contrast": _contrast,
    "correction": _correction,
}
"""Template of each construction."""
