"""The function words of English: the closed classes of words that hold a sentence together.

Nouns and attributes, which users may add to, are in `lexicon.yaml`.
"""

from typing import Literal

TokenKind = Literal[
    "word",  # a word that is not in the lexicon
    "content",  # a noun or an attribute of the lexicon
    "uncheckable",  # a noun that names nothing an expert can check: "image", "mood"
    "vague",  # an adjective that an expert cannot check: "beautiful"
    "amount",  # "group of"; the noun that follows is the head noun
    "determiner",
    "number",
    "approximate",  # "about", "only"
    "negator",  # "no", "without", "nobody"
    "genitive",  # "'s"
    "be",
    "not",
    "hedge",  # "perhaps", "might"
    "activity",  # "sitting", "parked": becomes an attribute of the subject
    "relation_verb",  # "wearing", "holds": relates the subject to what follows
    "verb",  # any other verb
    "text_verb",  # "says", "reads": written text follows
    "text_noun",  # "the word", "the number": written text follows
    "there",
    "pronoun",
    "relative",  # "which", "who"
    "relation",  # "left of", "on"
    "of",
    "preposition",  # a preposition that states no relation
    "adverb",
    "skip",  # a phrase without meaning for claims
    "and",
    "or",
    "but",
    "comma",
    "clause_break",  # ";", "while": a new clause follows
    "colon",
    "open_bracket",
    "close_bracket",
    "end",  # end of a sentence or line
    "quote",  # text in quotation marks
    "more",  # "more", "fewer", "as many"
    "than",
]
"""Part of speech of a token, as far as the rules distinguish it."""

NUMBERS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "a dozen": 12, "a single": 1, "single": 1, "a pair of": 2,
    "a couple of": 2, "couple of": 2, "pair of": 2, "half a dozen": 6, "half dozen": 6, "a half dozen": 6, "one dozen": 12,
    "only one": 1, "exactly one": 1, "just one": 1, "only a single": 1, "dozen": 12, "pairs of": -1, "dozens of": -1, "two dozen": 24,
    "not any": 0, "a trio of": 3, "trio of": 3, "a quartet of": 4,
}  # fmt: skip
"""Number words with their values; -1 stands for an inexact number."""

_WORDS: dict[tuple[TokenKind, str], str] = {
    ("determiner", "definite"): "the|this|that|these|those|both|all|all of the|each of the|both of the|one of the|some of the|any of the|most of the|many of the|two of the",
    ("determiner", "own"): "its|his|her|their|my|your|our",
    ("determiner", ""): "every single|each single|a|an|some|any|several|many|a few|few|various|multiple|numerous|each|every|another|other|the other|much|most|a lot of|lots of|plenty of|a number of|countless|at least|more than|over a dozen|over a hundred|other types of",
    ("determiner", "open"): "up to|at most|less than|fewer than|no more than|not more than",
    ("approximate", ""): "about|approximately|roughly|almost|nearly|some",
    ("approximate", "or so"): "or so",
    ("approximate", "exact"): "only|exactly|just",
    ("negator", "determiner"): "no|neither|nor|not any|zero",
    ("negator", "others"): "no other|no others",
    ("negator", "with"): "without|devoid of|free of|lacks|lack|lacking|missing|absence of|no sign of|no signs of|instead of|rather than|in place of|without any",
    ("negator", "nobody"): "no one|nobody",
    ("not", ""): "not|never|cannot|can't|unable to|none of|neither of|don't|doesn't|do not|does not|didn't|fails to",
    ("be", ""): "is|are|was|were|'s|'re|been|being|be",
    ("be", "made"): "made of|made out of|made from",
    ("be", "not"): "isn't|aren't|wasn't|weren't|ain't",
    ("verb", ""): "has|have|having|contains|contain|containing|features|feature|featuring|shows|show|showing|depicts|depict|depicting|includes|include|including|captures|capture|captures|holds up|see|sees|seen|watches|watching|looks|look|covers|cover|covering|displays|display|decorated|filled|surrounded|illuminate|illuminates|advertising|swings|swinging|slicing|conveys|gathered|arranged|lined|made|located|placed|positioned|situated|displayed|reading|plays with|consists|present|visible|can|does|do|did|will|peeks|lets|enjoying|looking|waiting|crosses|streams|create|creates|extends|equipped|adorned|topped|set|provides|using|used|covered|taken|makes|adds|served|attached|printed|mounted|painted|colored|coloured|dressed|taking|talking|surrounding|trying|attempting|preparing|driving through|passing|moving|going|coming|posing|gathering",
    ("text_verb", ""): "says|say|reads|read|saying|reading|labeled|labelled|titled|entitled|spells|marked|inscribed|stating|states|that says|that reads|which says|which reads",
    ("text_noun", ""): "the word|the words|words|the phrase|the text|the number|the letters|the letter|the time|the name|the message|a number|what number|which number|what word|what words",
    ("there", ""): "there",
    ("pronoun", "it"): "it|itself",
    ("pronoun", "they"): "they|them|themselves|of them|of which|of whom|both of them",
    ("pronoun", "each other"): "each other|one another",
    ("pronoun", "person"): "he|she|him|himself|herself",
    ("skip", ""): "i|you|we|one can|i can|you can|can be|can see|appears to be of|looking at|at the camera|toward the camera|towards the camera|in front of the camera|for the camera|as well|hand in hand|arm in arm|side by side|upside down|face to face|for example|such as|in addition|additionally|also|too|however|here|please|yes|as|to be|what|in color|in colour|at night|of course|to|whether|if|in total|total|in detail|in mid-air|to the camera|on display|in use|of them all|anywhere|nowhere|whatsoever|wait|hold on|oops",
    ("relative", ""): "which|who",
    ("of", ""): "of",
    ("preposition", "with"): "with",
    ("preposition", ""): "talking on|speaking on|from|into|through|toward|towards|during|for|down|up|past|across|off|out|out of|away|outside|after|before|like|via|per|throughout",
    ("adverb", ""): "very|fairly|quite|mostly|partially|partly|slightly|directly|just|still|already|now|together|alone|brightly|neatly|clearly|completely|somewhat|rather|currently|so|immediately|light|dark|bright|well|far",
    ("and", ""): "and|&|as well as|along with|plus|together with",
    ("or", ""): "or",
    ("but", ""): "but|yet|but rather",
    ("clause_break", ""): "while|whereas|although|though|because|since|when|where|then",
    ("more", "more"): "more",
    ("more", "fewer"): "fewer|less",
    ("more", "as_many"): "as many",
    ("than", ""): "than",
}  # fmt: skip

FUNCTION_WORDS: dict[str, tuple[TokenKind, str]] = {
    phrase: meaning for meaning, phrases in _WORDS.items() for phrase in phrases.split("|")
} | {phrase: ("number", str(number)) for phrase, number in NUMBERS.items()}
"""Phrase in lower case to its token kind and value."""

IMAGE_REGIONS = {
    "left": "left_of", "right": "right_of", "left-hand": "left_of", "right-hand": "right_of", "leftmost": "left_of",
    "rightmost": "right_of", "top": "above", "upper": "above", "bottom": "below", "lower": "below", "center": "in_middle",
    "centre": "in_middle", "middle": "in_middle", "background": "in_background", "distance": "in_background",
    "foreground": "in_foreground", "far": "", "front": "", "back": "",
}  # fmt: skip
"""Words for a region of the image, with the relation to the image that they state (viewer's left and right); "" states none."""
REGION_NOUNS = frozenset({"side", "half", "part", "portion", "corner", "edge", "hand", "end", "area", "section"})
"""Nouns that may follow a region: "the left side"."""
IMAGE_NOUNS = frozenset(
    {"image", "picture", "photo", "photograph", "scene", "frame", "shot", "view", "composition", "viewer"}
)
"""Nouns that name the image itself, or the person who views it."""
_MEN = ("man", "boy", "guy", "father", "son", "brother", "groom", "gentleman", "husband", "grandfather", "king")
_WOMEN = ("woman", "girl", "lady", "mother", "daughter", "sister", "bride", "wife", "grandmother", "queen", "actress")
OF_OTHER_SEX = dict.fromkeys(("she", "her", "herself"), _MEN) | dict.fromkeys(("he", "him", "himself"), _WOMEN)
"""Names of persons that a pronoun does not refer to: no man for "she"."""
