"""Edges: copies in front of an upstream, kept current by news of its log.

Internal: import from ``kvengine``.
"""
