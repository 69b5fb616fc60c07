"""Relations between objects ("left of the dog"), places in the image ("on the left") and other prepositions."""

from vlrm_ray.claims.clause import FrontedPlace
from vlrm_ray.claims.function_words import IMAGE_NOUNS, IMAGE_REGIONS, REGION_NOUNS
from vlrm_ray.claims.handlers.written_text import handle_carrier
from vlrm_ray.claims.reader_state import ReaderState

PLACE_STARTS = frozenset({"on", "in", "at", "to", "toward", "towards", "from", "near", "the"})
"""First words of a place in the image."""
_NEED_ARTICLE = frozenset({"top", "bottom", "front", "back", "far"})
_RELATION_TO_OBJECT = {"left_of": "left_of", "right_of": "right_of", "above": "on", "in_middle": "in"}
"""Relation to the image, with the relation to an object that the same words state: "at the top of the shelf" is "on"."""


def handle_relation(state: ReaderState, i: int) -> int:
    """A preposition that relates what was named before to the noun phrase that follows."""
    clause, token = state.clause, state.tokens[i]
    if clause.written_text is not None:
        return handle_carrier(state, i)
    if token.entry.value == "around" and state.tokens[i + 1].entry.kind == "number":
        return i + 1
    if token.entry.value == "in" and _is_color_alone(state, i + 1):  # "a circle in red"
        return i + 1
    after_ing = i > 0 and state.tokens[i - 1].entry.kind == "verb" and state.tokens[i - 1].text.endswith("ing")
    if token.entry.value == "at" and (clause.introduced_by == "verb" or after_ing):  # "swinging at"
        return handle_preposition(state, i)
    subjects = clause.relation_subjects()
    if clause.introduced_by == "verb" and subjects and subjects == clause.subjects:
        clause.relation = None  # "looks at", "extends into" do not tell where the subject is
    else:
        clause.relation = clause.new_relation(token.entry.value, subjects, token.start, token.end)
    clause.introduced_by, clause.conjunction = "relation", ""
    return i + 1


def _is_color_alone(state: ReaderState, i: int) -> bool:
    """Whether a token is a color that no noun follows."""
    entry, following = state.tokens[i].entry, state.tokens[min(i + 1, len(state.tokens) - 1)].entry
    return entry.attribute in state.lexicon.colors and following.kind not in ("content", "word", "uncheckable")


def handle_preposition(state: ReaderState, i: int) -> int:
    """A preposition that states no relation."""
    clause = state.clause
    clause.introduced_by, clause.relation, clause.conjunction = "with", None, ""
    return i + 1


def handle_of(state: ReaderState, i: int) -> int:
    """ "Of": what follows describes the latest noun phrase."""
    clause = state.clause
    if clause.latest:
        clause.introduced_by, clause.conjunction = "of", ""
    return i + 1


def handle_place(state: ReaderState, i: int) -> int | None:
    """A region of the image ("on the left side of the image") or of an object ("to the left of the dog").

    Call it at one of `PLACE_STARTS`.

    Returns:
        The next index, or None if no such phrase starts at this token.
    """
    tokens = state.tokens
    first = tokens[i].text.lower()
    article_index = i + (first != "the")
    has_article = tokens[article_index].text.lower() == "the"
    region = article_index + has_article
    if not has_article and i and first == "to" and tokens[i - 1].text.lower() in IMAGE_REGIONS:
        return _read_regions(state, region)[1]  # "from left to right"
    if tokens[region].text.lower() in IMAGE_NOUNS and tokens[region + 1].entry.kind == "genitive":
        region += 2
    relations, next_index, has_of = _read_regions(state, region)
    if not relations or (not has_article and (first == "from" or tokens[region].text.lower() in _NEED_ARTICLE)):
        return None
    if tokens[next_index].entry.kind in ("content", "word") and not has_of:
        return None
    if has_of or tokens[next_index].entry.kind == "of":
        return _handle_region_of(state, i, next_index + (not has_of), relations)
    _add_place(state, i, next_index, relations)
    return next_index


def _read_regions(state: ReaderState, i: int) -> tuple[list[str], int, bool]:
    """Read words such as "upper", "left-hand" and "side".

    Returns:
        The relations to the image that they state, the next index, and whether they include an "of".
    """
    relations: list[str] = []
    while True:
        text = state.tokens[i].text.lower()
        has_of = text in ("left of", "right of")
        parts = text.removesuffix(" of").split("-")
        if text in IMAGE_REGIONS:
            relations.append(IMAGE_REGIONS[text])
        elif all(p in IMAGE_REGIONS for p in parts):
            relations += [IMAGE_REGIONS[p] for p in parts]
        elif not (text in REGION_NOUNS and relations):
            return relations, i, False
        i += 1
        if has_of:
            return relations, i, True


def _handle_region_of(state: ReaderState, first: int, i: int, relations: list[str]) -> int:
    """Handle what follows "of": the image itself, or an object that is then the second noun of a relation."""
    tokens, clause = state.tokens, state.clause
    noun = i + (tokens[i].entry.kind == "determiner")
    if tokens[noun].text.lower() in IMAGE_NOUNS:
        _add_place(state, first, noun + 1, relations)
        return noun + 1
    value = _RELATION_TO_OBJECT.get(relations[0], "") if len(relations) == 1 else ""
    start, end = tokens[first].start, tokens[i - 1].end
    clause.relation = clause.new_relation(value, clause.relation_subjects(), start, end) if value else None
    clause.introduced_by, clause.conjunction = "relation", ""
    return i


def _add_place(state: ReaderState, first: int, next_index: int, relations: list[str]) -> None:
    """Add the relations to the image for the subjects, or keep them as fronted places if no subject was read yet."""
    clause = state.clause
    start, end = state.tokens[first].start, state.tokens[next_index - 1].end
    subjects = clause.relation_subjects()
    for value in filter(None, dict.fromkeys(relations)):
        if not subjects:
            clause.fronted_places.append(FrontedPlace(value, None, start, end, bool(clause.hedge)))
        relation = clause.new_relation(value, [], start, end)
        for subject in subjects:
            if not subject.negated:
                state.add_relation(subject, relation, None)
    clause.conjunction = ""
