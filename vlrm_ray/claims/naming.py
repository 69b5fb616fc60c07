"""Noun phrases and the part they play in a clause, and the verbs that part them."""

from dataclasses import replace

from vlrm_ray.claims.clause import Link
from vlrm_ray.claims.phrases import Phrase
from vlrm_ray.claims.saying import Saying, around
from vlrm_ray.types import ClaimType


class Naming(Saying):
    """Reads what names things."""

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
        if before == "genitive":
            return True
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
        if clause.link is not None and clause.link.value == "wearing" and phrase.name == "glass":
            phrase.name = "glasses"
        nor = clause.joint == "or" and bool(clause.near) and clause.near[-1].negated
        denied = (clause.denied and not phrase.definite) or clause.without or nor
        phrase.negated = phrase.negated or denied
        phrase.hedged = bool(clause.hedge) and not phrase.definite
        silent = clause.link is not None and not phrase.definite and clause.link.denies
        if not silent:
            self.found.presence(phrase)
        if not phrase.negated:
            self.mentions.append(phrase)
        self._place_in_clause(phrase)
        clause.joint = ""

    def _place_in_clause(self, phrase: Phrase) -> None:
        clause = self.clause
        check_expert = self.tokens[phrase.after].entry.kind == "genitive"
        if clause.link is not None:
            self._relate(clause.link, phrase)
            if not check_expert:
                clause.last, clause.link = clause.link, None
        elif not clause.root:
            clause.near = clause.root = [] if check_expert else [phrase]
            if not check_expert:
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
                    ClaimType.COUNT, holder.noun, around((holder.start, holder.end), (token.start, token.end)),
                    token.entry.value,
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

    def _predicate(self) -> None:
        """A verb follows: it speaks of the subjects."""
        clause = self.clause
        if clause.root:
            clause.near = clause.root
            clause.verb = True
        clause.joint, clause.link = "", None

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
