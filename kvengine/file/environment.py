"""Variables of the environment, for the parts that may not ask the operating system themselves."""

import os


def variable(name: str) -> str | None:
    """Return a variable of the environment; None if it is not set, or empty."""
    return os.environ.get(name) or None
