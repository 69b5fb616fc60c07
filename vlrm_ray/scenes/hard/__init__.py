"""Templates of difficult English sentences about a scene; `vlrm_ray.scenes.hard_statements` samples from them.

facts: what the templates ask about a scene, and the elementary propositions that they embed.
negation: scope of negation, exceptions, contrast, corrections.
reported: conditionals, past and reported speech, claims about claims, questions, hedges.
formats: lists, brackets, tables, answers, text on signs.
quantity: ranges, comparisons, quantifiers, "only".
reference: ellipsis, pronouns, coordination, synonyms.
places: positions, order and relations in the image.
"""
