"""The claim extractor on a dependency parse.

1. `pipeline` parses the sentences of all responses of a batch with spaCy. A quotation counts as one word.
2. `sentence` looks the words of a sentence up in the lexicon and gives access to its tree.
3. `nouns` finds the noun phrases: the tree says where they end, `vlrm_ray.claims.noun_phrases` what they say.
4. `scope` marks the words that are denied or left open, by the part of the tree that "not", "might", "if" or "says that"
   governs.
5. `clauses` finds the subjects of verbs and predicates; `relations` what stands where; `texts` what carries written text.
6. `reading` holds all this for one sentence. `marking` marks the noun phrases that are denied or open, `predicates` reads
   attributes, states and numbers, `relating` relations; `reader` calls them in turn, and adds the claims of the phrases themselves.
7. `extractor` reads all sentences of a response with its question, and leaves those that are no plain prose to the rules.
"""
