"""Background work: compaction, checkpoints, closing segments, and which process does it."""
