"""The order of keys: what listing and scanning need."""
