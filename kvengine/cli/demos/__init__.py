"""``kvengine demo``: what kvengine does, shown at edges or in one store."""
