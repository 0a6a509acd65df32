"""The bodies of requests and answers: read, checked, and sent as streams."""
