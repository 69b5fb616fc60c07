"""List the plurals of the lexicon's nouns (vlrm_ray/claims/plurals.json), so that most processes need not import inflect.

python -m jobs.assets.plurals
"""

import json

from vlrm_ray.claims.lexicon import PLURALS, counted_nouns, inflected_plural


def plurals() -> dict[str, str]:
    """Plural of each noun phrase of the lexicon that has one."""
    return {phrase: inflected_plural(phrase) for phrase in counted_nouns()}


if __name__ == "__main__":
    PLURALS.write_text(json.dumps(plurals(), indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    print(PLURALS)
