"""How nouns of claims relate to the classes of a detector: a poodle is a dog, a dog is an animal.

The relations come from WordNet 3.0. `nouns.json` is a part of it, derived by `jobs/assets/noun_hierarchy.py`. A noun or class
that is not in it is related to itself only.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_FAMILY_STEPS = 2
"""A detector may confuse classes that share a broader noun at most this many steps above them, as car and truck do."""


@dataclass(frozen=True)
class NounHierarchy:
    """Broader and narrower nouns.

    Attributes:
        broader: node with the next broader nodes. A node stands for one meaning.
        narrower: node with the next narrower nodes.
        node: noun with its node, where the two have different names ("sofa", "couch").
        class_node: class of a COCO detector with its node; names of classes have one meaning only ("mouse").
    """

    broader: dict[str, list[str]]
    narrower: dict[str, list[str]]
    node: dict[str, str]
    class_node: dict[str, str]
    _above: dict[str, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)

    def includes(self, noun: str, class_name: str) -> bool:
        """Whether each object of a class is one that the noun describes: "vehicle" includes the class "car"."""
        return noun == class_name or self._of_noun(noun) in self._ancestors(self._of_class(class_name))

    def is_same(self, noun: str, class_name: str) -> bool:
        """Whether a noun and a class have the same meaning ("cellphone" and the class "cell phone")."""
        return noun == class_name or self._of_noun(noun) == self._of_class(class_name)

    def may_show(self, class_name: str, noun: str) -> bool:
        """Whether a noun describes some objects of a class but not all: the class "person" may show a "man"."""
        above = self._ancestors(self._of_noun(noun))
        return not self.includes(noun, class_name) and self._of_class(class_name) in above

    def related(self, class_name: str, other: str) -> bool:
        """Whether a detector may give an object of a class the name of the other: one includes it, or is of its family."""
        a, b = self._of_class(class_name), self._of_class(other)
        return a in self._ancestors(b) or b in self._ancestors(a) or not self._family(a).isdisjoint(self._family(b))

    def is_covered(self, noun: str, classes: Collection[str]) -> bool:
        """Whether every kind that a noun includes lies in one of some classes; False for a noun without known kinds."""
        nodes, start = {self._of_class(name) for name in classes}, self._of_noun(noun)
        pending, seen = [start] if self.narrower.get(start) else [], set()
        if not pending:
            return False
        while pending:
            node = pending.pop()
            if node in seen or node in nodes:
                continue
            seen.add(node)
            if not self.narrower.get(node):
                return False
            pending += self.narrower[node]
        return True

    def broader_nouns(self, classes: Collection[str]) -> dict[str, frozenset[str]]:
        """Nouns that include several of some classes, each with these; of nouns that include the same ones only the first."""
        nodes = sorted({node for name in classes for node in self._ancestors(self._of_class(name))})
        by_classes: dict[frozenset[str], str] = {}
        for node in nodes:
            by_classes.setdefault(frozenset(name for name in classes if self.includes(node, name)), node)
        return {node: names for names, node in by_classes.items() if len(names) > 1}

    def _of_noun(self, noun: str) -> str:
        return self.node.get(noun, noun)

    def _of_class(self, name: str) -> str:
        key = name.lower()
        return self.class_node.get(key, self._of_noun(key))

    def _ancestors(self, node: str) -> frozenset[str]:
        """A node and all broader ones."""
        known = self._above.get(node)
        if known is None:
            found, pending = {node}, [node]
            while pending:
                new = set(self.broader.get(pending.pop(), ())) - found
                found |= new
                pending += new
            known = self._above[node] = frozenset(found)
        return known

    def _family(self, node: str) -> set[str]:
        """Broader nodes up to `_FAMILY_STEPS` above a node."""
        family, level = set(), {node}
        for _ in range(_FAMILY_STEPS):
            level = {broad for node in level for broad in self.broader.get(node, ())}
            family |= level
        return family


@cache
def noun_hierarchy() -> NounHierarchy:
    """The shipped hierarchy, read at first use."""
    content: dict[str, Any] = json.loads(Path(__file__).with_name("nouns.json").read_text("utf-8"))
    narrower: dict[str, list[str]] = content["narrower"]
    synonyms: dict[str, list[str]] = content["synonyms"]
    return NounHierarchy(_inverted(narrower.items()), narrower, {
        noun: nodes[0] for noun, nodes in _inverted(synonyms.items()).items()
    }, content["classes"])  # fmt: skip


def _inverted(groups: Iterable[tuple[str, list[str]]]) -> dict[str, list[str]]:
    inverted: dict[str, list[str]] = {}
    for name, members in groups:
        for member in members:
            inverted.setdefault(member, []).append(name)
    return inverted
