"""GET /: what this is and how to call it, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Final

from aiohttp import web

from edge.reply import json_response
from edge.state import EDGE
from protos.inference.v1 import inference_pb2 as pb

# Methods and paths of all routes; the application fills it in.
ENDPOINTS: Final = web.AppKey("endpoints", list[str])
_DESCRIPTION: Final = "An OpenAI-compatible server of llama.cpp models."
_QUESTION: Final = "What is the capital of France?"
_DOCS: Final = "/docs"
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    # The same address answers in two forms.
    "Vary": "Accept",
}
_STYLE: Final = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;"
    "margin:3rem auto;padding:0 1rem}pre{overflow-x:auto;padding:.8rem;border:1px solid #8886;"
    "border-radius:.4rem}code,pre{font:.9rem/1.5 ui-monospace,monospace}ul{padding-left:1.2rem}"
)


async def about(request: web.Request) -> web.Response:
    """GET /."""
    edge = request.app[EDGE]
    base_url = f"{root(request)}/v1"
    found = edge.pool.models()
    # Those that can chat first: one of them is asked in the example.
    models = sorted(
        found, key=lambda name: (pb.CAPABILITY_CHAT not in found[name].capabilities, name)
    )
    endpoints = request.app[ENDPOINTS]
    if "text/html" in request.headers.get("Accept", ""):
        text = page(base_url, models, endpoints, keys=edge.settings.keys)
        return web.Response(text=text, content_type="text/html", headers=_HEADERS)
    response = json_response(
        {
            "name": "caravan",
            "description": _DESCRIPTION,
            "base_url": base_url,
            "models": models,
            "endpoints": endpoints,
        }
    )
    response.headers["Vary"] = _HEADERS["Vary"]
    return response


def root(request: web.Request) -> str:
    """Where the client found this server: its own word, of any characters."""
    host = request.host.encode(errors="replace").decode()
    return f"{request.scheme}://{host}"


def page(base_url: str, models: Sequence[str], endpoints: Sequence[str], *, keys: bool) -> str:
    """The same for people who came with a browser."""
    model = models[0] if models else "MODEL"
    body = {"model": model, "messages": [{"role": "user", "content": _QUESTION}]}
    key = " -H 'authorization: Bearer YOUR_KEY'" if keys else ""
    quoted = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    curl = f"curl {base_url}/chat/completions -H 'content-type: application/json'{key} \\\n  -d '{quoted}'"
    python = (
        "from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={base_url!r}, api_key={'YOUR_KEY' if keys else 'none'!r})\n"
        "answer = client.chat.completions.create(\n"
        f"    model={model!r},\n"
        f'    messages=[{{"role": "user", "content": "{_QUESTION}"}}],\n'
        ")\nprint(answer.choices[0].message.content)"
    )
    served = _list(models) if models else "<p>None yet: no worker has answered.</p>"
    docs = (
        f'<p><a href="{_DOCS}">All of it described</a></p>' if f"GET {_DOCS}" in endpoints else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Caravan</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>Caravan</h1><p>{escape(_DESCRIPTION)} "
        f"The base URL for clients is <code>{escape(base_url)}</code>"
        f"{', and a key is needed' if keys else ''}.</p><h2>Models</h2>{served}"
        f"<h2>Ask</h2><pre>{escape(curl)}</pre><pre>{escape(python)}</pre>"
        f"<h2>Endpoints</h2>{docs}{_list(endpoints)}</body></html>"
    )


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li><code>{escape(item)}</code></li>" for item in items) + "</ul>"
