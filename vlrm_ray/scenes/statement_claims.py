"""The claims of the statements that `language` generates, as ground truth for claim extractors.

Names of objects are a shape or sign with an optional color before it: "circle", "red circle".
"""

from vlrm_ray.types import Claim, ClaimType, Noun

Claims = tuple[Claim, ...]


def noun(name: str) -> Noun:
    """The noun of a name, with its color."""
    *colors, shape = name.split()
    return Noun(shape, tuple(colors))


def presence(name: str) -> Claims:
    """Claims of "there is a red circle": existence, and the color if the name has one."""
    named = noun(name)
    plain = Noun(named.name)
    colors = (Claim(ClaimType.ATTRIBUTE, plain, color) for color in named.attributes)
    return (Claim(ClaimType.OBJECT, plain), *colors)


def absence(name: str) -> Claims:
    """The claim of "there is no red circle": it denies existence, or the color if the name has one."""
    named = noun(name)
    if not named.attributes:
        return (Claim(ClaimType.OBJECT, named, negated=True),)
    return (Claim(ClaimType.ATTRIBUTE, Noun(named.name), named.attributes[0], negated=True),)


def count(name: str, number: int) -> Claims:
    """Claims of "there are two circles"; a number of 0 means absence."""
    return (*presence(name), Claim(ClaimType.COUNT, noun(name), str(number))) if number else absence(name)


def color(shape: str, value: str) -> Claims:
    """Claims of "the circle is red"."""
    return (Claim(ClaimType.OBJECT, Noun(shape)), Claim(ClaimType.ATTRIBUTE, Noun(shape), value))


def relation(subject: str, name: str, other: str) -> Claims:
    """Claims of "the star is left of the circle"; `name` is the relation, such as "left of"."""
    related = Claim(ClaimType.RELATION, noun(subject), name.replace(" ", "_"), noun(other))
    return (*presence(subject), related, *presence(other))


def text(word: str, carrier: str) -> Claims:
    """Claims of "the sign says STOP"."""
    return (Claim(ClaimType.TEXT, Noun(carrier), word), Claim(ClaimType.OBJECT, Noun(carrier)))


def comparison(first: str, value: str, second: str) -> Claims:
    """The claim of "there are more circles than squares"; `value` is "more", "fewer" or "as many"."""
    return (Claim(ClaimType.COUNT, Noun(first), value.replace(" ", "_"), Noun(second)),)
