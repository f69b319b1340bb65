"""HTTP to servers of this machine: past any proxy of the environment, which cannot reach them."""

from __future__ import annotations

import urllib.request

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Takes what `urllib.request.urlopen` takes.
urlopen = _OPENER.open
