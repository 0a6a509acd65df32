"""What was used of each namespace, and what that costs.  Internal: import from ``kvengine``."""
