"""Relations between things, and places in the picture."""

from vlrm_ray.claims.clause import Front, Link
from vlrm_ray.claims.grammar import PICTURE, PLACES, SIDES
from vlrm_ray.claims.wording import Wording

_PLACE_STARTS = frozenset({"on", "in", "at", "to", "toward", "towards", "from", "near", "the"})
_NEED_ARTICLE = frozenset({"top", "bottom", "front", "back", "far"})
_WITHIN = {"left_of": "left_of", "right_of": "right_of", "above": "on", "in_middle": "in"}


class Placing(Wording):
    """Reads where things are."""

    def _relation(self, at: int) -> int:
        clause, token = self.clause, self.tokens[at]
        if clause.words is not None:
            return self._carrier(at)
        if token.entry.value == "around" and self.tokens[at + 1].entry.kind == "number":
            return at + 1
        aimed = at > 0 and self.tokens[at - 1].entry.kind == "verb" and self.tokens[at - 1].text.endswith("ing")
        if token.entry.value == "at" and (clause.via == "verb" or aimed):  # "swinging at"
            return self._preposition(at)
        holders = clause.holders() if clause.root or clause.near else []
        clause.link = Link(token.entry.value, list(holders), token.start, token.end, clause.denied, bool(clause.hedge))
        if clause.via == "verb" and holders and holders == clause.root:
            clause.link = None  # "looks at", "extends into": not where it is
        clause.via, clause.joint = "relation", ""
        return at + 1

    def _place(self, at: int) -> int | None:
        """A part of the picture, "on the left side of the image", or of a thing, "to the left of the dog"."""
        tokens = self.tokens
        first = tokens[at].text.lower()
        if first not in _PLACE_STARTS:
            return None
        at_article = at + (first != "the")
        article = tokens[at_article].text.lower() == "the"
        word = at_article + article
        if tokens[word].text.lower() in PICTURE and tokens[word + 1].entry.kind == "genitive":
            word += 2
        hits, after, of = self._directions(word)
        if not hits or (not article and (first == "from" or tokens[word].text.lower() in _NEED_ARTICLE)):
            return None
        if tokens[after].entry.kind in ("content", "word") and not of:
            return None
        if of or tokens[after].entry.kind == "of":
            return self._place_of(at, after + (not of), hits)
        self._say_place(at, after, hits)
        return after

    def _directions(self, at: int) -> tuple[list[str], int, bool]:
        hits: list[str] = []
        while True:
            text = self.tokens[at].text.lower()
            of = text in ("left of", "right of")
            parts = text.removesuffix(" of").split("-")
            if text in PLACES:
                hits.append(PLACES[text])
            elif all(p in PLACES for p in parts):
                hits += [PLACES[p] for p in parts]
            elif not (text in SIDES and hits):
                return hits, at, False
            at += 1
            if of:
                return hits, at, True

    def _place_of(self, start: int, at: int, hits: list[str]) -> int:
        """What follows "of": the picture itself, or a thing."""
        noun = at + (self.tokens[at].entry.kind == "determiner")
        if self.tokens[noun].text.lower() in PICTURE:
            self._say_place(start, noun + 1, hits)
            return noun + 1
        clause = self.clause
        value = _WITHIN.get(hits[0], "") if len(hits) == 1 else ""
        holders = clause.holders() if clause.root or clause.near else []
        clause.link = None
        if value:
            clause.link = Link(
                value,
                list(holders),
                self.tokens[start].start,
                self.tokens[at - 1].end,
                clause.denied,
                bool(clause.hedge),
            )
        clause.via, clause.joint = "relation", ""
        return at

    def _say_place(self, start: int, after: int, hits: list[str]) -> None:
        clause = self.clause
        begin, end = self.tokens[start].start, self.tokens[after - 1].end
        for value in filter(None, dict.fromkeys(hits)):
            link = Link(value, [], begin, end, clause.denied, bool(clause.hedge))
            holders = clause.holders() if clause.root or clause.near else []
            if not holders:
                clause.fronts.append(Front(value, None, begin, end, bool(clause.hedge)))
            for holder in holders:
                if not holder.negated:
                    self._say_relation(holder, link, None)
        clause.joint = ""

    def _of(self, at: int) -> int:
        if self.clause.near:
            self.clause.via, self.clause.joint = "of", ""
        return at + 1

    def _preposition(self, at: int) -> int:
        clause = self.clause
        clause.via, clause.link, clause.joint = "with", None, ""
        return at + 1
