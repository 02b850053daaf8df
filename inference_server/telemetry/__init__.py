"""Logs, Prometheus metrics and OpenTelemetry spans of a server."""
