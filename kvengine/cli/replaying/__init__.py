"""``kvengine replay``: requests of a trace at locations, in virtual time."""
