"""Commands for a plain store, whose keys are bytes."""
