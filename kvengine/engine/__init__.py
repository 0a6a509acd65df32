"""The log-structured store: records, segments, index, key order, recovery, compaction.

Internal: import from ``kvengine``.
"""
