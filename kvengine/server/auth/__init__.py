"""Permissions and rates of tokens."""
