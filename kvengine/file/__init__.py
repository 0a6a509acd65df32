"""The only code that meets the operating system.

Internal: import from ``kvengine``.
"""
