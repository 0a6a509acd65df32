"""The log over a connection: the server, the client, and the bytes between them."""
