"""HTTP: connections, requests, responses, and a fast path for reads."""
