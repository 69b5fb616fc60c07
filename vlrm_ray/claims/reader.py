"""Reads a response token by token, as a person does: who is spoken of, and what is said of it.

Each kind of token has a method `_<kind>` that takes the index of the token and returns the index of
the next one. Between them they keep a `Clause`: its subjects, the things named last, and a relation
that waits for its second noun.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vlrm_ray.claims.clause import Clause, Found, Front, Link, Words
from vlrm_ray.claims.grammar import PICTURE, PLACES, SIDES, Kind
from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.phrases import Phrase, PhraseReader
from vlrm_ray.claims.tokens import Token
from vlrm_ray.types import ClaimType, Noun

_PLACE_STARTS = frozenset({"on", "in", "at", "to", "toward", "towards", "from", "near", "the"})
_NEED_ARTICLE = frozenset({"top", "bottom", "front", "back", "far"})
_WITHIN = {"left_of": "left_of", "right_of": "right_of", "above": "on", "in_middle": "in"}
_SPOKEN = frozenset({"be", "link", "state", "verb", "says", "hedge"})


class Reader:
    """Reads one response; `about` is what an answer speaks of before it has named anything."""

    def __init__(self, words: Lexicon, phrases: PhraseReader, about: Sequence[Phrase] = ()) -> None:
        self.words, self.phrases, self.found = words, phrases, Found()
        self.mentions: list[Phrase] = []
        self.clause = Clause()
        self.turn_to(about)
        self.tokens: Sequence[Token] = ()
        self.contrasts = False
        self.steps: dict[Kind, Callable[[int], int]] = {
            "be": self._be, "not": self._not, "hedge": self._hedge, "state": self._state, "link": self._link,
            "verb": self._verb, "says": self._says, "written": self._written, "there": self._there,
            "pronoun": self._pronoun, "relative": self._relative, "relation": self._relation, "of": self._of,
            "preposition": self._preposition, "and": self._and, "or": self._and, "but": self._but, "comma": self._comma,
            "break": self._break, "colon": self._colon, "open": self._open, "close": self._comma, "quote": self._quote,
            "more": self._more, "none": self._none, "number": self._number, "skip": self._skip, "genitive": self._skip,
            "end": self._skip,
        }  # fmt: skip

    def turn_to(self, about: Sequence[Phrase]) -> None:
        """A question was asked: the next sentence may speak of its subject without naming it."""
        self.mentions += about
        if about:
            self.clause = Clause(root=list(about), near=list(about), via="be", verb=True, asked=True)

    def sentence(self, tokens: Sequence[Token]) -> None:
        """Read a sentence; the first one may go on from the question."""
        self.tokens = tokens
        self.contrasts = any(t.text.lower() in ("other", "others", "the other", "another") for t in tokens)
        at, last = 0, len(tokens) - 1
        while at < last:
            at = self._place(at) or self.steps.get(tokens[at].entry.kind, self._noun)(at)
        self._finish()
        self.clause = Clause()

    # --- noun phrases -------------------------------------------------------------------------

    def _noun(self, at: int) -> int:
        clause = self.clause
        loose = clause.link is not None or clause.via in ("of", "with") or self._stands_alone(at)
        phrase = self.phrases.read(self.tokens, at, loose=loose)
        if phrase is None:
            return self._attribute(at)
        if phrase.bare and clause.via == "be" and not clause.there and self.tokens[at].entry.attribute:
            return self._attribute(at)  # "is orange", "made of glass"
        if not phrase.name:
            return self._unseen(phrase)
        if self.contrasts and phrase.number == 1:  # "one dog is brown and the other is white"
            phrase.number = None
        if (
            clause.via == "of"
            and phrase.bare
            and self.tokens[at].entry.kind == "word"
            and self.tokens[at].text[0].isupper()
        ):
            self._say_attribute(clause.near[-1:], self.tokens[at].text, self.tokens[at].start, self.tokens[at].end)
            return phrase.after  # "a can of Coca-Cola"
        self._take(phrase)
        return phrase.after

    def _stands_alone(self, at: int) -> bool:
        """Whether a word is an item of a list: nothing but commas and line ends around it."""
        if self.tokens[at].entry.kind != "word":
            return False
        before = self.tokens[at - 1].entry.kind if at else "end"
        after = next((t.entry.kind for t in self.tokens[at : at + 8] if t.entry.kind not in ("word", "content")), "end")
        return (
            self.clause.via != "be"
            and before in ("end", "comma", "and", "colon")
            and after in ("end", "comma", "and", "open", "colon")
        )

    def _unseen(self, phrase: Phrase) -> int:
        """A phrase about nothing that can be looked for may still say a colour: "is a light blue color"."""
        clause = self.clause
        for value in phrase.attributes if clause.via in ("be", "with") and not clause.there else ():
            self._say_attribute(clause.root if clause.verb else clause.near, value, phrase.start, phrase.end)
        clause.link = None
        return phrase.after

    def _take(self, phrase: Phrase) -> None:
        """Give a phrase its part in the clause, and say what it says."""
        if (self.clause.joint or self.clause.asked) and self.clause.root and self._starts_clause(phrase.after):
            self._renew()
        clause = self.clause
        nor = clause.joint == "or" and bool(clause.near) and clause.near[-1].negated
        denied = (clause.denied and not phrase.definite) or clause.without or nor
        phrase.negated = phrase.negated or denied
        phrase.hedged = bool(clause.hedge) and not phrase.definite
        silent = clause.link is not None and clause.link.negated and not phrase.definite
        if not silent:
            self.found.presence(phrase)
        if not phrase.negated:
            self.mentions.append(phrase)
        self._place_in_clause(phrase)
        clause.joint = ""

    def _place_in_clause(self, phrase: Phrase) -> None:
        clause = self.clause
        owned = self.tokens[phrase.after].entry.kind == "genitive"
        if clause.link is not None:
            self._relate(clause.link, phrase)
            if not owned:
                clause.last, clause.link = clause.link, None
        elif not clause.root:
            clause.near = clause.root = [] if owned else [phrase]
            if not owned:
                clause.via = ""
                self._apply_fronts(phrase)
        elif clause.joint in ("and", "or", "comma"):
            self._coordinate(phrase)
        else:
            clause.near, clause.listed = [phrase], False
            if clause.via == "be":
                clause.via = ""

    def _coordinate(self, phrase: Phrase) -> None:
        """One more of the things named last: of the subjects, or of a relation's second nouns."""
        clause = self.clause
        clause.listed = clause.listed or clause.joint == "comma"
        if clause.hedge == "adverbs" and clause.joint == "comma":  # "a man, perhaps a tourist,"
            clause.near = [phrase]
            return
        if clause.via in ("relation", "link") and clause.last is not None:
            if not self._shares(clause.last, phrase):
                clause.near, clause.via = [phrase], ""
                return
            before = clause.near
            self._relate(replace(clause.last), phrase)
            clause.near = [*before, phrase]
            return
        if clause.near is clause.root or clause.via in ("", "verb", "of"):
            group = clause.root if not clause.verb or clause.there else clause.near
            group.append(phrase)
            clause.near, clause.via = group, ""
            if group is clause.root:
                self._apply_fronts(phrase)
            return
        clause.near = [*clause.near, phrase]

    def _shares(self, link: Link, phrase: Phrase) -> bool:
        """Whether a relation goes on to a coordinated noun: "between the book and the cup"."""
        listed = self.clause.listed and self.clause.joint == "comma"
        if self.tokens[phrase.after].entry.kind in ("link", "state", "relation"):
            return False
        if self.clause.via == "link" or link.value == "between":
            return True
        return not listed and self.clause.verb and not self.clause.there

    def _starts_clause(self, after: int) -> bool:
        """Whether the phrase before `after` is the subject of a verb that follows."""
        if not (self.clause.verb or self.clause.there or self.clause.last):
            return False
        token = self.tokens[after]
        kind = token.entry.kind
        if kind in ("be", "hedge", "says"):
            return True
        if kind in ("verb", "link", "state"):
            return not token.text.lower().endswith(("ing", "ed", "seen", "visible", "present"))
        return False

    def _renew(self) -> None:
        """Begin a clause: nothing is denied or hedged any more."""
        self._finish()
        self.clause = Clause()

    def _finish(self) -> None:
        words = self.clause.words
        if words is not None:
            self.found.say(ClaimType.TEXT, Noun("text"), (words.start, words.end), words.text)

    # --- saying -------------------------------------------------------------------------------

    def _relate(self, link: Link, phrase: Phrase) -> None:
        if not link.holders:
            if link.value:
                self.clause.fronts.append(Front(link.value, phrase, link.start, link.hedged))
            self.clause.near, self.clause.via = [phrase], "relation"
            return
        for holder in link.holders:
            if holder.negated or holder is phrase or (phrase.negated and not link.negated):
                continue
            self._say_relation(holder, link, phrase)
        if phrase.negated or link.negated:
            phrase.negated = phrase.negated or not phrase.definite
        self.clause.near = [phrase]
        self.clause.via = "link" if self.clause.via == "link" else "relation"

    def _say_relation(self, holder: Phrase, link: Link | Front, phrase: Phrase | None) -> None:
        ends = (holder.end, phrase.end) if phrase else (holder.end, link.start)
        starts = (holder.start, link.start, phrase.start) if phrase else (holder.start, link.start)
        start = min(starts)
        self.found.say(
            ClaimType.RELATION, holder.noun, (start, max(ends)), link.value, phrase.noun if phrase else None,
            negated=isinstance(link, Link) and link.negated, hedged=link.hedged,
        )  # fmt: skip

    def _say_attribute(self, holders: Sequence[Phrase], value: str, start: int, end: int) -> None:
        for holder in holders:
            if not holder.negated:
                span = (min(holder.start, start), max(holder.end, end))
                if holder not in self.mentions[-8:]:
                    span = (start, end)
                self.found.say(
                    ClaimType.ATTRIBUTE, Noun(holder.name), span, value,
                    negated=self.clause.denied, hedged=bool(self.clause.hedge),
                )  # fmt: skip

    def _say_words(self, holders: Sequence[Phrase], text: str, start: int, end: int) -> None:
        for holder in holders[-1:]:
            span = (min(holder.start, start), max(holder.end, end))
            self.found.say(
                ClaimType.TEXT, Noun(holder.name), span, text,
                negated=self.clause.denied or holder.negated, hedged=bool(self.clause.hedge),
            )  # fmt: skip

    def _apply_fronts(self, phrase: Phrase) -> None:
        clause = self.clause
        for front in clause.fronts:
            if not phrase.negated:
                self._say_relation(phrase, replace(front, hedged=front.hedged or bool(clause.hedge)), front.phrase)
        for value, start, end in clause.waiting:
            self._say_attribute([phrase], value, start, end)
        clause.waiting = []

    # --- verbs --------------------------------------------------------------------------------

    def _predicate(self) -> None:
        """A verb follows: it speaks of the subjects."""
        clause = self.clause
        if clause.root:
            clause.near = clause.root
            clause.verb = True
        clause.joint, clause.link = "", None

    def _be(self, at: int) -> int:
        self._predicate()
        self.clause.via = "be"
        if self.tokens[at].entry.value == "not":
            self.clause.denied = True
        return at + 1

    def _not(self, at: int) -> int:
        self.clause.denied = True
        return at + 1

    def _none(self, at: int) -> int:
        """`no` opens a phrase; "without" denies the next one; "nobody" is one."""
        token = self.tokens[at]
        if token.entry.value == "determiner":
            return self._noun(at)
        if token.entry.value == "others":  # "no other people" leaves open who is there
            phrase = self.phrases.read(self.tokens, at + 1)
            return phrase.after if phrase else at + 1
        if token.entry.value == "nobody":
            self._take(Phrase("person", token.start, token.end, at + 1, negated=True))
            return at + 1
        self.clause.without, self.clause.via = True, "with"
        following = self.phrases.read(self.tokens, at + 1, loose=True)
        if following is not None and following.name:
            self._take(following)
            at = following.after - 1
        self.clause.without = False
        return at + 1

    def _hedge(self, at: int) -> int:
        self.clause.hedge = self.tokens[at].entry.value
        if self.clause.hedge == "verbs" and self.clause.root:
            self._predicate()
            self.clause.via = "be"
        return at + 1

    def _state(self, at: int) -> int:
        clause, token = self.clause, self.tokens[at]
        if token.entry.noun and clause.via in ("of", "with") and clause.near is not clause.root:
            return self._noun(at)
        finite = token.entry.value == "finite"
        doers = clause.doers(finite=finite)
        if not clause.root and (not doers or (finite and clause.fronts)):
            if self.tokens[at + 1].entry.kind in ("content", "word", "unseen") and not clause.fronts:
                return self._noun(at)  # "parked cars"
            clause.waiting.append((token.entry.attribute, token.start, token.end))
            clause.via, clause.there = "be", True
            return at + 1
        placed = token.text.lower() in ("sit", "sits")  # a vase that "sits" on a shelf has no posture
        sitting = [d for d in doers if not placed or self._animate(d)]
        self._say_attribute(sitting, token.entry.attribute, token.start, token.end)
        clause.near, clause.via, clause.joint, clause.link = doers, "be", "", None
        clause.verb = clause.verb or finite
        return at + 1

    def _link(self, at: int) -> int:
        clause, token = self.clause, self.tokens[at]
        finite = token.entry.attribute == "finite"
        doers = clause.doers(finite=finite)
        if token.entry.value == "holding":  # a shelf that "holds" books is no hand
            doers = [d for d in doers if self._animate(d)]
        clause.link = Link(token.entry.value, doers, token.start, clause.denied, bool(clause.hedge)) if doers else None
        clause.via, clause.joint = "link", ""
        clause.verb = clause.verb or finite
        return at + 1

    def _animate(self, phrase: Phrase) -> bool:
        """Whether a phrase may name a person or an animal; unknown nouns may."""
        entry = self.words.entries.get(phrase.name)
        return phrase.name in self.words.animate or entry is None

    def _verb(self, at: int) -> int:
        clause = self.clause
        if self.tokens[at].text.lower().endswith(("ing", "ed", "seen", "made")):
            clause.link, clause.via = None, clause.via if clause.via == "be" else ""
            return at + 1
        self._predicate()
        clause.via = "verb"
        if clause.root:
            clause.there = False
        return at + 1

    def _there(self, at: int) -> int:
        if self.tokens[at + 1].entry.kind not in ("be", "hedge", "verb", "not"):
            return at + 1
        before = self.clause
        if before.root:
            self._renew()
            if before.hedge == "verbs" and not before.verb:
                self.clause.hedge = before.hedge
        self.clause.there, self.clause.joint = True, ""
        return at + 1

    def _says(self, at: int) -> int:
        text, after = self._words_at(at + 1)
        if not text:
            return self._verb(at)
        token = self.tokens[at]
        clause = self.clause
        near = token.text.lower().endswith(("ing", "ed")) or " " in token.text
        holders = clause.near[-1:] if near and not clause.via == "be" else clause.root or clause.near
        self._say_words(holders, text, token.start, self.tokens[after - 1].end)
        return self._pass_manner(after)

    def _written(self, at: int) -> int:
        """ "the word OPEN": on what was named before, or on what is named next."""
        text, after = self._words_at(at + 1)
        clause, token = self.clause, self.tokens[at]
        if not text:
            return at + 2 if self.tokens[at + 1].entry.kind == "of" else self._written_thing(at)
        end = self.tokens[after - 1].end
        holders = clause.root if clause.via == "verb" else clause.near[-1:]
        if holders:
            self._say_words(holders, text, token.start, end)
        else:
            clause.words = Words(text, token.start, end)
        return self._pass_manner(after)

    def _written_thing(self, at: int) -> int:
        """ "a number", "the text": a thing like others where no words follow."""
        token = self.tokens[at]
        name = token.text.lower().split()[-1]
        if name in ("text", "number", "letter", "letters", "words"):
            self._take(Phrase(self.words.canonical(name.removesuffix("s")), token.start, token.end, at + 1))
        return at + 1

    def _words_at(self, at: int) -> tuple[str, int]:
        """Quoted words, words in capitals or digits that begin here, past "the words" and the like."""
        tokens = self.tokens
        while tokens[at].entry.kind in ("determiner", "written", "colon", "skip") or tokens[at].text == "text":
            at += 1
        if tokens[at].entry.kind == "quote":
            return tokens[at].text.strip(), at + 1
        first = at
        while tokens[at].text and (tokens[at].text.isupper() or tokens[at].text[0].isdigit()):
            at += 1
        return " ".join(t.text for t in tokens[first:at]), at

    def _pass_manner(self, at: int) -> int:
        """Step over the relation in "in white letters", "on its roof": it is the words that are there."""
        self.clause.joint = ""
        if self.tokens[at].entry.kind == "verb":
            at += 1
        if self.tokens[at].entry.kind == "relation":
            self.clause.via = "with"
            return at + 1
        return at

    def _quote(self, at: int) -> int:
        token, clause = self.tokens[at], self.clause
        if (clause.via == "with" or (clause.via == "be" and not clause.root)) and clause.near:
            self._say_words(clause.near, token.text, token.start, token.end)
            return self._pass_manner(at + 1)
        elif not clause.root and self.tokens[at + 1].entry.kind in ("be", "verb"):
            clause.words = Words(token.text, token.start, token.end)
        return at + 1

    # --- relations and places -----------------------------------------------------------------

    def _relation(self, at: int) -> int:
        clause, token = self.clause, self.tokens[at]
        if clause.words is not None:
            return self._carrier(at)
        if token.entry.value == "around" and self.tokens[at + 1].entry.kind == "number":
            return at + 1
        if token.entry.value == "at" and clause.via == "verb":
            return self._preposition(at)
        holders = clause.holders() if clause.root or clause.near else []
        clause.link = Link(token.entry.value, list(holders), token.start, clause.denied, bool(clause.hedge))
        if clause.via == "verb" and holders and holders == clause.root:
            clause.link = None  # "looks at", "extends into": not where it is
        clause.via, clause.joint = "relation", ""
        return at + 1

    def _carrier(self, at: int) -> int:
        """ "The word OPEN is written on the door": the door carries the words."""
        clause = self.clause
        words, clause.words = clause.words, None
        assert words is not None
        phrase = self.phrases.read(self.tokens, at + 1, loose=True)
        if phrase is None or not phrase.name:
            clause.words = words
            return at + 1
        self._take(phrase)
        self._say_words([phrase], words.text, words.start, words.end)
        return phrase.after

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
            clause.link = Link(value, list(holders), self.tokens[start].start, clause.denied, bool(clause.hedge))
        clause.via, clause.joint = "relation", ""
        return at

    def _say_place(self, start: int, after: int, hits: list[str]) -> None:
        clause = self.clause
        begin, end = self.tokens[start].start, self.tokens[after - 1].end
        for value in filter(None, dict.fromkeys(hits)):
            link = Link(value, [], begin, clause.denied, bool(clause.hedge))
            holders = clause.holders() if clause.root or clause.near else []
            if not holders:
                clause.fronts.append(Front(value, None, end, bool(clause.hedge)))
            for holder in holders:
                if not holder.negated:
                    self._say_relation(holder, replace(link, start=end), None)
        clause.joint = ""

    # --- pronouns, connectives, the rest ------------------------------------------------------

    def _pronoun(self, at: int) -> int:
        clause = self.clause
        pronoun = self.tokens[at].entry.value
        meant = self._meant(pronoun, clause.link.holders if clause.link else [])
        if clause.link is not None and meant:
            link, clause.link = clause.link, None
            for phrase in meant:
                if pronoun == "each other":
                    link.holders = link.holders[:1]
                self._relate(replace(link), replace(phrase, start=self.tokens[at].start, end=self.tokens[at].end))
            clause.last = link
        elif not clause.root or clause.joint or self.tokens[at + 1].entry.kind in _SPOKEN:
            self._renew()
            if not meant:  # someone who was not named: nothing can be said of them
                meant = [Phrase("", self.tokens[at].start, self.tokens[at].end, negated=True)]
            self.clause.root = self.clause.near = meant
            self.clause.fronts, self.clause.hedge = clause.fronts, clause.hedge if not clause.root else ""
        return at + 1

    def _meant(self, pronoun: str, others: Sequence[Phrase]) -> list[Phrase]:
        """The last named thing that agrees: in number for "it" and "they", in life for "he" and "she".

        `others` are spoken of in the same breath and not meant.
        """
        if pronoun == "each other":
            return list(others[1:2])
        told = [p for p in reversed(self.mentions) if not any(p is o for o in others)]
        for phrase in told:
            alive = phrase.name in self.words.animate
            if alive if pronoun == "person" else phrase.plural == (pronoun == "they"):
                return [phrase]
        return told[:1]

    def _relative(self, at: int) -> int:
        clause = self.clause
        if clause.near:
            clause.root, clause.joint = clause.near[-1:], ""
        return at + 1

    def _of(self, at: int) -> int:
        if self.clause.near:
            self.clause.via, self.clause.joint = "of", ""
        return at + 1

    def _preposition(self, at: int) -> int:
        clause = self.clause
        clause.via, clause.link, clause.joint = "with", None, ""
        return at + 1

    def _and(self, at: int) -> int:
        kind = self.tokens[at].entry.kind
        self.clause.joint = "or" if kind == "or" else "and"
        return at + 1

    def _but(self, at: int) -> int:
        clause = self.clause
        clause.joint, clause.denied, clause.hedge = "but", False, ""
        clause.near = clause.root or clause.near
        return at + 1

    def _comma(self, at: int) -> int:
        clause = self.clause
        clause.joint = clause.joint or "comma"
        if clause.hedge == "adverbs" and at and self.tokens[at - 1].entry.kind != "hedge":
            clause.hedge = ""
        return at + 1

    def _break(self, at: int) -> int:
        if self.tokens[at + 1].entry.kind in ("state", "link"):  # "while sitting": the same subject
            self.clause.joint = "and"
        else:
            self._renew()
        return at + 1

    def _colon(self, at: int) -> int:
        clause = self.clause
        clause.via, clause.joint, clause.link = ("be" if clause.near else ""), "", None
        return at + 1

    def _open(self, at: int) -> int:
        return self._colon(at)

    def _number(self, at: int) -> int:
        """A number that no noun follows: "is six", "one black"."""
        token, following, clause = self.tokens[at], self.tokens[at + 1], self.clause
        if self.phrases.read(self.tokens, at) is not None:
            return self._noun(at)
        if following.entry.attribute and clause.near:
            self._say_attribute(clause.near[-1:], following.entry.attribute, following.start, following.end)
            return at + 2
        if clause.via == "be" and clause.near and token.entry.value != "-1":
            for holder in clause.near[:1]:
                self.found.say(
                    ClaimType.COUNT, holder.noun, (min(holder.start, token.start), token.end), token.entry.value,
                    negated=clause.denied, hedged=bool(clause.hedge),
                )  # fmt: skip
        return at + 1

    def _attribute(self, at: int) -> int:
        """An adjective after "is", a colon or in brackets."""
        clause, token = self.clause, self.tokens[at]
        if token.entry.attribute and clause.via == "be" and clause.near:
            self._say_attribute(clause.near, token.entry.attribute, token.start, token.end)
        elif token.entry.kind == "word" and not token.text.lower().endswith("ly") and clause.root:
            clause.verb = True
        return at + 1

    def _more(self, at: int) -> int:
        """ "More circles than squares"."""
        tokens, token = self.tokens, self.tokens[at]
        one = self.phrases.read(tokens, at + 1)
        if one is None or not one.name:
            return at + 1
        joined = tokens[one.after]
        if joined.entry.kind == "than" or joined.text.lower() == "as":
            two = self.phrases.read(tokens, one.after + 1, loose=True)
            if two is not None and two.name:
                self.found.say(
                    ClaimType.COUNT, one.noun, (token.start, two.end), token.entry.value, two.noun,
                    negated=self.clause.denied, hedged=bool(self.clause.hedge),
                )  # fmt: skip
                return two.after
        return at + 1

    def _skip(self, at: int) -> int:
        return at + 1
