"""A database on a server, used over the network as if it were local."""
