"""The key index: from a key to the place of its newest record, in memory and as it is saved."""
