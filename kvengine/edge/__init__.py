"""Edges: caches in front of an upstream, kept current by the changes in its log.

Internal: import from ``kvengine``.
"""
