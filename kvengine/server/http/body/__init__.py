"""Bodies of requests and answers: reading, checking, streaming."""
