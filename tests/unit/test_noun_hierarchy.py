"""Nouns of claims meet the classes of a detector by a hierarchy: a man is a person, a vehicle is a car or a bus or more."""

import pytest

from vlrm_ray.claims.rules import RuleExtractor
from vlrm_ray.experts.hierarchy import noun_hierarchy
from vlrm_ray.experts.reliability import Calibrations
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.types import Detection, Evidence, Finding, Verdict

S, C, U = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNVERIFIABLE
NOUNS, EXTRACTOR = noun_hierarchy(), RuleExtractor()
VERIFIER = Verifier(Calibrations(exhaustive=frozenset({"person", "dog", "cat", "car", "truck", "cell phone"})))
NOTHING = Evidence(100, 100)


def image(*names: str) -> Evidence:
    """Evidence of an image with one certain object of each class."""
    return Evidence(100, 100, tuple(Detection(n, (20 * i, 10, 20 * i + 15, 60), 0.9) for i, n in enumerate(names)))


def finding(text: str, evidence: Evidence) -> Finding:
    """The finding on the last object or count claim of a text."""
    claims = [c for c in EXTRACTOR.claims(text) if c.type in ("object", "count")]
    return VERIFIER.check(claims[-1], evidence).finding


@pytest.mark.parametrize(("noun", "class_name"), [
    ("person", "person"), ("vehicle", "car"), ("vehicle", "bus"), ("vehicle", "bicycle"), ("animal", "zebra"),
    ("furniture", "couch"), ("sofa", "couch"), ("cellphone", "cell phone"), ("phone", "cell phone"),
    ("ball", "sports ball"), ("cat", "cat"), ("plant", "potted plant"), ("houseplant", "potted plant"), ("fruit", "apple"),
    ("electronic equipment", "tv"), ("person", "man"), ("made-up thing", "made-up thing"),
])  # fmt: skip
def test_a_noun_includes_classes(noun: str, class_name: str) -> None:
    assert NOUNS.includes(noun, class_name)


@pytest.mark.parametrize(("noun", "class_name"), [
    ("man", "person"), ("woman", "person"), ("child", "person"), ("rider", "person"), ("surfer", "person"),
    ("police officer", "person"), ("pilot", "person"), ("guest", "person"), ("kitten", "cat"), ("goose", "bird"),
    ("poodle", "dog"), ("puppy", "dog"), ("pigeon", "bird"), ("taxi", "car"),
])  # fmt: skip
def test_a_class_may_show_a_narrower_noun(noun: str, class_name: str) -> None:
    assert NOUNS.may_show(class_name, noun)
    assert not NOUNS.includes(noun, class_name)


@pytest.mark.parametrize(("noun", "class_name"), [
    ("animal", "person"), ("container", "car"), ("animal", "teddy bear"), ("animal", "mouse"), ("person", "pitcher"),
    ("pitcher", "person"), ("crane", "bird"), ("star", "person"), ("square", "circle"), ("statue", "person"),
    ("dog", "hot dog"), ("ball", "person"), ("made-up thing", "person"), ("shadow", "person"), ("letter", "person"),
    ("page", "person"), ("mark", "person"), ("planter", "person"), ("controller", "person"), ("bleacher", "person"),
    ("count", "person"), ("tree", "potted plant"), ("grass", "potted plant"), ("rose", "potted plant"),
    ("glove", "baseball glove"), ("keypad", "keyboard"), ("lumber", "baseball bat"), ("pancake", "cake"),
    ("marble", "sports ball"), ("toilet bowl", "bowl"), ("jar", "vase"), ("puma", "cat"), ("lion", "cat"),
])  # fmt: skip
def test_nouns_that_are_unrelated_or_have_several_meanings_stay_apart(noun: str, class_name: str) -> None:
    assert not NOUNS.includes(noun, class_name)
    assert not NOUNS.may_show(class_name, noun)


@pytest.mark.parametrize(("text", "evidence", "verdict"), [
    ("There is a person.", image("person"), S),
    ("There is a man.", image("person"), U),
    ("There is no man.", image("person"), U),
    ("There is a man.", NOTHING, C),
    ("There is no man.", NOTHING, S),
    ("There is a man.", image("dog"), C),
    ("There is a poodle.", image("dog"), U),
    ("There is a poodle.", image("person"), C),
    ("There is a poodle.", image("cat"), U),  # a detector may call a dog a cat
    ("There is a vehicle.", image("car"), S),
    ("There is a vehicle.", image("bus"), S),
    ("There is a vehicle.", NOTHING, U),  # it may be a tractor, which this detector does not know
    ("There is an animal.", image("dog"), S),
    ("There is a taxi.", image("truck"), U),
    ("There is a cellphone.", NOTHING, U),  # "phone" to the extractor: it may be a wired one
    ("There are four people.", image(*["person"] * 4), S),
    ("There are four people.", image(*["person"] * 3), C),
    ("There is a couple of men.", image("person", "person"), U),
    ("There is a couple of men.", image("person"), C),
    ("There are two vehicles.", image("car", "truck"), U),  # and perhaps one more
    ("There is one vehicle.", image("car", "truck"), C),
    ("There is a gizmo.", image("person"), U),
])  # fmt: skip
def test_verdicts(text: str, evidence: Evidence, verdict: Verdict) -> None:
    assert finding(text, evidence).verdict is verdict


def test_the_reason_names_the_class_that_the_detector_knows() -> None:
    assert finding("There is a man.", image("person")).reason == "detector_knows_only_person"
    assert finding("There are three men.", image("person", "person", "person")).reason == "detector_knows_only_person"


def test_absence_is_claimed_of_a_broader_noun_only_if_the_classes_cover_it() -> None:
    assert not NOUNS.is_covered("vehicle", {"car", "bus", "truck"})
    assert NOUNS.is_covered("vehicle", {"vehicle"})
    kinds = set(NOUNS.narrower["motor vehicle"])
    assert NOUNS.is_covered("motor vehicle", kinds)
    assert not NOUNS.is_covered("motor vehicle", kinds - {"truck"})


def test_a_broader_class_without_sufficient_recall_bounds_nothing() -> None:
    verifier = Verifier(Calibrations())
    (claim,) = EXTRACTOR.claims("There is a man.")
    assert verifier.check(claim, NOTHING).finding.reason == "detector_may_miss_it"
    assert verifier.check(claim, image("person")).finding.reason == "detector_knows_only_person"
