"""Conditionals, past and reported speech, claims about claims, questions and hedges.

Much of what these sentences mention is not asserted. Their truth is that of what they do assert about the image.
"""

from vlrm_ray.scenes.hard.facts import NUMBERS, Draft, Drafts, Facts, Template, drafts
from vlrm_ray.scenes.world import SIGN


def _upper(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def _absences(f: Facts) -> list[tuple[str, bool]]:
    """Names of objects, each with whether the scene has no such object."""
    names = [*f.absent, *f.present, SIGN]
    missing = [f"{color} {shape}" for shape in f.present for color in f.colors[:4] if not f.count(shape, color)]
    return [(name, f.count(name) == 0) for name in names] + [(name, True) for name in missing]


def _counterfactual(f: Facts) -> Drafts:
    for name, gone in _absences(f):
        yield from drafts(
            gone,
            f"If there were a {name}, I would have mentioned it, but there is none.",
            f"If a {name} were present, there would be one more object; there is no {name}, though.",
            f"Were there a {name}, I would say so. There is none.",
            f"Had there been a {name}, I would have listed it. There isn't one.",
            f"I would say yes if there were a {name}, but there is not.",
            f"There could be a {name} in a different picture, but not in this one.",
        )
        if gone:
            yield Draft(True, f"If there were a {name}, the image would look different.")
    for first, second in f.pairs:
        for color in f.other_colors(first):
            yield from drafts(
                second.color == color,
                f"If the {first.shape} were {color}, it would have the same color as the {second.shape}.",
                f"Were the {first.shape} {color}, it would match the {second.shape} in color.",
            )
    for shape in f.present:
        right = f.count(shape)
        for number in (right + 1, right + 2):
            yield from drafts(
                number == right + 1,
                f"If there were one more {shape}, there would be {NUMBERS[number]} {shape}s.",
                f"With another {shape} there would be {NUMBERS[number]} {shape}s.",
            )
    for thing in f.named:
        if thing.shape != SIGN:
            yield from drafts(
                f.count(thing.shape) == 1,
                f"If you removed the {thing.name}, no {thing.shape} would be left.",
                f"If the {thing.name} were erased, there would be no {thing.shape}s.",
            )


def _conditional(f: Facts) -> Drafts:
    for shape in f.present:
        right = f.count(shape)
        for number in {right, right + 1, right + 2} - {1}:
            yield from drafts(
                number == right,
                f"If you count the {shape}s, you get {NUMBERS[number]}.",
                f"If we count every {shape}, we arrive at {number}.",
            )
    for p in f.propositions:
        yield from drafts(
            p.true,
            f"Unless I am mistaken, {p.text}.",
            f"If you look closely, you will see that {p.text}.",
            f"If I read the image correctly, {p.text}.",
            f'If the question is "{_upper(p.question)}?", the answer is yes.',
        )
        yield from drafts(
            not p.true,
            f'If the question is "{_upper(p.question)}?", the answer is no.',
            f"If someone says that {p.text}, they are wrong.",
        )


def _past(f: Facts) -> Drafts:
    for name, gone in _absences(f):
        yield from drafts(
            gone,
            f"There used to be a {name} here, but there is none now.",
            f"There was a {name} before, but now there is no {name}.",
            f"The {name} is no longer there.",
            f"There is no longer a {name} in the image.",
            f"There isn't a {name} any more.",
            question=f"An earlier version of this image had a {name}. Is it still there?",
        )
    for thing in f.single:
        for other in f.other_colors(thing):
            for true, old, new in ((True, other, thing.color), (False, thing.color, other)):
                yield from drafts(
                    true,
                    f"It used to be {old}, but now it is {new}.",
                    f"The {thing.shape} is no longer {old}; it is {new}.",
                    f"The {thing.shape} was {old}, but it has been painted {new}.",
                    f"It is not {old} any more but {new}.",
                    question=f"The {thing.shape} was {old} in an earlier version. What color is it now?",
                )


def _reported(f: Facts) -> Drafts:
    for name, gone in _absences(f):
        asked = f"Is there a {name}?"
        yield from drafts(
            gone,
            f"The question asks about a {name}. There is none.",
            f"The question asks whether there is a {name}, and there isn't.",
            f"You asked for a {name}, but I see no such thing.",
            f"The question mentions a {name}, which the image does not show.",
            question=asked,
        )
        if gone:
            yield from drafts(
                True,
                f"The question asks whether there is a {name}.",
                f"The question asks about a {name}.",
                f"You want to know whether there is a {name}.",
                question=asked,
            )
        yield from drafts(
            gone,
            f"Someone might say there is a {name}, but there is none.",
            f"One might expect a {name}, but there isn't one.",
            f"Some would say that there is a {name}; they would be wrong.",
            f"The caption may mention a {name}, but no {name} is visible.",
            f"Contrary to the caption, there is no {name}.",
        )
    for thing in f.single:
        for other in f.other_colors(thing):
            for true, told, seen in ((True, other, thing.color), (False, thing.color, other)):
                yield from drafts(
                    true,
                    f"You asked whether the {thing.shape} is {told}. It is {seen}.",
                    f"The question suggests that the {thing.shape} is {told}, but it is {seen}.",
                    f"According to the question the {thing.shape} is {told}; in fact it is {seen}.",
                    question=f"The {thing.shape} is {told}, isn't it?",
                )


def _quoted(f: Facts) -> Drafts:
    for p in f.propositions:
        sentence = f'"{_upper(p.text)}"'
        yield from drafts(
            not p.true,
            f"{sentence} is false.",
            f"The sentence {sentence} is wrong.",
            f"The statement {sentence} does not describe this image.",
            f"Whoever says {sentence} has not looked at the picture.",
        )
        yield from drafts(
            p.true, f"{sentence} is true.", f"The sentence {sentence} is correct.", f"{sentence}: that is right."
        )
        yield from drafts(
            p.true, f'"{_upper(p.negation)}" is false.', f'"{_upper(p.negation)}" would be a wrong answer.'
        )
    for name, gone in _absences(f):
        yield from drafts(
            gone,
            f'The word "{name}" does not apply to anything here.',
            f'Nothing in this image deserves the label "{name}".',
        )


def _claim_about_claim(f: Facts) -> Drafts:
    for p in f.propositions:
        yield from drafts(
            not p.true,
            f"The claim that {p.text} is false.",
            f"It is not true that {p.text}.",
            f"It is false that {p.text}.",
            f"It is not the case that {p.text}.",
            f"It would be wrong to say that {p.text}.",
            f"Saying that {p.text} would be incorrect.",
            f"That {p.text} is simply not true.",
            f"I disagree with the claim that {p.text}.",
            f"I cannot confirm that {p.text}; it is wrong.",
            f"The idea that {p.text} is mistaken.",
            f"It can't be said that {p.text}.",
        )
        yield from drafts(
            p.true,
            f"It is true that {p.text}.",
            f"The claim that {p.text} is correct.",
            f"I agree that {p.text}.",
            f"The statement that {p.text} is accurate.",
        )


def _double_negation(f: Facts) -> Drafts:
    for p in f.propositions:
        yield from drafts(
            p.true,
            f"It is not true that {p.negation}.",
            f"It would be wrong to say that {p.negation}.",
            f"There is no denying that {p.text}.",
            f"It cannot be denied that {p.text}.",
            f"No one can say that {p.negation}.",
            f"The claim that {p.negation} is false.",
            f"I wouldn't say that {p.negation}.",
            f"There is no doubt that {p.text}.",
        )
    for name in (*f.present, *f.absent, SIGN):
        yield from drafts(
            f.count(name) > 0, f"The image is not without a {name}.", f"It's not as if there were no {name}."
        )


def _hedge(f: Facts) -> Drafts:
    for p in f.propositions:
        yield from drafts(
            p.true,
            f"I may be wrong about the details, but {p.text}.",
            f"I am not sure about the background, but {p.text}.",
            f"As far as I can see, {p.text}.",
            f"I think {p.text}.",
            f"I believe that {p.text}.",
            f"It looks like {p.text}.",
            f"{_upper(p.text)}, I think.",
            f"Although the image might be blurry, {p.text}.",
            f"Perhaps surprisingly, {p.text}.",
        )
        yield from drafts(
            not p.true,
            f"I do not think that {p.text}.",
            f"I don't believe {p.text}.",
            f"It does not look like {p.text}.",
            f"It doesn't seem that {p.text}.",
        )


def _question_inside(f: Facts) -> Drafts:
    for p in f.propositions:
        ask = _upper(p.question)
        yield from drafts(
            p.true,
            f"{ask}? Yes.",
            f"{ask}? Yes, that is right.",
            f"{ask}? Certainly.",
            f"Let me check: {p.question}? Yes.",
        )
        yield from drafts(
            not p.true,
            f"{ask}? No.",
            f"{ask}? I don't think so.",
            f"{ask}? Not at all.",
            f"Let me check: {p.question}? No.",
        )
    for shape in (*f.present, *f.absent):
        yield from drafts(
            f.count(shape) == 0,
            f"What about {shape}s? There are none.",
            f"Is there a {shape}? There isn't.",
            f"Do I see any {shape}s? None.",
            f"And the {shape}s? Nowhere.",
        )
        for number in {f.count(shape), f.count(shape) + 1}:
            yield Draft(number == f.count(shape), f"How many {shape}s are there? {_upper(NUMBERS[number])}.")
    for thing in f.single:
        for color in (thing.color, *f.other_colors(thing)[:3]):
            yield from drafts(
                color == thing.color,
                f"What color is the {thing.shape}? It's {color}.",
                f"And the color of the {thing.shape}? {_upper(color)}.",
            )


def _imperative(f: Facts) -> Drafts:
    for p in f.propositions:
        yield from drafts(
            p.true,
            f"Note that {p.text}.",
            f"Keep in mind that {p.text}.",
            f"Look closely: {p.text}.",
            f"Don't forget that {p.text}.",
        )
        yield from drafts(
            not p.true,
            f"Don't say that {p.text}; that is wrong.",
            f"Do not assume that {p.text}, because it is not so.",
            f"Suppose that {p.text}: that would not match the image.",
        )
    for name, gone in _absences(f):
        yield from drafts(
            gone,
            f"Don't look for a {name}: there is none.",
            f"Imagine a {name}; the image itself has none.",
            f"Add a {name} if you like; so far there is none.",
        )
    for shape in f.present:
        right = f.count(shape)
        for number in {right, right + 1, right + 2} - {1}:
            yield from drafts(number == right, f"Count the {shape}s: there are {NUMBERS[number]}.")


def _modal(f: Facts) -> Drafts:
    for name, gone in _absences(f):
        yield from drafts(
            gone,
            f"There could have been a {name}, but there is none.",
            f"There should be a {name}, but there isn't.",
            f"You will not find a {name} here.",
            f"A {name} cannot be found.",
            f"I'd expect a {name}, but I see none.",
            f"There can't be a {name}, since I see none.",
        )
        yield from drafts(
            not gone,
            f"You will find a {name} here.",
            f"A {name} can be seen.",
            f"You can't miss the fact that there is a {name}.",
        )


def _tag_question(f: Facts) -> Drafts:
    for name, gone in _absences(f):
        yield from drafts(
            gone, f"There is no {name}, is there?", f"There isn't a {name}, is there? Right, there isn't."
        )
        yield from drafts(not gone, f"There is a {name}, isn't there?", f"There is a {name}, right?")
    for thing in f.single:
        for color in f.colors:
            yield from drafts(
                thing.color == color,
                f"The {thing.shape} is {color}, isn't it?",
                f"The {thing.shape} is {color}, is it not?",
                f"It's {color}, the {thing.shape}, isn't it?",
            )


def _reason(f: Facts) -> Drafts:
    for name, gone in _absences(f):
        yield from drafts(
            gone,
            f"Since there is no {name}, the answer is no.",
            f"The answer is no, because there is no {name}.",
            f"No, for want of a {name}.",
            f"The answer would be yes only if there were a {name}; there is none.",
            question=f"Is there a {name}?",
        )
        yield from drafts(
            not gone,
            f"The answer is yes, because there is a {name}.",
            f"Since there is a {name}, I answer yes.",
            f'It would be wrong to answer "no", since there is a {name}.',
            question=f"Is there a {name}?",
        )
    for thing in f.single:
        for other in f.other_colors(thing):
            for true, yes, no in ((True, thing.color, other), (False, other, thing.color)):
                yield from drafts(
                    true,
                    f"As the {thing.shape} is {yes}, it can't be {no}.",
                    f"The {thing.shape} can't be {no}, because it is {yes}.",
                    f"To be {no}, the {thing.shape} would have to be painted over: it is {yes}.",
                )


def _search(f: Facts) -> Drafts:
    """A vain search is no assertion, so where it is false that there is nothing, a flat denial follows."""
    for name, gone in _absences(f):
        yield from drafts(
            gone,
            f"To answer, I look for a {name}. There is none.",
            f"I was asked to find a {name}; there is none.",
            f"I checked whether there is a {name}. There isn't.",
            f"I searched for a {name} and can say that there is none.",
        )
        if gone:
            yield from drafts(
                True,
                f"I searched for a {name} but found none.",
                f"Let me look for a {name}... No, nothing.",
                f"My search for a {name} was in vain.",
                f"I failed to find a {name}.",
            )


TEMPLATES: dict[str, Template] = {
    "counterfactual": _counterfactual,
    "conditional": _conditional,
    "past": _past,
    "reported": _reported,
    "quoted": _quoted,
    "claim_about_claim": _claim_about_claim,
    "double_negation": _double_negation,
    "hedge": _hedge,
    "question_inside": _question_inside,
    "imperative": _imperative,
    "modal": _modal,
    "tag_question": _tag_question,
    "reason": _reason,
    "search": _search,
}
"""Template of each construction."""
