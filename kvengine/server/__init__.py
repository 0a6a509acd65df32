"""The server: Cloudflare's REST API, workerd's KV protocol, locations, a console."""
