"""Token handlers of the rule-based reader, one module per concern.

Each handler is a function `(state, i) -> int`: it handles the token at index `i` and returns the index of the next token
to handle. `vlrm_ray.claims.reader.HANDLERS` maps token kinds to handlers.

Imports go one way: `pronouns`, `conjunctions` and `attributes` use the state only; `nouns` uses `attributes`;
`quantities` and `predicates` use `nouns`; `written_text` uses `predicates`; `relations` uses `written_text`.
"""
