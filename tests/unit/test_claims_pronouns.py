"""What pronouns refer to, read by the rules and by the parse."""

import pytest

from tests.unit.test_claims import notation
from vlrm_ray.claims import Extractor
from vlrm_ray.claims.parse.extractor import ParseExtractor
from vlrm_ray.claims.rules import RuleExtractor

BOTH = (RuleExtractor(), ParseExtractor())

PERSONS = {
    "A boy walks with his dog. The dog is on a leash. He is wearing a cap.": "relation: boy wearing cap",
    "A woman leads a horse. She is holding an umbrella.": "relation: woman holding umbrella",
    "A woman stands beside a man. She is tall.": "attribute: woman tall",
    "A girl sits next to a puppy. He is brown.": "attribute: puppy brown",
    "A dog runs on the beach. He is black.": "attribute: dog black",
}
THINGS_AT_PLACES = {
    "A vase stands on a shelf. It is blue.": "attribute: vase blue",
    "A kitten is lying on a pillow, and it is gray.": "attribute: kitten gray",
    "Two horses stand next to the trees. They are brown.": "attribute: horse brown",
    "A bowl is next to a laptop. It is on a mat.": "relation: bowl on mat",
    "A truck is parked on the road. There is a man in it.": "relation: man in truck",
    "A chair is by the wall. Behind it is a plant.": "relation: plant behind chair",
}
PLACES = {
    "A man stands by a car. It is red.": "attribute: car red",
    "A dog lies on the rug. There is a lamp on the rug, and the rug is red.": "attribute: rug red",
    "A couch is in the room. A cat is on it.": "relation: cat on couch",
    "The cups are on a table. It is wooden.": "attribute: table wooden",
}


@pytest.mark.parametrize("extractor", BOTH)
@pytest.mark.parametrize(("text", "claim"), [*PERSONS.items(), *THINGS_AT_PLACES.items(), *PLACES.items()])
def test_a_pronoun_refers_to_what_the_text_is_about(extractor: Extractor, text: str, claim: str) -> None:
    predicate = claim.split(" ", 2)[2]
    assert [c for c in map(notation, extractor.claims(text)) if c.endswith(f" {predicate}")] == [claim]
