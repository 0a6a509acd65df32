"""What the demo prints: steps, figures and checks.

Invariants:
* each check is printed, and a failed one is counted: the exit code depends on it.
"""

from kvengine.cli.formatting import printable_text
from kvengine.cli.output import output, write_text


class Report:
    """Prints as the demo goes along, and counts checks."""

    def __init__(self) -> None:
        self.passed = self.failed = 0
        self._steps = 0

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._steps += 1
        self._print(f"\n{self._steps}. {title}")

    def figure(self, text: str) -> None:
        """Print something that was measured."""
        self._print(f"   {text}")

    def check(self, statement: str, holds: bool, detail: str = "") -> None:
        """Print whether *statement* holds; *detail* says more when it does not."""
        if holds:
            self.passed += 1
            self._print(f"   ok      {statement}")
        else:
            self.failed += 1
            self._print(f"   FAILED  {statement}{': ' if detail else ''}{detail}")

    def _print(self, text: str) -> None:
        head = text[: len(text) - len(text.lstrip("\n"))]
        write_text(head + printable_text(text[len(head) :]))
        output().flush()  # who watches through a pipe sees each line at once
