"""Lists, brackets, tables, short answers, text on signs, and other forms that models give their answers."""

from itertools import pairwise

from vlrm_ray.scenes.hard.facts import NUMBERS, Draft, Drafts, Facts, Template, Thing, drafts
from vlrm_ray.scenes.world import SHAPES, SIGN

ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else f"{noun}s"


def _place(thing: Thing) -> str:
    """Name of the grid cell: "top left"; empty if the object is not near the center of one."""
    return f"{ROWS[thing.cell[0]]} {COLUMNS[thing.cell[1]]}" if thing.cell else ""


def _inventories(f: Facts) -> list[tuple[bool, list[tuple[str, str]]]]:
    """Complete lists of (color, shape), the true one and some in which one color or one shape is wrong."""
    right = [(t.color, t.shape) for t in f.shapes]
    lists = [(True, right)]
    for i, thing in enumerate(f.single):
        at = right.index((thing.color, thing.shape))
        color = f.other_colors(thing)[i % len(f.other_colors(thing))]
        lists.append((False, [*right[:at], (color, thing.shape), *right[at + 1 :]]))
        if f.absent:
            lists.append((False, [*right[:at], (thing.color, f.absent[i % len(f.absent)]), *right[at + 1 :]]))
    return lists


def _numbered_list(f: Facts) -> Drafts:
    for true, items in _inventories(f):
        if len(items) >= 2:
            numbered = list(enumerate(items, 1))
            yield from drafts(
                true,
                "\n".join(f"{i}. **{s.title()}**: {c}" for i, (c, s) in numbered),
                "\n".join(f"{i}. {c.title()} {s}" for i, (c, s) in numbered),
                "; ".join(f"{i}) a {c} {s}" for i, (c, s) in numbered),
                "I see: " + ", ".join(f"{i}. a {c} {s}" for i, (c, s) in numbered) + ".",
                "Shapes:\n" + "\n".join(f"{i}. A **{c} {s}**" for i, (c, s) in numbered),
                "\n".join(f"{i}. The {s} ({c})" for i, (c, s) in numbered) if len(f.single) == len(items) else "",
                ", ".join(f"Shape {i} is a {c} {s}" for i, (c, s) in numbered) + ".",
                ". ".join(f"Object #{i}: {c} {s}" for i, (c, s) in numbered) + ".",
                "\n".join(f"({i}) {s}, {c}" for i, (c, s) in numbered),
            )


def _bullet_list(f: Facts) -> Drafts:
    for true, items in _inventories(f):
        yield from drafts(
            true,
            "\n".join(f"- **{s.title()}**: {c}" for c, s in items),
            "\n".join(f"* {c.title()} {s}" for c, s in items),
            "The image contains:\n" + "\n".join(f"- a {c} {s}" for c, s in items),
            "**Shapes**\n" + "\n".join(f"- {s} – {c}" for c, s in items),
            "\n".join(f"- Shape: {s}, color: {c}" for c, s in items),
            "\n".join(f"- **Shape:** {s}\n  **Color:** {c}" for c, s in items),
            "Shapes: " + "; ".join(f"{s}, {c}" for c, s in items) + ".",
            "## Shapes\n\n" + "\n".join(f"+ `{s}`: *{c}*" for c, s in items),
        )
    placed = [t for t in f.shapes if t.cell]
    for thing in placed:
        others = [t for t in placed if t is not thing and t.color != thing.color]
        lines = [f"**{t.name.capitalize()}** – {_place(t)}" for t in placed]
        yield from drafts(True, "\n".join(lines), "\n".join(f"- {line}" for line in lines))
        for other in others:
            wrong = thing.name.replace(thing.color, other.color)
            if not any(t.name == wrong for t in f.shapes):
                yield Draft(False, "\n".join(lines).replace(thing.name.capitalize(), wrong.capitalize()))


def _brackets(f: Facts) -> Drafts:
    for true, items in _inventories(f):
        if len(items) >= 2:
            listed = [f"a {s} ({c})" for c, s in items]
            yield from drafts(
                true,
                f"The image shows {', '.join(listed[:-1])} and {listed[-1]}.",
                f"{', '.join(listed)}.",
                "Shapes: " + ", ".join(f"{s} ({c})" for c, s in items) + ".",
                "Shapes: " + ", ".join(f"{s} [{c}]" for c, s in items),
            )
    for thing in f.single:
        for color in (thing.color, *f.other_colors(thing)[:3]):
            yield Draft(color == thing.color, f"There is a {thing.shape} ({color}).")
            yield Draft(color == thing.color, f"There is one {thing.shape} (which is {color}).")
            other = next(c for c in f.other_colors(thing) if c != color)
            yield Draft(color == thing.color, f"There is a {color} (not {other}) {thing.shape}.")
    for shape in f.present:
        colors = f.colors_of(shape)
        if len(colors) == 2 and colors[0] != colors[1]:
            first, second = colors
            for true, a in ((True, first), *((False, c) for c in f.colors if c not in colors)):
                yield from drafts(
                    true,
                    f"There are two {shape}s ({a} and {second}).",
                    f"Two {shape}s (one {a}, one {second}) are visible.",
                )
    for a in f.present:
        for b in f.present:
            if a != b:
                for number in (f.count(b), f.count(b) + 1):
                    yield from drafts(
                        number == f.count(b),
                        f"The image shows {a}s ({f.count(a)}) and {b}s ({number}).",
                        f"There are shapes here: {_plural(a, f.count(a))} ({f.count(a)}), {_plural(b, number)} ({number}).",
                    )


def _tally(f: Facts) -> Drafts:
    for a, b in pairwise((*f.present, *f.absent)):
        for extra in (0, 1):
            n, m = f.count(a), f.count(b) + extra
            yield from drafts(
                not extra,
                f"{a.title()}s: {n}, {b}s: {m}",
                f"{a.title()}s: {n}; {b}s: {m}.",
                f"Number of {a}s = {n}, number of {b}s = {m}",
                f"{a.title()} count: {n}. {b.title()} count: {m}.",
                f"| Shape | Count |\n|---|---|\n| {a} | {n} |\n| {b} | {m} |",
                f"- {a.title()}s: {n}\n- {b.title()}s: {m}",
                f"{n} x {a}, {m} x {b}" if n and m else "",
                f"{a}s – {n}, {b}s – {m}",
                f"There are {n} {a}(s) and {m} {b}(s).",
                f"Counting by shape gives {a}: {n}, {b}: {m}.",
            )
    for true, items in _inventories(f):
        rows = "\n".join(f"| {s} | {c} |" for c, s in items)
        yield from drafts(true, f"| Shape | Color |\n|---|---|\n{rows}", f"Shape | Color\n--- | ---\n{rows}")


def _final_answer(f: Facts) -> Drafts:
    for shape in f.present:
        for number in (f.count(shape), f.count(shape) + 1):
            yield from drafts(
                number == f.count(shape),
                f"**{number}**",
                f"Final answer: {number}",
                f"**Answer:** {number} {_plural(shape, number)}",
                f"The answer is {NUMBERS[number]}.",
                f"Let me count the {shape}s one by one. In total: {number}.",
                f"\\boxed{{{number}}}",
                f"<answer>{number}</answer>",
                question=f"How many {shape}s are there?",
            )
    for thing in f.single:
        for color in (thing.color, *f.other_colors(thing)[:3]):
            yield from drafts(
                color == thing.color,
                f"**{color.title()}**.",
                f"Final answer: {color}",
                f"The color of the {thing.shape} is **{color}**.",
                f"Step 1: find the {thing.shape}. Step 2: name its color. Answer: {color}.",
                question=f"What color is the {thing.shape}?",
            )
            others = " or ".join(sorted({thing.color, color if color != thing.color else f.other_colors(thing)[-1]}))
            yield from drafts(
                color == thing.color, f"{color.title()}.", f"It's {color}.", question=f"Is the {thing.shape} {others}?"
            )


def _leading_answer(f: Facts) -> Drafts:
    for name in (*f.present, *f.absent, SIGN):
        gone, question = f.count(name) == 0, f"Is there a {name}?"
        yield from drafts(
            gone, "There isn't one.", "No, there isn't.", "I don't see one.", "None that I can see.", "There is none.",
            "Not in this image.", "Nope.", f"No {name}.", "There isn't any.", "No, none at all.", question=question,
        )  # fmt: skip
        yield from drafts(
            not gone,
            "There is one.",
            "Yes, there is.",
            "I see one.",
            "Yes, I can see one.",
            "Indeed.",
            question=question,
        )
        yield from drafts(gone, "There are none.", "No, there are no such things.", question=f"Are there any {name}s?")
        yield from drafts(gone, "No, there isn't.", "There isn't.", question=f"There is a {name}, isn't there?")
        yield from drafts(not gone, "Yes, there is.", "There is, yes.", question=f"Isn't there a {name}?")
    for shape in f.present:
        right = f.count(shape)
        for asked, number in ((right + 1, right), (right, right + 1)):
            only = "only " if number == right else ""
            yield from drafts(
                number == right,
                f"No, {NUMBERS[number]}.",
                f"No, there {'is' if number == 1 else 'are'} {only}{NUMBERS[number]}.",
                f"Not {NUMBERS[asked]}, {NUMBERS[number]}.",
                f"That's wrong: I count {number}.",
                question=f"There {'is' if asked == 1 else 'are'} {NUMBERS[asked]} {_plural(shape, asked)}, right?",
            )
    for thing in f.single:
        for other in f.other_colors(thing):
            for true, told, said in ((True, other, thing.color), (False, thing.color, other)):
                yield from drafts(
                    true,
                    f"No, it's {said}.",
                    f"No, {said}.",
                    f"It isn't {told}, it's {said}.",
                    f"Not {told} – {said}.",
                    question=f"Is the {thing.shape} {told}?",
                )
                yield from drafts(true, "It isn't.", "No, it is not.", question=f"Is the {thing.shape} {told}?")


def _sign_text(f: Facts) -> Drafts:
    for word in f.other_words if f.word else ():
        for true, yes, no in ((True, f.word, word), (False, word, f.word)):
            yield from drafts(
                true,
                f'The sign says "{yes}", not "{no}".',
                f"The sign reads {yes} rather than {no}.",
                f'The word on the sign isn\'t "{no}" but "{yes}".',
                f'"{yes}" is written on the sign.',
                f"The sign does not say {no}.",
                f'It says "{yes}", and not "{no}".',
                f"Someone might read {no}, but the sign says {yes}.",
                f'There is no "{no}" sign; the sign says "{yes}".',
                f"If the sign said {no}, it would be a different picture: it says {yes}.",
                f"Only the word {yes} is on the sign.",
                f"The text “{yes}” can be read on a white sign.",
                f"The sign spells out {'-'.join(yes)}.",
            )
    for a, b in pairwise(f.other_words):
        yield Draft(
            True, f"Neither {a} nor {b} is written on the sign." if f.word else f"The word {a} appears nowhere."
        )
    if f.word:
        yield Draft(False, f"Neither {f.word} nor {f.other_words[0]} is written on the sign.")
        yield Draft(False, f"The word {f.word} appears nowhere.")
    yield from drafts(
        not f.word,
        "There is no sign, so there is nothing to read.",
        "No word is written anywhere in the image.",
        "There isn't any text.",
        "The image contains no text.",
    )


def _sign_meaning(f: Facts) -> Drafts:
    """The word on a sign names something that is not in the image."""
    trap = {"BUS": "bus", "TAXI": "taxi", "ZOO": "zoo", "CAFE": "cafe", "PARK": "park"}
    for word in trap if f.word else ():
        thing = trap[word]
        yield from drafts(
            word == f.word,
            f"The sign says {word}, but there is no {thing}.",
            f'There is a sign with the word "{word}", though no {thing} is visible.',
        )
        if word == f.word:
            yield Draft(True, f"The {word} sign does not mean that there is a {thing}.")


def _mixed_inventory(f: Facts) -> Drafts:
    counts = {s: f.count(s) for s in SHAPES}
    for changed in (None, *SHAPES):
        numbers = {s: n + (s == changed) for s, n in counts.items()}
        some = [f"{NUMBERS[n]} {_plural(s, n)}" for s, n in numbers.items() if n]
        none = [s for s, n in numbers.items() if not n]
        if len(some) >= 2 and none:
            yield from drafts(
                changed is None,
                f"There are {', '.join(some)}, but no {none[0]}.",
                f"I count {' and '.join(some)}; there are no {none[0]}s.",
                f"No {none[0]}s, {', '.join(some)}.",
                f"{', '.join(some)} and no {none[0]}.",
            )


TEMPLATES: dict[str, Template] = {
    "numbered_list": _numbered_list,
    "bullet_list": _bullet_list,
    "brackets": _brackets,
    "tally": _tally,
    "final_answer": _final_answer,
    "leading_answer": _leading_answer,
    "sign_text": _sign_text,
    "sign_meaning": _sign_meaning,
    "mixed_inventory": _mixed_inventory,
}
"""Template of each construction."""
