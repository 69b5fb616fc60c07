"""Which parts of a sentence assert something: negation, conditions, reported speech, exceptions, and numbers of lists.

The reader of the parent package understands plain clauses. `analyze` prepares every other sentence for it:

1. `lists` gives the numbers, brackets and colors of lists to the items that they belong to.
2. `splitting` divides the sentence into groups of clauses that an operator such as "if" applies to together.
3. `stance` recognizes statements about a statement ("it is not true that ...").
4. `rewrites` says a clause more simply ("neither the circle nor the square is red").
5. `operators` decides whether a clause is left open. Claims of such a clause are hedged, so they are never decided.

All of them match patterns on `text.SentenceText`, with the words of `vocabulary`.
"""

from vlrm_ray.claims.scope.analysis import Mode, Part, analyze, is_absence
from vlrm_ray.claims.scope.interrogatives import Question, analyze_question, asks_yes_no
from vlrm_ray.claims.scope.retractions import retracts, split_at_corrections
from vlrm_ray.claims.scope.triggers import needs_analysis

__all__ = [
    "Mode",
    "Part",
    "Question",
    "analyze",
    "analyze_question",
    "asks_yes_no",
    "is_absence",
    "needs_analysis",
    "retracts",
    "split_at_corrections",
]
