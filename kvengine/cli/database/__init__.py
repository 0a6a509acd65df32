"""Commands for a database of namespaces."""
