"""Monitoring of a server: figures, metrics, health, logs, traces."""
