"""Worker services: a chassis (`worker`) and the kinds of worker that stand on it."""
