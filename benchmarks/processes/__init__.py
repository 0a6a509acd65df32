"""``python -m benchmarks processes``: several processes that write to one store.

Invariants: importing this package imports no engine.
"""
