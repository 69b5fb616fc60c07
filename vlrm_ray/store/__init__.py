"""Storage of a run: the ledger of its files, caches keyed by content, images by URI, and the rows between stages."""
