"""Marks the noun phrases of a sentence that are denied or left open, before claims are made of them."""

from vlrm_ray.claims.function_words import IMAGE_NOUNS
from vlrm_ray.claims.noun_phrases import NounPhrase
from vlrm_ray.claims.parse.clauses import EXISTENCE
from vlrm_ray.claims.parse.mentions import SETTINGS, mentioned_only
from vlrm_ray.claims.parse.reading import Reading
from vlrm_ray.claims.parse.sentence import SUBJECTS

_CONTRASTS = frozenset({"other", "others", "another", "all"})
_FURTHER = frozenset({"other", "others", "another", "additional", "further", "more", "extra", "remaining", "third", "fourth", "second"})  # fmt: skip
"""Words that tell that a phrase does not count all objects of its name."""
_INEXACT_AFTER = (
    "or more",
    "or so",
    "or fewer",
    "or less",
    "or two",
    "or three",
    "or four",
    "or five",
    "at least",
    "at most",
    "give or",
    "in at",
)
_ARTICLES = frozenset({"a", "an", "the", "some", "several", "many", "another", "one"})
_NOT_ONE = ("not one", "not a single", "not even one", "not even a single")
_EVIDENCE = frozenset({"sign", "trace", "evidence", "indication", "hint", "glimpse"})
_HAVING = frozenset({"has", "have", "having", "had", "holds", "holding", "hold", "carries", "carrying", "carry", "wears", "wearing", "wear", "contains", "contain", "containing", "features", "lacks", "lack", "lacking", "missing"})  # fmt: skip
_BODY = frozenset({"eye", "ear", "nose", "mouth", "face", "head", "hair", "beard", "mustache", "hand", "arm", "leg", "foot", "finger", "tail", "wing", "horn", "paw", "neck", "knee", "shoulder", "body", "beak", "mane", "trunk", "tusk", "back", "chest", "lap"})  # fmt: skip
_CLASSES_OF_PEOPLE = frozenset({"child", "man", "woman", "kid", "boy", "girl", "lady", "person"})
_DISTRIBUTIVE = frozenset({"each", "every"})
"""Words beside which a number does not count all objects of a name: "one is red, the other blue", "each row has one"."""
_SEEN = frozenset({"visible", "present", "seen", "there", "shown", "depicted"})


def _may_add(other: NounPhrase, phrase: NounPhrase) -> bool:
    """Whether what a phrase names may be there in addition to what another one counts: "two dogs and a large dog"."""
    is_same = other is not phrase and other.name == phrase.name and set(phrase.colors) <= set(other.colors)
    return is_same and not (other.definite or other.bare or other.negated)


class PhraseMarker:
    """Marks the noun phrases of a sentence; call `mark` once."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.sentence, self.nouns, self.clauses = (
            reading,
            reading.sentence,
            reading.nouns,
            reading.clauses,
        )
        self.scope, self.claims, self.lexicon = reading.scope, reading.claims, reading.claims.lexicon

    def mark(self) -> None:
        """Mark each phrase, in the order of the text."""
        s, denied = self.sentence, set[int]()
        has_each = not _DISTRIBUTIVE.isdisjoint(s.lower)
        has_contrast = has_each or not _CONTRASTS.isdisjoint(s.lower)
        only_mentioned = mentioned_only(s, self.nouns)
        for head in self.nouns.order:
            phrase, first = self.nouns.at[head], self.nouns.first[head]
            phrase.place = self._is_place(head)
            if "no other" in " ".join(s.lower[first : head + 1]):
                self.reading.silent.add(id(phrase))
            if phrase.name == "glass" and phrase.plural and phrase.number is None and self._is_worn(head):
                phrase.name = "glasses"
            if head in self.scope.denied and s.deps[head] == "pobj":
                self.reading.excluded.add(id(phrase))
            if phrase.number is not None and has_contrast and (phrase.number == 1 or has_each):
                phrase.number = None
            if phrase.number is not None:
                self._mark_number(head, phrase)
            self._mark_negation(head, denied)
            if (phrase.negated and self._is_denied_of_owner(head)) or head in only_mentioned:
                phrase.hedged = True
            self._mark_named(head, phrase)
            if (head in self.scope.open and not phrase.definite) or (not phrase.negated and self._is_alternative(head)):
                phrase.hedged = True

    def _mark_number(self, head: int, phrase: NounPhrase) -> None:
        """Leave a number open that is no count of all objects of the phrase's name, or only an approximate one."""
        s, first = self.sentence, self.nouns.first[head]
        joined = self.nouns.conjuncts(head)[1:]
        if s.lower[first].endswith(" of the") and first != head and self._is_said_to_be_there(head):
            phrase.number = None  # "two of the four wheels are visible"
            return
        if not _FURTHER.isdisjoint(s.lower[first:head]) or (s.lower[first].startswith("both") and joined):
            phrase.number = None
            return
        others = [p.number or 1 for p in map(self.nouns.at.__getitem__, self.nouns.order) if _may_add(p, phrase)]
        is_part = bool(others) and (len(others) == 1 or sum(others) != phrase.number)
        before, inside, after = s.lower[first - 1 : first], s.lower[first:head], " ".join(s.lower[head + 1 : head + 3])
        about = before in (["around"], ["close to"], ["circa"]) and s.deps[first - 1] in ("advmod", "quantmod")
        further = [] if phrase.definite else self._bare_numbers(head)
        is_part = is_part or (bool(further) and sum(further) != phrase.number)
        phrase.approximate = (
            phrase.approximate or is_part or about or "or" in inside or after.startswith(_INEXACT_AFTER)
        )

    def _bare_numbers(self, head: int) -> list[int]:
        """Numbers without their noun after a phrase: "four chairs around the table and one near the window"."""
        s, found = self.sentence, list[int]()
        for j in range(head + 1, len(s)):
            if s.lower[j] == "another" or (found and s.lower[j] == "other"):
                found.append(1)
            elif s.entry(j).kind == "number" and s.entry(j).value.isdigit() and s.inside[j] == j and j + 1 < len(s):
                is_told_of = s.entry(j + 1).kind in ("relation", "be") or s.lower[j + 1] in ("on", "in", "to", "at")
                if is_told_of and j not in self.nouns.at and not self.reading.in_phrase(j):
                    found.append(int(s.entry(j).value))
        return found

    def _mark_named(self, head: int, phrase: NounPhrase) -> None:
        """Mark possessors, and colors that stand for a phrase without its noun, which need not name anything in the image."""
        s, first, after = self.sentence, self.nouns.first[head], head + 1
        if after < len(s) and s.entry(after).kind == "genitive":
            of_class = phrase.plural and phrase.name in _CLASSES_OF_PEOPLE
            owned = self.nouns.at.get(self.nouns.starting.get(after + 1, -1))
            has_part = owned is not None and owned.name in _BODY  # "a man's hand": he is there
            if (not phrase.definite or of_class) and not has_part:
                named = [p for p in self.nouns.at.values() if p is not phrase and p.name == phrase.name]
                phrase.hedged = True
                if any(not p.negated for p in named):
                    self.reading.silent.add(id(phrase))
        elif s.entry(head).attribute in self.lexicon.colors and head - first <= 1 and not phrase.plural:
            joined = self.nouns.conjuncts(head)[1:2]  # "an orange and a white cat", "rather than orange"
            of_color = any(self.nouns.at[h].colors for h in joined) and s.lower[first] in ("a", "an", "one")
            is_bare = first == head and head in self.scope.without
            if of_color or is_bare or self._is_one_of_colors(head) or not s.entry(head).noun:
                phrase.name = ""

    def _is_one_of_colors(self, head: int) -> bool:
        """Whether a color after "one" stands beside another one: "two cats, one black and one orange"."""
        s = self.sentence
        ones = [j + 1 for j in range(len(s) - 1) if s.lower[j] in ("one", "other")]
        return head in ones and any(s.entry(j).attribute in self.lexicon.colors for j in ones if j != head)

    def _mark_negation(self, head: int, denied: set[int]) -> None:
        """Mark a phrase that is denied; `denied` are the heads of those found so far."""
        phrase, s, first = self.nouns.at[head], self.sentence, self.nouns.first[head]
        opening = " ".join(s.lower[max(0, first - 2) : head])
        if "none of" in opening:
            self.reading.none_of.add(id(phrase))
        if "none of" in opening and self._is_said_to_be_there(head):
            self.reading.silent.add(id(phrase))
        if opening.endswith(_NOT_ONE) or opening.startswith(_NOT_ONE):
            phrase.negated, phrase.number, phrase.definite = True, None, False
        if self._is_without_evidence(head):
            phrase.negated = True
        if head in self.scope.without or (not phrase.negated and self._continues_denial(head, denied)):
            phrase.negated = True
        if phrase.negated:
            denied.add(head)
        elif head in self.scope.denied and not phrase.definite:
            self._mark_denied(head, phrase, self.nouns.first[head])
        elif not phrase.definite and self._is_denied_subject(head):
            phrase.negated = True

    def _continues_denial(self, head: int, denied: set[int]) -> bool:
        """Whether a phrase is joined to one that is denied: "no cups or plates"."""
        s, above, first = self.sentence, self.sentence.heads[head], self.nouns.first[head]
        if s.deps[head] != "conj" or above not in denied or self.nouns.at[head].definite:
            return False
        joints = {s.lower[j] for j in (*s.children(above), *range(above, head)) if s.deps[j] == "cc"}
        begins_anew = self.nouns.at[head].number is not None or s.lower[first] in _ARTICLES
        if begins_anew and joints.isdisjoint(("or", "nor")):
            return False  # "no dogs and two cats"
        return "but" not in joints and (bool(joints) or (first > 0 and s.lower[first - 1] == ","))

    def _is_place(self, head: int) -> bool:
        """Whether a phrase tells where something is, as the object of "on" or "next to"."""
        s, first = self.sentence, self._coordination(head)
        return s.deps[first] == "pobj" and s.entry(s.heads[first]).kind == "relation"

    def _is_said_to_be_there(self, head: int) -> bool:
        """Whether the verb above a phrase tells that it is seen or in the image: "none of the dogs are visible"."""
        s = self.sentence
        verb = self.clauses.governing_verb(head)
        if verb is None:
            return True
        words = {s.lower[verb], *(s.lower[c] for c in s.with_dep(verb, "acomp", "attr", "oprd", "advmod"))}
        places = {s.lower[c] for p in s.with_dep(verb, "prep") for c in s.with_dep(p, "pobj")}
        return not words.isdisjoint(_SEEN) or not places.isdisjoint(IMAGE_NOUNS)

    def _is_without_evidence(self, head: int) -> bool:
        """ "There is no clear sign of a dog"; the sign itself makes no claim."""
        s, first = self.sentence, self.nouns.first[head]
        sign = first - 2
        if sign < 0 or s.lower[first - 1] != "of" or s.lower[sign].removesuffix("s") not in _EVIDENCE:
            return False
        evidence = self.nouns.at.get(sign)
        if evidence is None or not evidence.negated:
            return False
        self.reading.silent.add(id(evidence))
        return not self.nouns.at[head].definite

    def _is_denied_of_owner(self, head: int) -> bool:
        """Whether one of the things in the image lacks what is denied: "the man has no backpack". Others may have it."""
        s, top = self.sentence, self._coordination(head)
        above = s.heads[top]
        if head + 1 < len(s) and s.entry(head + 1).kind == "relation" and s.tags[head + 1] != "RP":
            return False  # "no cups on it" denies only that one is there
        if s.deps[top] == "pobj" and top in self.scope.without and s.lower[above].startswith("without"):
            owner = s.heads[above]
            owners = [self.nouns.at[owner]] if owner in self.nouns.at else self.clauses.subjects(owner)
        elif s.deps[top] == "pobj" and s.lower[above] == "with" and above - 1 in self.nouns.at:
            owners = [self.nouns.at[above - 1]]  # "a man with no hat"
        elif s.deps[top] == "pobj" and top in self.scope.without and self._is_had(s.heads[above]):
            owners = self.clauses.subjects(s.heads[above])  # "the shelf holds books rather than plates"
        elif s.deps[top] == "dobj" and s.lower[above] in _HAVING:
            owners = self.clauses.subjects(above)
        else:
            return False
        return any(p.name and p.name not in SETTINGS for p in owners)

    def _is_had(self, verb: int) -> bool:
        """Whether a word is a verb that tells what its subject has or wears, and not what is in an image or a dish."""
        s = self.sentence
        return not s.lower[verb].startswith(("contain", "feature")) and (
            s.lower[verb] in _HAVING or s.entry(verb).kind == "relation_verb"
        )

    def _coordination(self, head: int) -> int:
        """Head of the first phrase of a coordination; the parser takes some items of a list for appositions."""
        s = self.sentence
        while s.deps[head] in ("conj", "appos") and s.heads[head] in self.nouns.at:
            head = s.heads[head]
        return head

    def _is_worn(self, head: int) -> bool:
        """Whether a person has it: "a man with glasses", "a man with a beard, glasses and a hat"."""
        s, head = self.sentence, self._coordination(head)
        above = s.heads[s.heads[head]]
        return (
            s.deps[head] == "pobj"
            and s.lower[s.heads[head]] == "with"
            and above in self.nouns.at
            and self.nouns.at[above].name in self.lexicon.animate
        )

    def _mark_denied(self, head: int, phrase: NounPhrase, first: int) -> None:
        """A phrase after "not": its existence is denied after "is", "see" and the like; otherwise nothing is said of it."""
        s = self.sentence
        if (first > 0 and s.entry(first - 1).kind == "not") or s.entry(first).kind == "not":
            phrase.negated = True
            return
        only = next((j for j in (first, first - 1) if j > 0 and s.lower[j] in ("only", "just")), 0)
        if only and s.entry(only - 1).kind in ("comma", "clause_break"):
            return  # "no dogs are shown, only birds"
        top = self._coordination(head)
        verb = s.heads[top]
        if (
            s.deps[top] in ("attr", "dobj", "nsubj", "nsubjpass", "oprd")
            and (s.lower[verb] in EXISTENCE or self.clauses.is_showing(verb))
            and s.entry(verb).kind != "relation_verb"
        ):
            phrase.negated = True
            return
        self.reading.silent.add(id(phrase))

    def _is_denied_subject(self, head: int) -> bool:
        """ "A dog is not visible"."""
        s = self.sentence
        if (
            s.deps[head] not in SUBJECTS
            or s.heads[head] < head
            or s.lower[self.nouns.first[head]] not in ("a", "an", "any")
        ):
            return False
        verb = s.heads[head]
        predicate = {s.lower[verb], *(s.lower[c] for c in s.with_dep(verb, "acomp", "attr", "oprd"))}
        return any(s.entry(c).kind == "not" for c in s.children(verb)) and not predicate.isdisjoint(_SEEN)

    def _is_alternative(self, head: int) -> bool:
        """Whether a phrase is one of several joined by "or"."""
        s = self.sentence
        if any(s.lower[c] == "or" for c in s.with_dep(head, "cc")) and any(
            c in self.nouns.at for c in s.with_dep(head, "conj")
        ):
            return True
        above = s.heads[head]
        return (
            s.deps[head] == "conj"
            and above in self.nouns.at
            and any(s.lower[c] == "or" for c in s.with_dep(above, "cc"))
        )
