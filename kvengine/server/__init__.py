"""The doors on the network: Cloudflare's REST API, workerd's KV protocol, locations, a console."""
