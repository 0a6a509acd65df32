"""From the bytes of a connection to a request, and back: HTTP, bodies, reads on a fast path."""
