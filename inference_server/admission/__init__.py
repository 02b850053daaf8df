"""Decides which calls are computed: interceptor, request validation, concurrency limits, retry pushback."""
