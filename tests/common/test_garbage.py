"""A process that serves does not look for garbage among what it started with."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: what is frozen stays so.
PROGRAM = """
import gc
from common.garbage import settle
kept = [[] for _ in range(50_000)]
settle()
assert gc.get_freeze_count() > 50_000
assert len(gc.get_objects()) < 5_000
# Later garbage still goes.
class Node: pass
for _ in range(30_000):
    node = Node()
    node.itself = node
del node
left = sum(isinstance(each, Node) for each in gc.get_objects())
assert left < 20_000, left
"""


def test_what_there_is_at_the_start_is_left_alone():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
