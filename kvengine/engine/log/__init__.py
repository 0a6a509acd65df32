"""The log, and what belongs to it on disk: segments, the manifest, syncs, the control page."""
