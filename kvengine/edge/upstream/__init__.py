"""What an edge asks its upstream, and what it does if that does not answer."""
