"""The description of the HTTP API, OpenAPI 3.1, made of the models that validate; and its page.

Imported when it is first asked for: an edge that is not asked starts without it.
"""
