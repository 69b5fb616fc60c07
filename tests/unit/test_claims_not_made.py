"""Claims that a sentence does not make, although it has the words for them. Each group has sentences that look alike and do claim it."""

import pytest

from tests.unit.test_claims import notation
from vlrm_ray.claims.parse.extractor import ParseExtractor
from vlrm_ray.claims.rules import RuleExtractor

PARSE = ParseExtractor()

PARTIAL_COUNTS = {
    "Two dogs are on the couch, and one dog is on the floor.": [],
    "Two small dogs and a large dog are asleep.": [],
    "Two dogs and a brown dog are asleep.": [],
    "There are two cups on the table and two cups on the shelf.": [],
    "Two cups are on the table. Three cups are on the shelf.": [],
    "Two dogs lie on the rug while a third dog stands near the door.": [],
    "One cat sleeps on the sofa. Another cat sits on the floor.": [],
    "There is a woman and two other people.": [],
    "Two additional cars are parked behind the bus.": [],
    "The other two dogs are sleeping.": [],
    "Another two people sit on a bench.": [],
    "Some ducks swim in the pond. Three ducks stand on the grass.": [],
    "Several boats are on the lake. Two boats are red.": [],
    "Sheep graze on the hill. There are two dogs.": ["count: dog 2"],
    "There are two dogs. The dogs are brown.": ["count: dog 2"],
    "Two more dogs are on the lawn.": [],
    "Six plates are on the counter and two in the sink.": [],
    "Three chairs stand in the room and another near the door.": [],
    "One kite is green, two are yellow.": [],
    "The five birds are on the wire, and two are black.": ["count: bird 5"],
    "Both cats and dogs are in the picture.": [],
    "Around ten people are waiting.": [],
    "Close to five people stand there.": [],
    "Three apples or more are on the table.": [],
    "Three (or four) apples are on the table.": [],
    "A dozen or so birds sit on the wire.": [],
    "There are five birds: three on the wire and two on the roof.": ["count: bird 5"],
    "There are five birds: three birds on the wire and two birds on the roof.": ["count: bird 5"],
    "There are two dogs, a brown dog and a white dog.": ["count: dog 2"],
    "Two black dogs and one white dog are asleep.": ["count: black dog 2", "count: white dog 1"],
    "Two dogs run on the beach. The two dogs are wet.": ["count: dog 2"],
    "There are two dogs. Two dogs are brown.": ["count: dog 2"],
    "Both of the dogs are white.": ["count: dog 2"],
    "The cat is close to two bowls.": ["count: bowl 2"],
    "Two plates and a bowl are on the table.": ["count: plate 2"],
    "A trio of dogs runs on the beach.": ["count: dog 3"],
    "There are two dogs. A dog is brown.": ["count: dog 2"],
    "There are three dogs in the image. One dog is brown.": ["count: dog 3"],
    "There is a dog. There are two dogs.": [],
    "There are two dogs on the couch and one dog on the floor.": [],
    "person (2), car (1)": ["count: person 2", "count: car 1"],
    "A 10-year-old girl sits on a three-legged stool.": [],
    "A two-story house stands next to a 4-wheeled cart.": [],
    "Two coffee mugs and three girls with long hair.": ["count: coffee mug 2", "count: girl 3"],
    "Two of the four wheels are visible.": [],
    "Two of the four windows are open.": ["count: window 4"],
    "I can see 2 cats (one black, one orange).": ["count: cat 2"],
    "There are two cats, one black and one orange.": ["count: cat 2"],
    "There is one apple and one orange.": ["count: apple 1", "count: orange 1"],
}  # fmt: skip
DENIED = {
    "There are 0 cats and 3 dogs.": ["not object: cat", "object: dog", "count: dog 3"],
    "There are no dogs and two cats.": ["not object: dog", "object: cat", "count: cat 2"],
    "Zero dogs and one cat are visible.": ["not object: dog", "object: cat", "count: cat 1"],
    "There are no cats and dogs.": ["not object: cat", "not object: dog"],
    "There is no oven and no microwave.": ["not object: oven", "not object: microwave"],
    "The image doesn't contain a dog, a cat or a horse.": ["not object: dog", "not object: cat", "not object: horse"],
    "The image does not show any dogs or cats, only birds.": ["not object: dog", "not object: cat", "object: bird"],
    "There is no clear sign of a dog.": ["not object: dog"],
    "There is no sign on the wall.": ["not relation: sign on wall", "object: wall"],
    "Not one dog is in the picture.": ["not object: dog"],
    "There isn't a single dog.": ["not object: dog"],
    "There is no cup on the table, but there is one on the shelf.": ["not relation: cup on table", "object: table", "object: shelf"],
    "There are no books on the bench, but there are two on the shelf.": ["not relation: book on bench", "object: bench", "object: shelf"],
    "There isn't one cat; there are two.": ["not count: cat 1"],
    "None of the dogs are visible.": [],
    "None of the dogs are black.": ["object: dog", "not attribute: dog black"],
    "None of the boats in the harbor are white.": ["object: boat", "not attribute: boat white", "object: harbor"],
    "None of the dogs are on the bed.": ["object: dog", "not relation: dog on bed", "object: bed"],
    "The cup is blue, and the cat's is green.": ["object: cup", "attribute: cup blue", "object: cat"],
    "The cat's collar is green.": ["object: cat", "object: collar", "attribute: collar green"],
    "The man has no backpack.": ["object: man", "not maybe object: backpack"],
    "The table has no cups.": ["object: table", "not maybe object: cup"],
    "The table has no cups on it.": ["object: table", "not relation: cup on table"],
    "A woman walks without a dog.": ["object: woman", "state: woman walking", "not maybe object: dog"],
    "The man holds neither a phone nor a cup.": ["object: man", "not maybe object: phone", "not maybe object: cup"],
    "A man with no hat.": ["object: man", "not maybe object: hat"],
    "A street with no cars.": ["object: street", "not object: car"],
    "The street has no cars.": ["object: street", "not object: car"],
    "A room without windows.": ["object: room", "not object: window"],
    "The image does not contain a dog.": ["not object: dog"],
    "The clock is missing its hands and the chair lacks a leg.": [
        "object: clock", "not maybe object: hand", "object: chair", "not maybe object: leg",
    ],
    "The man isn't wearing a helmet, nor does he have gloves on.": [
        "object: man", "not relation: man wearing helmet", "not maybe object: glove",
    ],
    "The shelf holds books rather than plates.": ["object: shelf", "object: book", "not maybe object: plate"],
    "The bowl contains rice rather than noodles.": ["object: bowl", "object: rice", "not object: noodle"],
    "There is a plate on the table but no food on it.": [
        "object: plate", "relation: plate on table", "object: table", "not maybe object: food",
    ],
    "Not visible\n- Keyboard\n- Mouse\n\nThere is a cup.": ["maybe object: keyboard", "maybe object: mouse", "object: cup"],
    "Visible\n- Keyboard": ["object: keyboard"],
    "A man without an umbrella stands next to a woman.": [
        "object: man", "not maybe object: umbrella", "state: man standing", "relation: man next_to woman", "object: woman",
    ],
}  # fmt: skip
MENTIONED = {
    "A woman is waiting for a bus.": "bus",
    "There is space for three bicycles.": "bicycle",
    "A table set for four people.": "person",
    "The table is set for pizza.": "pizza",
    "A dish for two people is on the table.": "person",
    "Two men are playing football.": "football",
    "The man plays the keyboard.": "keyboard",
    "The cloud is shaped like a horse.": "horse",
    "A kite in the shape of a train flies in the sky.": "train",
    "The rock is the size of a car.": "car",
    "The man is as strong as a horse.": "horse",
    "The dog is larger than a cat.": "cat",
    "Like a bird, the kite floats in the sky.": "bird",
    "A child dressed as a cow.": "cow",
    "There is a statue of a horse in the square.": "horse",
    "A painting of a man on a horse hangs on the wall.": "horse",
    "A picture of a dog hangs on the wall.": "dog",
    "A mug with a picture of a cat is on the desk.": "cat",
    "A woman paints a picture of a boat.": "boat",
    "The poster shows a car.": "car",
    "The logo on the truck is a lion.": "lion",
    "The toy on the floor is a train.": "train",
    "The sport is baseball.": "baseball",
    "The mascot of the team is a tiger.": "tiger",
    "The train has six cars.": "car",
    "The locomotive pulls five cars.": "car",
    "A red train pulling two cars crosses a bridge.": "car",
    "A man wears a tie with elephants on it.": "elephant",
    "A stuffed bear sits on the bed.": "bear",
    "A rubber duck floats in the tub.": "duck",
    "The bed of the truck is full of hay.": "bed",
    "A bed of flowers lies in front of the house.": "bed",
    "The train of her dress is long.": "train",
    "There is a fork in the road.": "fork",
    "A can of Red Bull is on the table.": "bull",
    "A book titled The Cat lies on the desk.": "cat",
    "Just out of frame, there is a car.": "car",
    "Viewed from an airplane, the city looks small.": "airplane",
    "Dogs are loyal animals.": "dog",
    "A man in a shirt of the Chicago Bears holds a cup.": "bear",
    "The laptop on the desk is an Apple.": "apple",
    "The brand of the truck is Tiger.": "tiger",
    "A child's toy lies next to the dog.": "child",
    "A man's shoe lies on the floor.": "man",
    "A bird's nest is in the tree.": "bird",
    "The children's room is messy.": "child",
    "A person may be standing behind the fence.": "person",
    "A cat might be hiding under the bed.": "cat",
    "A dog seems to be behind the fence.": "dog",
    "Some people may find this cute.": "person",
    "An orange and a white cat are on the couch.": "orange",
    "A red and a blue car are parked.": "red",
    "| Object | Count |\n|---|---|\n| dog | 2 |": "count",
    "The mural on the wall depicts two children.": "child",
    "A train with many cars is crossing a bridge.": "car",
    "The reflection of a tree can be seen in the window.": "tree",
    "A sea of umbrellas fills the square.": "sea",
    "Elephants are known for their long trunks.": "trunk",
    "The woman is talking about her cat with a friend.": "cat",
    "A truck is heading to the beach.": "beach",
    "A mannequin wears a dress made of newspapers.": "newspaper",
    "A man in his forties is pushing a stroller.": "forty",
    "The taller of the two men has a beard.": "taller",
    "A man with a beard, glasses and a hat is sitting at a piano.": "glass",
    "I can see 2 cats (one black, one orange).": "orange",
    "There are two cats, one black and one orange.": "orange",
}  # fmt: skip
STATED = {
    "A man with a cup is looking off camera.": "cup",
    "A woman looks out of the frame while holding a cup.": "cup",
    "A man waits for the bus next to a bench.": "bench",
    "A man reaches for a cup on the table.": "cup",
    "A boy plays with a football in the garden.": "football",
    "A football lies on the grass.": "football",
    "A man plays the guitar on the stage.": "guitar",
    "A keyboard lies on the desk.": "keyboard",
    "Animals like cows and sheep graze on the field.": "cow",
    "The dog is larger than the cat.": "cat",
    "A picture of a dog on a couch.": "dog",
    "This is a picture of a man holding a dog.": "dog",
    "A man takes a picture of a woman.": "woman",
    "A wooden bench stands under a tree.": "bench",
    "The bed of the hotel room is large.": "bed",
    "A fork is in the bowl.": "fork",
    "A cup of coffee is next to a slice of cake.": "cake",
    "A car is partially out of frame on the right.": "car",
    "A man looks out of the window at a dog.": "dog",
    "Dogs are playing in the park.": "dog",
    "The woman's dress is red.": "woman",
    "A man's hand holds a cup.": "man",
    "The dog may be sleeping.": "dog",
    "A man seems to be happy.": "man",
    "An orange and an apple are on the plate.": "orange",
    "Orange slices on a cake.": "orange",
    "A restaurant called Blue Horse has red chairs.": "chair",
    "A Brown Bear Is Next To A Truck.": "bear",
    "Breakfast is ready: Apples lie in the bowl.": "apple",
    "| car | 2 |\n| dog | 1 |": "dog",
    "The boy in the middle shows a car to a girl.": "car",
    "A boat on the sea.": "sea",
    "A garage with two cars.": "car",
    "The family has two cars.": "car",
    "The animal on the truck is a lion.": "lion",
    "The model is a woman.": "woman",
    "A path leads to a house.": "house",
    "Elephants with long trunks stand in the grass.": "trunk",
    "A wooden table with a newspaper.": "newspaper",
    "The teacher of the two children smiles.": "teacher",
    "A beer glass and a hat are on the piano.": "beer glass",
    "It seems to be a cook, as a hat is on his head.": "hat",
    "Trees stand on either side of the road.": "tree",
}  # fmt: skip
RELATIONS = {
    "A dog lies on the couch and a cat on the floor.": ["dog on couch", "cat on floor"],
    "A cup is on the table and a plate on the shelf.": ["cup on table", "plate on shelf"],
    "People sit on benches and dogs run on the grass.": ["person on bench", "dog on grass"],
    "People sit on chairs and dogs lie on the floor.": ["person on chair", "dog on floor"],
    "A dog sits with a cat on its left and a bird on its right.": [],
    "A man holds a phone and a woman an umbrella.": ["man holding phone"],
    "A man holds a phone and an umbrella.": ["man holding phone", "man holding umbrella"],
    "A hot dog with mustard and ketchup on a plate.": ["mustard on plate", "ketchup on plate"],
    "A laptop sits on the desk next to a cup.": ["laptop on desk", "laptop next_to cup"],
    "The dog sits on the couch beside the cat.": ["dog on couch", "dog next_to cat"],
    "A dog on a rug next to a fireplace.": ["dog on rug", "rug next_to fireplace"],
    "From left to right, there is a dog, a cat, and a bird.": [],
    "From left to right: a dog, a cat, and a bird.": [],
    "To the right, there is a dog.": ["dog right_of"],
    "A bird is about to land on the boat.": [],
    "A woman gets on the bus.": [],
    "A bird lands on the boat.": ["bird on boat"],
    "A woman wears a jacket over a shirt.": ["woman wearing jacket"],
    "A blanket is draped over the couch.": [],
    "A bench stands in a park. She is wearing a hat.": ["bench in park"],
    "A juggler stands in a park. She is wearing a hat.": ["juggler in park", "juggler wearing hat"],
    "- **Clothing**: She is wearing a jacket over a white shirt.": [],
    "1. **Animals**: A dog is lying on the rug next to the couch and is wearing a collar.": [
        "dog on rug", "dog wearing collar", "rug next_to couch",
    ],
    "A lamp hangs above the couch.": ["lamp above couch"],
    "A lamp hanging over the table.": ["lamp above table"],
    "The woman is next to a man, but she isn't holding a phone.": ["woman next_to man", "woman holding phone"],
    "A woman stands next to a man. She wears a hat, and a dog is behind him.": [
        "woman next_to man", "woman wearing hat", "dog behind man",
    ],
    "A sign hangs above the door, and another one below it is green.": ["sign above door"],
    "To the left of the cup there is a plate, and to the left of that, a fork.": ["plate left_of cup"],
    "A blanket is on the grass, with a basket, a bottle of lemonade and some sandwiches on it.": [
        "blanket on grass", "bottle on blanket", "sandwich on blanket",
    ],
    "A bird flies over the couch.": ["bird above couch"],
    "The cat is on the chair. Under it is a dog.": ["cat on chair", "dog under chair"],
    "A lamp is on the left, and next to it are two books.": ["lamp left_of", "book next_to lamp"],
    "A bench is on the left. The dog lying under it is a poodle.": ["bench left_of", "dog under bench"],
    "A bicycle leans on a wall.": ["bicycle against wall"],
    "A cow with a yellow tag in its ear stands on the grass.": ["cow on grass"],
    "The taller of the two men wears a jacket.": ["man wearing jacket"],
}  # fmt: skip
ANSWERS = [
    ("What color is the text on the bus?", "White", []),
    ("What color are the letters on the stop sign?", "White", []),
    ("What color is the dog's collar?", "Red", ["attribute: collar red"]),
    ("What color are the car's wheels?", "Red", ["attribute: wheel red"]),
    ("What color is the shirt of the man?", "Blue", ["attribute: shirt blue"]),
    ("What brand is the laptop?", "Apple", ["maybe object: apple"]),
    ("What sport is being played?", "Baseball", ["maybe object: baseball"]),
    ("What is the logo on the shirt?", "An apple", ["maybe object: apple"]),
    ("What is missing in the picture?", "A cat", ["maybe object: cat"]),
    ("What is not in the picture?", "A cat", ["maybe object: cat"]),
    ("Who is sitting on the bench?", "Nobody.", ["not maybe object: person"]),
    ("What is under the table?", "No dogs.", ["not maybe object: dog"]),
    ("Which animal is next to the car?", "No animal", ["not maybe object: animal"]),
    ("Who is sitting on the bench?", "There are no people.", ["not object: person"]),
    ("Are there dogs?", "No dogs.", ["not object: dog"]),
    ("What is the name of the restaurant?", "The Orange Cow", ["text: restaurant The Orange Cow"]),
    ("What is on the table?", "A cup and a plate", ["object: cup", "object: plate"]),
    ("What animal is on the couch?", "A cat", ["object: cat"]),
    ("Does the man have a dog?", "No", []),
    ("Does the image have a dog?", "No", ["not object: dog"]),
    ("How many dogs are there?", "There are two.", ["count: dog 2"]),
    ("Are there two dogs?", "No, three.", ["not count: dog 2", "count: dog 3"]),
    ("Where is the dog?", "To the left of the cat.", ["relation: dog left_of cat", "object: cat"]),
]


@pytest.mark.parametrize(("text", "counts"), PARTIAL_COUNTS.items())
def test_a_number_of_some_is_no_number_of_all(text: str, counts: list[str]) -> None:
    found = [notation(c) for c in PARSE.claims(text) if c.type == "count" and not c.hedged]
    assert found == counts


@pytest.mark.parametrize(("text", "claims"), DENIED.items())
def test_what_is_denied_ends_where_the_denial_ends(text: str, claims: list[str]) -> None:
    assert sorted(map(notation, PARSE.claims(text))) == sorted(claims)


@pytest.mark.parametrize(("text", "noun"), MENTIONED.items())
def test_what_is_only_mentioned_is_left_open(text: str, noun: str) -> None:
    assert not [notation(c) for c in PARSE.claims(text) if noun in (c.subject.name, str(c.object)) and not c.hedged]


@pytest.mark.parametrize(("text", "noun"), STATED.items())
def test_what_is_stated_in_similar_words_is_claimed(text: str, noun: str) -> None:
    assert f"object: {noun}" in map(notation, PARSE.claims(text))


@pytest.mark.parametrize(("text", "relations"), RELATIONS.items())
def test_relations_have_the_subject_that_the_sentence_gives_them(text: str, relations: list[str]) -> None:
    found = [notation(c).partition(": ")[2] for c in PARSE.claims(text) if c.type == "relation" and not c.hedged]
    assert sorted(found) == sorted(relations)


@pytest.mark.parametrize(("question", "answer", "claims"), ANSWERS)
def test_a_short_answer_is_about_what_was_asked(question: str, answer: str, claims: list[str]) -> None:
    assert sorted(map(notation, PARSE.claims(answer, question))) == sorted(claims)


def test_an_attribute_in_brackets_after_a_place_is_not_that_of_the_place() -> None:
    claims = ["object: dog", "state: dog lying", "relation: dog on couch", "object: couch"]
    for extractor in (PARSE, RuleExtractor()):
        assert [notation(c) for c in extractor.claims("- **Dog** – lying on the couch (brown)")] == claims
    assert [notation(c) for c in PARSE.claims("- car (red)")] == ["object: car", "attribute: car red"]
