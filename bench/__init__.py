"""Measurements: any OpenAI server under load, the edge alone, and what they need to run."""
