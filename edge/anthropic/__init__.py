"""Anthropic's Messages API as plain data: bodies, their translation, answers, errors. No I/O."""
