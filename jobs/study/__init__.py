"""The method against its ablations, over seeds: which arms there are, what a run of one leaves, what all say together."""
