"""The worker that runs a GGUF model with llama.cpp."""
