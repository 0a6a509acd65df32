"""A Worker on workerd with kvengine behind it: a static site, feature flags, access tokens."""
