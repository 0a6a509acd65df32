"""What every namespace has: here, at an edge, and over the network."""
