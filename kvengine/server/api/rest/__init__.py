"""Cloudflare's REST API v4 for Workers KV."""
