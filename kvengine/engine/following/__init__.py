"""Following the log: readers in other processes, tails, consumers, replicas, digests."""
