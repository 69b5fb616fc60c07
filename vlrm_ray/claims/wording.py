"""Words that can be read on things."""

from vlrm_ray.claims.clause import Words
from vlrm_ray.claims.naming import Naming
from vlrm_ray.claims.phrases import Phrase


class Wording(Naming):
    """Reads which words things carry."""

    def _says(self, at: int) -> int:
        text, after = self._words_at(at + 1)
        if not text:
            return self._verb(at)
        token = self.tokens[at]
        clause = self.clause
        near = token.text.lower().endswith(("ing", "ed")) or " " in token.text
        holders = clause.near[-1:] if near and clause.via != "be" else clause.root or clause.near
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
        if not clause.root and self.tokens[at + 1].entry.kind in ("be", "verb"):
            clause.words = Words(token.text, token.start, token.end)
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
