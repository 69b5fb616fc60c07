"""State: the ledger of a run, caches by content, images by URI, and the rows that travel between stages."""
