"""What tests of kvengine, and of programs that use it, need: faults, crashes, clocks, checks.

World     a primary and edges under virtual time; for testing programs against staleness
"""

from kvengine.testing.world import World

__all__ = ["World"]
