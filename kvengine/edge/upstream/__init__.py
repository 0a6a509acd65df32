"""Requests to the upstream, polls for changes, and the circuit breaker for both."""
