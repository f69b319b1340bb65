"""The HTTP edge: OpenAI JSON and SSE to gRPC and back, and the choice of a worker."""
