"""Small clients of a worker for internal services to copy."""
