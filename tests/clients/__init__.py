"""Clients that people use, against a running stack: `make clients-test`.

Each has a folder with what it needs (`requirements….txt` or `package.json`) and a script that uses
it as its users do and fails where something is not as they expect. It runs in an environment of its
own below `.cache`, which is made again when what it needs changes.

Scripts find the stack in BASE_URL, MODEL and EMBED_MODEL. They hold answers against what the demo
model was trained for, and protocol where the client's own prompts are beyond it.
"""
