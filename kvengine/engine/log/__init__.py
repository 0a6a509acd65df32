"""The log on disk: segments, the manifest, syncs, the control page."""
