"""Benchmarks of kvengine beside the stores that people use today.

Run ``python -m benchmarks``; README.md says what is measured and how to read it.
"""
