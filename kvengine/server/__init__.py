"""The server: Cloudflare's REST API, workerd's KV protocol, edges, a console."""
