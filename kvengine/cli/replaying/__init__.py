"""``kvengine replay``: requests of a trace at edges, in virtual time."""
