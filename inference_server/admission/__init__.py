"""What a call passes before it is computed: interceptor, validation, concurrency limits."""
