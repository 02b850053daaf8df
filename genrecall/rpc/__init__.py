"""The gRPC contract in Python: stubs generated from proto/ (`make proto`)."""
