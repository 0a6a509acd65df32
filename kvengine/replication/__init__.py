"""The log for others: consumers that keep their place, followers that hold the same, digests."""
