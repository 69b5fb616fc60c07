"""The claims that the sentences of `language` make: ground truth for extractors, written where the sentences are."""

from vlrm_ray.types import Claim, ClaimType, Noun

Claims = tuple[Claim, ...]


def noun(name: str) -> Noun:
    """ "red circle" or "sign" as claims name it."""
    *colors, shape = name.split()
    return Noun(shape, tuple(colors))


def there(name: str) -> Claims:
    """That something is there, with its colour if the name has one."""
    thing = noun(name)
    plain = Noun(thing.name)
    colors = (Claim(ClaimType.ATTRIBUTE, plain, color) for color in thing.attributes)
    return (Claim(ClaimType.OBJECT, plain), *colors)


def absent(name: str) -> Claims:
    """That nothing of this kind, or of this kind and colour, is there."""
    thing = noun(name)
    if not thing.attributes:
        return (Claim(ClaimType.OBJECT, thing, negated=True),)
    return (Claim(ClaimType.ATTRIBUTE, Noun(thing.name), thing.attributes[0], negated=True),)


def counted(name: str, number: int) -> Claims:
    """How many there are; none means absence."""
    return (*there(name), Claim(ClaimType.COUNT, noun(name), str(number))) if number else absent(name)


def painted(shape: str, color: str) -> Claims:
    """Which colour a shape has."""
    return (Claim(ClaimType.OBJECT, Noun(shape)), Claim(ClaimType.ATTRIBUTE, Noun(shape), color))


def related(one: str, relation: str, two: str) -> Claims:
    """Where one thing is, seen from another."""
    return (*there(one), Claim(ClaimType.RELATION, noun(one), relation.replace(" ", "_"), noun(two)), *there(two))


def written(word: str, on: str) -> Claims:
    """Which word a sign carries."""
    return (Claim(ClaimType.TEXT, Noun(on), word), Claim(ClaimType.OBJECT, Noun(on)))


def compared(one: str, how: str, two: str) -> Claims:
    """Of what there is more."""
    return (Claim(ClaimType.COUNT, Noun(one), how.replace(" ", "_"), Noun(two)),)
