"""Work in the background: compaction, checkpoints, closing segments, and which process does it."""
