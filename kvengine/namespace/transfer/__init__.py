"""Many pairs at once: bulk calls, and files of pairs."""
