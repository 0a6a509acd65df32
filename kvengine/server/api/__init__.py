"""The endpoints: workerd's protocol, kvengine's own, tokens, analytics, what an edge forwards."""
