"""One store, many namespaces.  Internal: import from ``kvengine``."""
