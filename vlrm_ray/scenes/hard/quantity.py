"""Ranges, approximations, comparisons, quantifiers, and "only"."""

from collections import Counter

from vlrm_ray.scenes.hard.facts import NUMBERS, Draft, Drafts, Facts, Template, drafts
from vlrm_ray.scenes.world import SHAPES


def _range(f: Facts) -> Drafts:
    for shape in SHAPES:
        n = f.count(shape)
        for low, high in ((1, 2), (1, 3), (2, 3), (2, 4), (3, 4), (4, 5)):
            a, b = NUMBERS[low], NUMBERS[high]
            yield from drafts(
                low <= n <= high,
                f"There are between {a} and {b} {shape}s.",
                f"There are {low}-{high} {shape}s.",
                f"There are {low}–{high} {shape}s.",
                f"I see {a} to {b} {shape}s.",
                f"The number of {shape}s is somewhere from {a} to {b}.",
                f"Anywhere between {low} and {high} {shape}s are visible.",
            )
            if high - low == 1:
                yield from drafts(
                    low <= n <= high,
                    f"There are {a} or {b} {shape}s.",
                    f"There are either {a} or {b} {shape}s.",
                    f"{a.title()} or {b}, that is the number of {shape}s.",
                )


def _bound(f: Facts) -> Drafts:
    """Upper bounds are not stated of shapes that are absent."""
    for shape in SHAPES:
        n = f.count(shape)
        for k in range(1, 5):
            number, next_number = NUMBERS[k], NUMBERS[k + 1]
            noun = shape if k == 1 else f"{shape}s"
            yield from drafts(
                n >= k,
                f"There {'is' if k == 1 else 'are'} at least {number} {noun}.",
                f"There are {number} or more {shape}s.",
                f"There are no fewer than {number} {noun}.",
                f"I see a minimum of {number} {noun}.",
                f"There are not fewer than {k} {noun}.",
            )
            yield from drafts(
                n > k, f"There is more than {number} {noun}." if k == 1 else f"There are more than {number} {shape}s.",
                f"The number of {shape}s exceeds {number}.",
            )  # fmt: skip
            if n:
                yield from drafts(
                    n <= k,
                    f"There {'is' if k == 1 else 'are'} at most {number} {noun}.",
                    f"There are no more than {number} {noun}.",
                    f"There are not more than {k} {noun}.",
                    f"There are fewer than {next_number} {shape}s.",
                    f"The image has less than {k + 1} {shape}s.",
                    f"There are {number} {shape}s at most." if k > 1 else "",
                    f"I see a maximum of {number} {noun}.",
                )


def _approximation(f: Facts) -> Drafts:
    """Vague numbers are false only where they are far off."""
    for shape in SHAPES:
        n = f.count(shape)
        for k in range(2, 6):
            if n == k or n == 0 or k - n >= 3:
                yield from drafts(
                    n == k,
                    f"There are around {NUMBERS[k]} {shape}s.",
                    f"There are about {k} {shape}s.",
                    f"Roughly {NUMBERS[k]} {shape}s can be seen.",
                    f"There are approximately {k} {shape}s.",
                    f"I would estimate {NUMBERS[k]} {shape}s.",
                    f"There are some {NUMBERS[k]} {shape}s.",
                    f"~{k} {shape}s",
                )
        if n <= 2:
            yield from drafts(
                n == 2,
                f"There are a couple of {shape}s.",
                f"There is a pair of {shape}s.",
                f"I see two or so {shape}s.",
            )
        if n != 2:
            yield from drafts(n >= 3, f"There are several {shape}s.", f"There are a few {shape}s.")
        yield from drafts(
            n >= 2,
            f"There are multiple {shape}s.",
            f"There is more than a single {shape}.",
            f"There are {shape}s, in the plural.",
        )


def _both(f: Facts) -> Drafts:
    for shape in f.plural:
        colors = f.colors_of(shape)
        if len(colors) == 2:
            for color in f.colors:
                yield from drafts(
                    set(colors) == {color},
                    f"Both {shape}s are {color}.",
                    f"Both of the {shape}s are {color}.",
                    f"The two {shape}s are both {color}.",
                    f"There are two {shape}s, both of them {color}.",
                )
    for first, second in f.pairs:
        for color in {first.color, second.color}:
            yield from drafts(
                first.color == second.color,
                f"Both the {first.shape} and the {second.shape} are {color}.",
                f"The {first.shape} and the {second.shape} are both {color}.",
            )
    for shape in f.present:
        for other in (*f.present, *f.absent):
            if other != shape:
                yield from drafts(
                    f.count(other) > 0,
                    f"There is both a {shape} and a {other}.",
                    f"Both a {shape} and a {other} can be seen.",
                )


def _every(f: Facts) -> Drafts:
    for shape in f.plural:
        colors = f.colors_of(shape)
        for color in {*colors, f.colors[-1]}:
            yield from drafts(
                set(colors) == {color},
                f"Every {shape} is {color}.",
                f"Each {shape} is {color}.",
                f"All {shape}s are {color}.",
                f"All of the {shape}s are {color}.",
                f"Each of the {shape}s is {color}.",
                f"Every single {shape} is {color}.",
                f"All {NUMBERS[len(colors)]} {shape}s are {color}." if len(colors) > 2 else "",
                f"The {shape}s are {color}, every one of them.",
                f"There is no {shape} that is not {color}.",
                f"No {shape} is any color but {color}.",
            )
        first = colors[0]
        for second in (c for c in f.colors if c != first and set(colors) != {first}):
            yield from drafts(
                set(colors) == {first, second},
                f"Each {shape} is either {first} or {second}.",
                f"Every {shape} is {first} or {second}.",
            )
    if len(f.only_shapes) >= 2:
        for color in f.colors:
            yield from drafts(
                f.colored(color) == len(f.shapes),
                f"All the shapes are {color}.",
                f"Every shape is {color}.",
                f"Each shape in the image is {color}.",
            )
        for shape in f.present:
            yield from drafts(
                f.count(shape) == len(f.shapes), f"Every shape is a {shape}.", f"All of the shapes are {shape}s."
            )


def _most_half(f: Facts) -> Drafts:
    """ "Most" needs two thirds to be true and a half to be false; "half" is false only of fewer."""
    groups = [(f"{s}s", f.colors_of(s)) for s in f.plural] + ([("shapes", f.colors_of_all)] if f.only_shapes else [])
    for noun, colors in groups:
        total = len(colors)
        for color in f.colors:
            n = colors.count(color)
            if total >= 3 and total > n and (3 * n >= 2 * total or 2 * n <= total):
                yield from drafts(
                    3 * n >= 2 * total,
                    f"Most {noun} are {color}.",
                    f"Most of the {noun} are {color}.",
                    f"The majority of the {noun} are {color}.",
                    f"More than half of the {noun} are {color}.",
                    f"Fewer than half of the {noun} are not {color}.",
                )
            if 2 * n <= total >= 2:
                yield from drafts(
                    2 * n == total,
                    f"Half of the {noun} are {color}.",
                    f"Half the {noun} are {color}.",
                    f"Exactly half of the {noun} are {color}, the others are not.",
                    f"50% of the {noun} are {color}.",
                )


def _partitive(f: Facts) -> Drafts:
    """A number of some group; what is claimed falsely is higher than the truth."""
    total = len(f.only_shapes)
    if total >= 3:
        parts = [(f"{c}", f"{c}", f.colored(c)) for c in f.colors] + [
            (f"a {s}", f"{s}s", f.count(s)) for s in (*f.present, *f.absent)
        ]
        for one, many, n in parts:
            for k in {n, n + 1} - {0, total}:
                if k <= total:
                    predicate = f"is {one}" if k == 1 else f"are {many}"
                    yield from drafts(
                        k == n,
                        f"{NUMBERS[k].title()} of the {NUMBERS[total]} shapes {predicate}.",
                        f"Of the {NUMBERS[total]} shapes, {NUMBERS[k]} {predicate}.",
                        f"Out of {total} shapes, {k} {predicate}.",
                        f"There are {NUMBERS[total]} shapes, {NUMBERS[k]} of which {predicate}.",
                        f"{NUMBERS[k].title()} in {NUMBERS[total]} shapes {predicate}.",
                        f"Only {NUMBERS[k]} of the shapes {predicate}.",
                    )
    for shape in f.plural:
        colors = f.colors_of(shape)
        for color in set(colors):
            n = colors.count(color)
            for k in {n, n + 1} - {len(colors)}:
                if k < len(colors):
                    yield from drafts(
                        k == n,
                        f"{NUMBERS[k].title()} of the {shape}s {'is' if k == 1 else 'are'} {color}.",
                        f"Exactly {NUMBERS[k]} of the {NUMBERS[len(colors)]} {shape}s {'is' if k == 1 else 'are'} {color}.",
                    )
            if len(colors) == 2:
                yield Draft(n == 1, f"One of the two {shape}s is {color}, the other one is not.")


def _comparison(f: Facts) -> Drafts:
    for a in f.present:
        for b in f.present:
            if a != b:
                n, m = f.count(a), f.count(b)
                yield from drafts(
                    n == m,
                    f"There are as many {a}s as {b}s.",
                    f"The number of {a}s equals the number of {b}s.",
                    f"There are just as many {a}s as there are {b}s.",
                    f"There is an equal number of {a}s and {b}s.",
                    f"There are no more {a}s than {b}s and no fewer.",
                )
                yield from drafts(
                    n > m,
                    f"There are more {a}s than {b}s.",
                    f"The {a}s outnumber the {b}s.",
                    f"There are not as many {b}s as {a}s.",
                    f"The {b}s are outnumbered by the {a}s.",
                    f"There are fewer {b}s than {a}s.",
                )
                yield from drafts(n <= m, f"There are not more {a}s than {b}s.", f"There are no more {a}s than {b}s.")
                yield from drafts(
                    n == 2 * m,
                    f"There are twice as many {a}s as {b}s.",
                    f"There are half as many {b}s as {a}s.",
                    f"For every {b} there are two {a}s.",
                )
                yield from drafts(
                    n == m + 1, f"There is one more {a} than there are {b}s.", f"One {b} fewer than {a}s."
                )


def _only(f: Facts) -> Drafts:
    for thing in f.single if len(f.only_shapes) >= 2 else ():
        for color in {t.color for t in f.shapes}:
            yield from drafts(
                thing.color == color and f.colored(color) == 1,
                f"Only the {thing.shape} is {color}.",
                f"The {thing.shape} is the only {color} shape.",
                f"The only {color} shape is the {thing.shape}.",
                f"The {thing.shape} alone is {color}.",
                f"The only thing that is {color} is the {thing.shape}.",
            )
    for shape in f.present:
        n = f.count(shape)
        yield from drafts(
            n == 1,
            f"There is only one {shape}.",
            f"There is just one {shape}.",
            f"There is a single {shape}.",
            f"There is one {shape} and no more.",
            f"The image has one lone {shape}.",
        )
        for k in {n, n + 1} - {1}:
            yield from drafts(
                k == n, f"There are only {NUMBERS[k]} {shape}s.", f"Just {NUMBERS[k]} {shape}s are there."
            )
        if f.only_shapes:
            pure = n == len(f.shapes)
            if n >= 2 or not pure:
                yield from drafts(
                    pure,
                    f"The image shows only {shape}s.",
                    f"There are only {shape}s here.",
                    f"Only {shape}s can be seen, no other shapes.",
                )
    for thing in f.single:
        for color in (thing.color, *f.other_colors(thing)[:3]):
            yield from drafts(
                color == thing.color,
                f"The only {thing.shape} is {color}.",
                f"The one {thing.shape} that I see is {color}.",
                f"The sole {thing.shape} is {color}.",
            )


def _total(f: Facts) -> Drafts:
    total = len(f.only_shapes)
    if total >= 2:
        kinds, colors = len(f.present), len(set(f.colors_of_all))
        listed = ", ".join(f"{NUMBERS[n]} {s}{'s' * (n > 1)}" for s, n in Counter(t.shape for t in f.shapes).items())
        for k in (total, total + 1):
            yield from drafts(
                k == total,
                f"There are {NUMBERS[k]} shapes in total.",
                f"{NUMBERS[k].title()} shapes: {listed}.",
                f"The image shows {NUMBERS[k]} shapes: {listed}.",
                f"Altogether I count {k} shapes.",
                f"That makes {NUMBERS[k]} shapes: {listed}.",
            )
        for k in {colors, colors + 1} - {1}:
            named = ", ".join(dict.fromkeys(f.colors_of_all))
            yield from drafts(
                k == colors,
                f"The shapes have {NUMBERS[k]} different colors.",
                f"The shapes come in {NUMBERS[k]} colors: {named}.",
            )
        for k in {kinds, kinds + 1} - {1}:
            yield from drafts(k == kinds, f"{NUMBERS[k].title()} different kinds of shapes can be seen.")


def _number_words(f: Facts) -> Drafts:
    """Number words that count nothing in the image."""
    for p in f.propositions:
        yield from drafts(
            p.true,
            f"One thing is certain: {p.text}.",
            f"At second glance, {p.text}.",
            f"In the first place, {p.text}.",
            f"On the one hand, I see no people; on the other hand, {p.text}.",
            f"For one thing, {p.text}.",
        )
        yield from drafts(not p.true, f"One thing is clear: {p.negation}.", f"I looked two times, and {p.negation}.")
    for first, second in f.pairs:
        for color in (first.color, *f.other_colors(first)[:2]):
            yield from drafts(
                color == first.color,
                f"Two things stand out: a {color} {first.shape} and a {second.name}.",
                f"I notice two things. First, a {color} {first.shape}. Second, a {second.name}.",
            )


def _generic(f: Facts) -> Drafts:
    """Sentences about shapes in general, which say nothing about the image, beside ones that do."""
    general = {
        "circle": ("Circles are round.", "A circle has no corners.", "A circle is always round."),
        "square": ("A square has four equal sides.", "Squares have four corners.", "No square is round."),
        "triangle": (
            "A triangle has three sides.",
            "Triangles have three corners.",
            "Two triangles can form a square.",
        ),
        "star": ("A star usually has five points.", "Stars have points.", "A star is no circle."),
    }
    for shape, texts in general.items():
        if shape in f.absent:
            yield from drafts(True, *texts)
        for text in texts:
            sentence = text.rstrip(".")
            yield Draft(shape in f.absent, f"{sentence}; there is no {shape} here.")
            yield Draft(shape in f.present, f"{sentence}, and there is a {shape} here.")


TEMPLATES: dict[str, Template] = {
    "range": _range,
    "bound": _bound,
    "approximation": _approximation,
    "both": _both,
    "every": _every,
    "most_half": _most_half,
    "partitive": _partitive,
    "comparison": _comparison,
    "only": _only,
    "total": _total,
    "number_words": _number_words,
    "generic": _generic,
}
"""Template of each construction."""
