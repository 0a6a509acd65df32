"""Workers KV: names, metadata, expiry, list, limits.  Internal: import from ``kvengine``."""
