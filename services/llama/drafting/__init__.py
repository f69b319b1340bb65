"""Guesses of the next tokens by a second, smaller model; the engine checks them as all drafts."""
