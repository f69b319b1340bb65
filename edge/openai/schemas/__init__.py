"""Bodies that are answered, as types.

Nothing is validated by them while serving: the OpenAPI description is made of them, and tests hold
every answer against them.
"""
