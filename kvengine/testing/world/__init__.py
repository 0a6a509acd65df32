"""The world in a box: a primary and hundreds of edges in one thread, under virtual time.

The code of the edges, the primary and the engine is that of production; only time, the network
and randomness are simulated.  The same seed gives the same history.
"""

from kvengine.testing.world.report import Report
from kvengine.testing.world.world import World

__all__ = ["Report", "World"]
