"""``kvengine demo``: what kvengine does, shown at locations or in one store."""
