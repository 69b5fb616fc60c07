"""The function words of English: what holds a sentence together, and never needs an edit."""

from typing import Literal

Kind = Literal[
    "word", "content", "unseen", "vague", "amount",  # inside noun phrases
    "determiner", "number", "none", "approximate", "genitive",
    "be", "not", "hedge", "state", "link", "verb", "says", "written", "there", "pronoun", "relative",
    "relation", "place", "of", "preposition", "adverb", "skip",
    "and", "or", "but", "comma", "break", "colon", "open", "close", "end", "quote", "more", "than", "answer",
]  # fmt: skip
"""What a token can be to the reader."""

NUMBERS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "a dozen": 12, "a single": 1, "single": 1, "a pair of": 2,
    "a couple of": 2, "couple of": 2, "pair of": 2, "half a dozen": 6, "half dozen": 6, "a half dozen": 6, "one dozen": 12,
    "only one": 1, "exactly one": 1, "just one": 1, "only a single": 1, "dozen": 12, "pairs of": -1, "dozens of": -1, "two dozen": 24,
    "not any": 0,
}  # fmt: skip
"""Number words; -1 is no exact number."""

_WORDS: dict[tuple[Kind, str], str] = {
    ("determiner", "definite"): "the|this|that|these|those|both|all|all of the|each of the|both of the|one of the|some of the|most of the|many of the|two of the",
    ("determiner", "own"): "its|his|her|their|my|your|our",
    ("determiner", ""): "a|an|some|any|several|many|a few|few|various|multiple|numerous|each|every|another|other|the other|much|most|a lot of|lots of|plenty of|a number of|countless|up to|at least|more than|less than|fewer than|over a|other types of",
    ("approximate", ""): "about|approximately|roughly|almost|nearly|some",
    ("approximate", "or so"): "or so",
    ("approximate", "exact"): "only|exactly|just",
    ("none", "determiner"): "no|neither|nor|not any|zero",
    ("none", "others"): "no other|no others",
    ("none", "with"): "without|devoid of|free of|lacks|lack|lacking|missing|absence of|no sign of|no signs of|instead of|rather than|in place of|without any",
    ("none", "nobody"): "no one|nobody",
    ("not", ""): "not|never|cannot|can't|unable to|none of|neither of|don't|doesn't|do not|does not|didn't|fails to",
    ("be", ""): "is|are|was|were|'s|'re|been|being|be",
    ("be", "made"): "made of|made out of|made from",
    ("be", "not"): "isn't|aren't|wasn't|weren't|ain't",
    ("verb", ""): "has|have|having|contains|contain|containing|features|feature|featuring|shows|show|showing|depicts|depict|depicting|includes|include|including|captures|capture|captures|holds up|see|sees|seen|watches|watching|looks|look|covers|cover|covering|displays|display|decorated|filled|surrounded|illuminate|illuminates|advertising|swings|swinging|slicing|conveys|gathered|arranged|lined|made|located|placed|positioned|situated|displayed|reading|plays with|consists|present|visible|can|does|do|did|will|peeks|lets|enjoying|looking|waiting|crosses|streams|create|creates|extends|equipped|adorned|topped|set|provides|using|used|covered|taken|makes|adds|served|attached|printed|mounted|painted|colored|coloured|dressed|taking|talking|surrounding|trying|attempting|preparing|driving through|passing|moving|going|coming|posing|gathering",
    ("says", ""): "says|say|reads|read|saying|reading|labeled|labelled|titled|entitled|spells|marked|inscribed|stating|states|that says|that reads|which says|which reads",
    ("written", ""): "the word|the words|words|the phrase|the text|the number|the letters|the letter|the time|the name|the message|a number",
    ("there", ""): "there",
    ("pronoun", "it"): "it|itself",
    ("pronoun", "they"): "they|them|themselves|of them|of which|of whom|both of them",
    ("pronoun", "each other"): "each other|one another",
    ("pronoun", "person"): "he|she|him|himself|herself",
    ("skip", ""): "i|you|we|one can|i can|you can|can be|can see|appears to be of|looking at|at the camera|toward the camera|towards the camera|in front of the camera|for the camera|as well|for example|such as|in addition|additionally|also|too|however|here|please|yes|as|to be|what|in color|in colour|at night|of course|to|whether|if|in total|total|in detail|in mid-air|to the camera|on display|in use|of them all",
    ("relative", ""): "which|who",
    ("of", ""): "of",
    ("preposition", "with"): "with",
    ("preposition", ""): "talking on|speaking on|from|into|through|toward|towards|during|for|down|up|past|across|off|out|out of|away|outside|after|before|like|via|per|throughout",
    ("adverb", ""): "very|fairly|quite|mostly|partially|partly|slightly|directly|just|still|already|now|together|alone|brightly|neatly|clearly|completely|somewhat|rather|currently|so|immediately|light|dark|bright|well|far",
    ("and", ""): "and|&|as well as|along with|plus|together with",
    ("or", ""): "or",
    ("but", ""): "but|yet|but rather",
    ("break", ""): "while|whereas|although|though|because|since|when|where|then",
    ("more", "more"): "more",
    ("more", "fewer"): "fewer|less",
    ("more", "as_many"): "as many",
    ("than", ""): "than",
}  # fmt: skip

GRAMMAR: dict[str, tuple[Kind, str]] = {
    phrase: meaning_of for meaning_of, phrases in _WORDS.items() for phrase in phrases.split("|")
} | {phrase: ("number", str(number)) for phrase, number in NUMBERS.items()}
"""Phrase in lower case to its part of speech and value."""

PLACES = {
    "left": "left_of", "right": "right_of", "left-hand": "left_of", "right-hand": "right_of", "leftmost": "left_of",
    "rightmost": "right_of", "top": "above", "upper": "above", "bottom": "below", "lower": "below", "center": "in_middle",
    "centre": "in_middle", "middle": "in_middle", "background": "in_background", "distance": "in_background",
    "foreground": "in_foreground", "far": "", "front": "", "back": "",
}  # fmt: skip
"""Parts of the picture to the relation with it, as the viewer sees it."""
SIDES = frozenset({"side", "half", "part", "portion", "corner", "edge", "hand", "end", "area", "section"})
PICTURE = frozenset(
    {"image", "picture", "photo", "photograph", "scene", "frame", "shot", "view", "composition", "viewer"}
)
