"""What a planted bug is: see planted_bugs.py."""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """A mistake.

    name: what it would mean for users.
    file: where, below kvengine/.
    old, new: the text there, which must be unique, and what the mistake makes of it.
    tests: below tests/; at least one must fail.
    """

    name: str
    path: str
    old: str
    new: str
    test_ids: tuple[str, ...]

    @property
    def file(self) -> str:
        """The file, from the root of the repository."""
        return f"kvengine/{self.path}"

    @property
    def tests(self) -> tuple[str, ...]:
        """The ids of the tests, from the root of the repository."""
        return tuple(f"tests/{test}" for test in self.test_ids)

    @property
    def is_compiled(self) -> bool:
        """True if a compiler is needed."""
        return self.path.endswith((".pyx", ".pxd"))


def bug(name: str, path: str, old: str, new: str, *tests: str) -> Bug:
    """Return a bug; a line each is enough for most."""
    return Bug(name, path, old, new, tests)
