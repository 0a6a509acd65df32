"""Building an index from files; verification, backup and salvage."""
