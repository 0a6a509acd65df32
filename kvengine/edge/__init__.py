"""Edges: copies in front of an upstream, kept current by changes of its log.

Internal: import from ``kvengine``.
"""
