"""The endpoints: workerd's protocol, kvengine's protocol, tokens, analytics, forwarding."""
