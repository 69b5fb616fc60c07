"""Noun phrases that a sentence mentions without saying that what they name is in the image.

A bus that somebody waits for, the horse that a cloud resembles, the dog of a painting, the football of "playing football": none
of them need be there, so nothing is claimed of them. Words next to the phrase decide it, since a parse often attaches them wrongly.
"""

from collections.abc import Iterator

from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.parse.nouns import NounFinder
from vlrm_ray.claims.parse.sentence import Sentence
from vlrm_ray.claims.scope.vocabulary import CLASSES

SETTINGS = frozenset(phrase for phrase, name in CLASSES.items() if name == "SCENE")
"""Nouns that name where the whole image is: "no boats on the lake" denies that there is one."""
_PURPOSES = frozenset((
    "wait", "waits", "waiting", "waited", "looking", "look", "looks", "search", "searching", "searches", "space", "room", "place", "set", "ready",
    "prepared", "meant", "designed", "intended", "suitable", "reserved", "made", "used", "designated", "perfect", "ideal", "enough", "asking", "asks",
    "hoping", "calling", "available", "advertisement", "ad", "suited", "built", "spots", "spot", "preparing",
))  # fmt: skip
"""Words before "for" that tell what something is for, or what is not there yet."""
_LIKENESSES = frozenset({"size", "shape", "form", "style", "height", "length", "color", "colour", "likeness", "silhouette", "outline", "look", "appearance", "shadow", "smell", "idea", "symbol", "reflection"})  # fmt: skip
_DEPICTIONS = frozenset((
    "statue", "painting", "drawing", "sketch", "tattoo", "figurine", "logo", "sculpture", "illustration", "cartoon", "poster", "print", "portrait",
    "mural", "emblem", "sticker", "decal", "carving", "model", "replica", "engraving", "graphic", "icon", "cutout", "mosaic", "image", "picture",
    "photo", "photograph", "pictures", "photos", "photographs", "images", "artwork", "statuette", "bust", "doll", "ornament", "embroidery", "stencil",
))  # fmt: skip
"""Nouns before "of": what follows is only depicted."""
_FIGURES = (_DEPICTIONS - {"model"}) | {"toy", "symbol", "design", "costume", "mascot", "sport", "game", "shape"}
"""Subjects of "is" and what they show or are: "the logo is a horse", "the toy is a train"."""
_SCREENS = frozenset({"sign", "billboard", "screen", "tv", "monitor", "banner", "magazine", "book", "label", "t-shirt", "shirt", "laptop", "calendar", "card", "stamp"})  # fmt: skip
_PICTURES = frozenset({"image", "picture", "photo", "photograph", "pictures", "photos", "photographs", "images"})
"""Nouns before "of" that may also name the whole image: "a picture of a dog"."""
_DEPICTING = frozenset({"depicting", "depicts", "showing", "shows", "featuring", "features", "portraying", "portrays", "displaying", "displays", "advertising", "advertises"})  # fmt: skip
_HUNG = frozenset({"hangs", "hang", "hanging", "hung", "adorns", "adorn", "decorates", "decorate", "mounted", "displayed", "printed", "painted", "framed"})  # fmt: skip
_PRINTED = frozenset({"tie", "shirt", "t-shirt", "dress", "jacket", "sweater", "hoodie", "hat", "cap", "scarf", "sock", "pants", "skirt", "jeans", "pajamas", "uniform", "apron", "pillow", "curtain", "mug", "wallpaper", "flag", "poster", "book", "sign", "backpack", "umbrella", "card", "kite", "towel", "sticker", "logo"})  # fmt: skip
"""Things with prints: "a tie with elephants on it"."""
_TOYS = frozenset({"stuffed", "plush", "gummy", "inflatable", "toy", "animatronic", "cartoon", "fake", "origami", "crocheted", "carved", "sculpted", "gingerbread", "lego", "papier-mache"})  # fmt: skip
_MATERIALS = frozenset({"rubber", "plastic", "wooden", "metal", "ceramic", "glass", "stone", "bronze", "marble", "brass", "clay", "wicker", "paper", "cardboard", "knitted", "porcelain", "concrete", "iron", "steel", "copper"})  # fmt: skip
_PLAYS = frozenset({"play", "plays", "playing", "played", "watch", "watching", "watches", "practicing", "enjoying"})
_SPORTS = frozenset({"baseball", "football", "basketball", "soccer", "volleyball", "tennis", "hockey", "golf", "rugby", "cricket", "softball"})  # fmt: skip
_TITLES = frozenset({"titled", "entitled", "called", "named"})
_VIEWED = frozenset({"viewed", "seen", "taken", "photographed", "shot", "captured", "view", "pictured", "filmed"})
_COSTUMES = frozenset({"dressed", "disguised", "costumed", "shaped"})
_GARMENTS = frozenset({"dress", "gown", "skirt", "veil", "robe", "coat"})
_LOADED = frozenset({"truck", "pickup", "pickup truck", "trailer", "cart", "wagon", "vehicle", "car"})
_TRAINS = frozenset({"train", "locomotive", "subway", "tram", "engine", "coaster"})
_PATHS = frozenset({"road", "path", "river", "trail", "track", "street", "stream"})
_SPEECH = frozenset({"talk", "talks", "talking", "think", "thinks", "thinking", "dream", "dreams", "dreaming", "discussing", "story", "book", "movie", "film", "joke", "conversation", "joking", "reading", "writing", "singing"})  # fmt: skip
"""Words before "about"."""
_BOUND = frozenset(
    {"heading", "headed", "heads", "way", "bound", "en", "going", "goes", "travels", "travelling", "traveling"}
)
"""Words before "to" and "for" that tell where something will be."""
_FIGURATIVE = frozenset({"sea", "ocean", "mountain", "army", "carpet", "blanket", "cloud", "river", "wave", "wall"})
"""Nouns before "of" and a plural that name an amount: "a sea of umbrellas"."""
_KNOWN = frozenset({"known", "famous", "considered", "native", "thought", "believed", "supposed", "renowned"})
_OUTSIDE = frozenset({"out of", "outside", "outside of", "off", "beyond", "of"})
_FRAMES = frozenset({"frame", "view", "sight", "shot", "picture", "image", "camera", "screen", "photo"})
_LOOKING = frozenset({
    "look", "looks", "looking", "gaze", "gazes", "gazing", "stare", "stares", "staring", "glance", "glances", "glancing", "face",
    "faces", "facing", "smile", "smiles", "smiling", "point", "points", "pointing",
})  # fmt: skip
_IN_PART = frozenset({"partially", "partly", "half", "slightly", "mostly"})
_PAIRS_OF_PARTS = frozenset({"on it", "on them", "on its front", "on the front", "on the back", "on its back"})
_TRIGGERS = frozenset(
    {"for", "like", "as", "than", "of", "fork", "from", "with", "outside", "outside of", "out of", "off", "beyond", "are", "about", "to"}
    | {"has", "have", "pulls", "pulling", "is"} | _TITLES | _TOYS | _MATERIALS | _DEPICTING | _PLAYS
)  # fmt: skip


def mentioned_only(s: Sentence, nouns: NounFinder) -> set[int]:
    """Heads of the noun phrases of a sentence that are only mentioned."""
    if not any(w in _TRIGGERS or " of" in w for w in s.lower):
        return set()
    if _is_outside(s):
        return set(nouns.order)
    found = set[int]()
    for head in nouns.order:
        for one in _mentions(s, nouns, head):
            found.add(one)
            if one == head:
                found.update(nouns.conjuncts(one))
    return found | _generic(s, nouns)


def _mentions(s: Sentence, nouns: NounFinder, head: int) -> Iterator[int]:
    """The phrase with this head, or the one before it that it makes an idiom with, if it is only mentioned."""
    first = nouns.first[head]
    before = s.lower[first - 1] if first else ""
    if (
        _is_of_train(s, nouns, head)
        or _is_toy(s, nouns, head)
        or _is_played(s, nouns, head)
        or _is_print(s, nouns, head)
        or _is_said_of_figure(s, nouns, head)
    ):
        yield head
    elif before == "of" or _picture_in(s, first, head) >= 0:
        yield from _after_of(s, nouns, head)
    elif first > 1 and _follows_operator(s, nouns, head, before):
        yield head
    elif before == "in" and first > 1 and s.lower[first - 2] == "fork" and nouns.at[head].name in _PATHS:
        yield from (h for h in (first - 2,) if h in nouns.at)
    elif first == 1 and before == "like" and s.tags[0] == "IN":
        yield head
    elif before in _DEPICTING and _depicts(s, nouns, first - 1):
        yield from _below(s, nouns, head)


def _follows_operator(s: Sentence, nouns: NounFinder, head: int, before: str) -> bool:
    """Whether the words before a phrase tell a purpose, a likeness, a title or a point of view."""
    first, phrase = nouns.first[head], nouns.at[head]
    above, governor = s.lower[first - 2], s.lower[s.heads[first - 1]]
    if before == "about":
        return above in _SPEECH or governor in _SPEECH
    if before in ("to", "for") and above in _BOUND:
        return True
    if before == "for":
        is_purpose = above in _PURPOSES or governor in _PURPOSES or s.tags[first - 2] in ("NN", "NNS")
        return is_purpose and not phrase.definite
    if before == "like":
        return s.tags[first - 1] == "IN" and s.tags[first - 2] != "NNS"
    if before == "as":
        return above in _COSTUMES or "as" in s.lower[max(0, first - 5) : first - 2]
    if before == "than":
        return s.lower[first] in ("a", "an")
    if before == "from":
        return above in _VIEWED and not phrase.definite
    word = first + (s.lower[first] in ("the", "a", "an"))
    return before in _TITLES and s.words[word].text[0].isupper()


def _after_of(s: Sentence, nouns: NounFinder, head: int) -> Iterator[int]:
    """What is only mentioned in "the size of a car", "a statue of a horse", "a bed of flowers", "a can of Red Bull"."""
    first, phrase = nouns.first[head], nouns.at[head]
    picture = _picture_in(s, first, head)
    if picture >= 0:
        if _is_located(s, picture):
            yield from _below(s, nouns, head)
        return
    above = s.lower[first - 2] if first > 1 else ""
    if above.removesuffix("s") in _DEPICTIONS or above in _DEPICTIONS:
        yield from _below(s, nouns, head)
    elif (
        (above in _LIKENESSES and not phrase.definite)
        or above in ("game", "match", "made")
        or _is_brand(s, first, head)
    ):
        yield head
    elif first - 2 in nouns.at and _is_idiom(above, phrase):
        yield first - 2


def _is_idiom(word: str, phrase: NounPhrase) -> bool:
    """Whether a noun before "of" names no such thing: "a bed of flowers", "the train of her dress", "a sea of umbrellas"."""
    if word in _FIGURATIVE:
        return phrase.plural and not phrase.definite
    if word.removesuffix("s") == "bed":
        return not phrase.definite or phrase.name in _LOADED
    return word == "train" and phrase.name in _GARMENTS


def _below(s: Sentence, nouns: NounFinder, head: int) -> Iterator[int]:
    """A depicted phrase and the indefinite ones that describe it: "a statue of a man on a horse"."""
    yield head
    below = set(s.subtree(head))
    yield from (h for h in nouns.order if h in below and not nouns.at[h].definite and nouns.at[h].name not in SETTINGS)


def _picture_in(s: Sentence, first: int, head: int) -> int:
    """Index of "picture" in a phrase such as "a picture of a dog"; -1 if there is none."""
    return next((i for i in range(first, head - 1) if s.lower[i] in _PICTURES and s.lower[i + 1] == "of"), -1)


def _is_located(s: Sentence, picture: int) -> bool:
    """Whether a picture is a thing in the image: it hangs somewhere, or something has it."""
    verb = s.heads[picture]
    if s.deps[picture] in ("pobj", "dobj"):
        return (
            s.lower[verb]
            in (
                "with",
                "holds",
                "holding",
                "has",
                "have",
                "on",
                "wearing",
                "carrying",
                "paints",
                "painting",
                "draws",
                "drawing",
            )
            and verb > 0
        )
    if s.deps[picture] not in ("nsubj", "nsubjpass"):
        return False
    return s.lower[verb] in _HUNG or s.lower[verb] in ("is", "are")


def _is_brand(s: Sentence, first: int, head: int) -> bool:
    """Whether a phrase after "of" is a name: "a can of Red Bull"."""
    plain = sum(w.text.islower() and len(w.text) > 3 for w in s.words)
    return head > first and plain > 0 and all(s.words[i].text[0].isupper() for i in range(first, head + 1))


def _is_toy(s: Sentence, nouns: NounFinder, head: int) -> bool:
    """Whether a phrase names the figure of an animal or a person: "a stuffed bear", "a rubber duck"."""
    if nouns.at[head].name not in s.lexicon.animate:
        return False
    return any(s.lower[i] in _TOYS or s.lower[i] in _MATERIALS for i in range(nouns.first[head], head))


def _is_of_train(s: Sentence, nouns: NounFinder, head: int) -> bool:
    """Whether a phrase names the cars of a train: "a train with eight cars"."""
    before = nouns.first[head] - 2
    is_part = before >= 0 and s.lower[before + 1] in ("with", "has", "pulls", "pulling") and before in nouns.at
    return is_part and nouns.at[head].name == "car" and nouns.at[before].name.rpartition(" ")[2] in _TRAINS


def _is_played(s: Sentence, nouns: NounFinder, head: int) -> bool:
    """Whether a phrase names a sport or an instrument that is played: "playing football"."""
    name = nouns.at[head].name
    is_object = s.deps[head] == "dobj" and s.lower[s.heads[head]] in _PLAYS
    return is_object and ((name in _SPORTS and nouns.first[head] == head) or name == "keyboard")


def _is_print(s: Sentence, nouns: NounFinder, head: int) -> bool:
    """Whether a phrase names what is printed on something: "a tie with elephants on it"."""
    first = nouns.first[head]
    if first < 2 or s.lower[first - 1] != "with" or first - 2 not in nouns.at:
        return False
    on = " ".join(s.lower[head + 1 : head + 4])
    return nouns.at[first - 2].name.rpartition(" ")[2] in _PRINTED and on.startswith(tuple(_PAIRS_OF_PARTS))


def _is_said_of_figure(s: Sentence, nouns: NounFinder, head: int) -> bool:
    """Whether a phrase tells what a figure shows, or what is played: "the logo is a horse", "the toy is a train"."""
    verb = s.heads[head]
    if s.deps[head] != "attr" or s.lower[verb] != "is":
        return False
    subjects = {s.lower[c] for c in s.with_dep(verb, "nsubj")}
    return not subjects.isdisjoint(_FIGURES)


def _depicts(s: Sentence, nouns: NounFinder, verb: int) -> bool:
    """Whether the noun before a verb shows pictures: "a poster showing a dog", "a mural that depicts a horse"."""
    before = verb - 1 - (verb > 0 and s.lower[verb - 1] in ("that", "which"))
    shown = (nouns.at[i].name.rpartition(" ")[2] for i in (before, *s.with_dep(verb, "nsubj")) if i in nouns.at)
    return not (_DEPICTIONS | _SCREENS).difference(_PICTURES).isdisjoint(shown)


def _is_outside(s: Sentence) -> bool:
    """Whether a sentence is about what the image does not show: "just out of frame, there is a car"."""
    for i in range(len(s) - 1):
        if s.lower[i] not in _OUTSIDE or (s.lower[i] == "of" and s.lower[i - 1 : i] not in (["out"], ["outside"])):
            continue
        noun = i + 1 + (s.lower[i + 1] == "the")
        if noun < len(s) and s.lower[noun] in _FRAMES and s.lower[noun + 1 : noun + 2] != ["of"]:
            before = s.lower[max(0, i - 3) : i]
            return _IN_PART.isdisjoint(before) and _LOOKING.isdisjoint(before)
    return False


def _generic(s: Sentence, nouns: NounFinder) -> set[int]:
    """Subject and predicate of a sentence about a kind: "dogs are loyal animals"."""
    if not nouns.order or nouns.order[0] != 0 or not (nouns.at[0].plural and nouns.at[0].bare):
        return set()
    verb = s.heads[0]
    if s.lower[verb] in _KNOWN or not _KNOWN.isdisjoint(s.lower[c] for c in s.with_dep(verb, "acomp")):
        return set(nouns.order)  # "elephants are known for their trunks"
    if s.lower[verb] != "are" or s.deps[0] != "nsubj":
        return set()
    kinds = [c for c in s.with_dep(verb, "attr") if c in nouns.at and s.tags[c] == "NNS" and not nouns.at[c].definite]
    return {0, *kinds} if kinds else set()
