"""The memory cache: entries, policies, single flight, memoize, a cached store.

Internal: import from ``kvengine``.
"""
