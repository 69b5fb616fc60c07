"""Preference data: from verified responses to the pairs and critiques that the reward model is trained on.

    pairing.py    matches a chosen with a rejected candidate of the same prompt      -> types.Pair
    critique.py   prompt templates, layout and parsing of critiques                  -> CritiqueFormat
    selection.py  margin-based rejection sampling of a pair's critiques              -> types.SelectedPair

Where a pair's numbers are computed:

    reward of a critique   types.ScoredCritique.reward   p(Yes) / (p(Yes) + p(No)) at the judgement token
    margin of a pair       types.SelectedPair.margin     reward of the chosen side - reward of the rejected side
    keep or drop           selection.select()            compares the margin with `selection.margin`

p(Yes) and p(No) come from the engine (`engines.Completion`), which sums the probabilities of the label tokens.
"""
