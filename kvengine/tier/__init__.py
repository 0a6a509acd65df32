"""Locations: caches in front of an upstream, which is a store or another location."""
