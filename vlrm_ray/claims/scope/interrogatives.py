"""Questions: what a bare "yes" or "no" to them means."""

from collections.abc import Sequence
from typing import NamedTuple

from vlrm_ray.claims.lexicon import Lexicon
from vlrm_ray.claims.scope import operators
from vlrm_ray.claims.scope.substitutions import substituted
from vlrm_ray.claims.scope.text import SentenceText, compile_pattern, literal
from vlrm_ray.claims.scope.vocabulary import CLASSES, FRAGMENTS
from vlrm_ray.claims.tokens import Token

_TAG = compile_pattern(
    r"(?P<s>.+?)(?: ,)? (?:(?:ISNT|BE|DONOT|DO|CANNOT|CAN|PAST|IFNOT|IF)(?: NOT)? (?:there|it|they|he|she|PERSON)(?: NOT)?|or NOT)|"
    r"(?P<t>.+) ,(?: W| REGION| TRUE| SEEM)?",
    FRAGMENTS,
)
_YES_NO_STARTS = frozenset({"BE", "ISNT", "DO", "DONOT", "CAN", "CANNOT", "IF", "IFNOT", "PAST", "SHOW", "MAY"})
_NEGATED = compile_pattern(r"(?:ISNT|DONOT|CANNOT|IFNOT) .*", FRAGMENTS)
_OPEN = compile_pattern(
    r"(?:^|.* )(?:NO|NOT|ISNT|DONOT|CANNOT|NONE|NEITHER|NOR|NOTHING|WITHOUT|MISSING|LACK|EXCEPT|HARDLY|INSTEAD|UNLIKE)(?: .*|$)",
    FRAGMENTS,
)
_HOW_MANY = compile_pattern(r"(?:^|.* )W (?:many|MOST)(?: .*|$)", FRAGMENTS)
_HOW_MANY_OF_ALL = compile_pattern(
    r"(?:.* )?W many (?:W )?<N>(?: (?:(?:BE|CAN be)(?: there)?|there BE|(?:DO|CAN) (?:PERSON|(?:the |this )?IMAGE|it) (?:SEE|SHOW|W|have)))?<HERE>",
    FRAGMENTS,
)
_SOME = r"(?:a |an |any |NUM |ONE |exactly )*<N>(?: (?:or|and) (?:a |an |any )?<N>)*"
_DENIABLE = compile_pattern(
    rf"BE there {_SOME}<HERE>|(?:DO|CAN) (?:the |this )?(?:IMAGE|PERSON|it|SCENE) (?:SHOW|SEE|W|have) {_SOME}<HERE>|CAN {_SOME} be (?:VISIBLE|SEE)<HERE>|"
    rf"BE (?:a |an |any )<N> VISIBLE<HERE>|BE Na?p VISIBLE<HERE>|BE (?:(?:the|this|its) (?:Na?|B)(?: 's N)?|it|he|she) (?:A|B|W)(?: or (?:A|B|W))*<HERE>|"
    rf"BE there (?:MORE|FEWER|as MANY|as_many) <N> (?:than|as) <N><HERE>|DO (?:the|this) <N> (?:(?:READ|SAY) .*|SHOW (?:the )?(?:W )?(?:Q|W))|BE any of (?:the|these|those) <N> <A><HERE>|"
    rf"(?:there (?:BE|W) |PERSON SEE |the IMAGE SHOW ){_SOME}<HERE>|the <N> BE <A><HERE>|the <N> READ .*",
    FRAGMENTS,
)


class Question(NamedTuple):
    """A question as far as its answers depend on its words.

    Attributes:
        pieces: the question without a negation or tag that does not change what it asks.
        is_statement: it is a statement with a tag: "there is a star, isn't there".
        is_open: neither "yes" nor "no" decides its claims.
        is_deniable: "no" denies exactly its claims: not of "are all circles red".
        is_exact: its numbers hold for all objects of a name: not of "are there two circles on the left" or "how many circles are red".
    """

    pieces: list[Token]
    is_statement: bool = False
    is_open: bool = False
    is_deniable: bool = True
    is_exact: bool = True


def asks_yes_no(first: Token) -> bool:
    """Whether a sentence with this first piece is a yes-no question, unless a tag makes it one."""
    return CLASSES.get(first.text.lower()) in _YES_NO_STARTS


def analyze_question(pieces: Sequence[Token], lexicon: Lexicon) -> Question:
    """Analyze a question, given without the piece that ends it."""
    text = substituted(SentenceText(pieces, lexicon), lexicon)
    is_statement = False
    if tagged := _TAG.fullmatch(text.text):
        text = SentenceText(text.pieces_between(*tagged.span("s" if tagged["s"] else "t")), lexicon)
        is_statement = not operators.asks(text.text)
    if _NEGATED.fullmatch(text.text):
        first, *rest = text.pieces
        auxiliary = "is" if text.text.startswith("ISNT") else "does"
        text = SentenceText([literal(auxiliary, first.start), *rest], lexicon)
    words = text.text
    return Question(
        list(text.pieces),
        is_statement,
        is_open=operators.is_open(words) or bool(_OPEN.match(words)),
        is_deniable=bool(_DENIABLE.fullmatch(words)),
        is_exact=not operators.restricts(words)
        and (not _HOW_MANY.match(words) or bool(_HOW_MANY_OF_ALL.fullmatch(words))),
    )
