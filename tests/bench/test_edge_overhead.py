import subprocess
import sys
from pathlib import Path

import orjson

ROOT = Path(__file__).parents[2]


def test_it_measures_the_real_edge(tmp_path):
    # A process of its own, because it moves itself to one core.
    out = tmp_path / "edge.json"
    line = [sys.executable, "-m", "bench.edge_overhead", "--runs", "1", "--requests", "4"]
    line += ["--streams", "2", "--few", "--json", str(out)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = orjson.loads(out.read_bytes())["median"]["caravan"]
    assert len(found) == 4
    figures = {name: value for row in found.values() for name, value in row.items()}
    assert None not in figures.values()
    assert 0 < figures["events per token"] <= 1
    assert figures["CPU us per streamed request"] > 0
