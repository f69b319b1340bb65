"""The description as a page for people: HTML, one style, no script, nothing from elsewhere. Pure.

Written here and not shown by one of the usual viewers: those are a megabyte of somebody's minified
script in every wheel, to be updated for ever, and need a policy that lets scripts run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

import orjson

from edge.openapi.schema import PREFIX

Json = Mapping[str, Any]

STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: #2457b3; }
@media (prefers-color-scheme: dark) { :root { --link: #8ab4f8; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem 1.5rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
h2 { border-bottom: 1px solid var(--line); margin-top: 3rem; } h3 { margin: 2.5rem 0 .5rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); border-radius: .4rem; overflow-x: auto; padding: .8rem 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-top: 1px solid var(--line); padding: .35rem .6rem .35rem 0; text-align: left; vertical-align: top; }
td:first-child { overflow-wrap: anywhere; width: 15rem; } td:nth-child(2) { width: 19rem; }
.verb { background: var(--soft); border-radius: .3rem; font-weight: 600; padding: .1rem .4rem; }
.must { color: #c33; } .soft { opacity: .7; } nav li { list-style: none; } nav ul { padding-left: 0; }
"""

# Nothing may be loaded, nothing run; the one style is known by its hash.
_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

# Where examples ask; whoever shows the page puts in where it was asked for.
ROOT: Final = "http://127.0.0.1:8000"

_LIMITS: Final = (
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
    ("minItems", "≥ {} items"),
    ("maxItems", "≤ {} items"),
    ("minLength", "≥ {} characters"),
    ("maxLength", "≤ {} characters"),
    ("maxProperties", "≤ {} keys"),
    ("pattern", "{}"),
)


def page(document: Json) -> str:
    """The whole page."""
    return "".join(_page(document))


def _page(document: Json) -> Iterator[str]:
    info = document["info"]
    operations = list(_operations(document))
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style></head><body>"
        f'<h1>{escape(info["title"])} <span class="soft">{escape(info["version"])}</span></h1>'
        f"<p>{_text(info['summary'])} {_text(info['description'])}</p>"
        '<p>The same for programs: <a href="/openapi.json">openapi.json</a>, '
        f"OpenAPI {escape(document['openapi'])}.</p><nav>"
    )
    for tag in document["tags"]:
        yield f"<h4>{escape(tag['name'])}</h4><ul>"
        for method, path, told in operations:
            if tag["name"] in told["tags"]:
                yield (
                    f'<li><a href="#{told["operationId"]}"><code>{method} {escape(path)}</code></a> '
                    f"{_text(told['summary'])}</li>"
                )
        yield "</ul>"
    yield '</nav><h2 id="authentication">Authentication</h2>' + _security(document)
    yield "<h2>Operations</h2>"
    for method, path, told in operations:
        yield from _operation(document, method, path, told)
    yield "<h2>Types</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<h3 id="{_anchor(name)}"><code>{escape(name)}</code></h3>'
        yield from _type(schema)
    yield "</body></html>\n"


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, told in item.items():
            yield method.upper(), path, told


def _security(document: Json) -> str:
    schemes = document["components"]["securitySchemes"]
    asked = "A key is needed" if _needs_key(document) else "No key is asked for; one may be sent"
    listed = []
    for name, scheme in schemes.items():
        head = "Authorization: Bearer …" if scheme["type"] == "http" else f"{scheme['name']}: …"
        listed.append(
            f"<tr><td><code>{escape(head)}</code></td>"
            f"<td>{_text(scheme.get('description', name))}</td></tr>"
        )
    return f"<p>{asked}, in one of these:</p><table>{''.join(listed)}</table>"


def _needs_key(document: Json) -> bool:
    return {} not in document["security"]


def _operation(document: Json, method: str, path: str, told: Json) -> Iterator[str]:
    yield (
        f'<h3 id="{told["operationId"]}"><span class="verb">{method}</span> '
        f"<code>{escape(path)}</code></h3><p>{_text(told['summary'])}. "
        f"{_text(told.get('description', ''))}</p>"
    )
    parameters = [_referred(document, each) for each in told.get("parameters", ())]
    if parameters:
        yield "<table>"
        for each in parameters:
            must = _must(each.get("required", False))
            yield (
                f"<tr><td><code>{escape(each['name'])}</code>{must}</td>"
                f"<td>{each['in']}: {_kind(each['schema'])}</td>"
                f"<td>{_text(each.get('description', ''))}</td></tr>"
            )
        yield "</table>"
    body = told.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        yield f"<p>Body: {_kind(body['schema'])}</p>"
        if "example" in body:
            key = " -H 'authorization: Bearer YOUR_KEY'" if _needs_key(document) else ""
            yield f"<pre>{escape(_curl(method, path, key, body['example']))}</pre>"
    yield "<table>"
    for status, answer in told["responses"].items():
        for media, content in answer.get("content", {}).items():
            schema = content["schema"]
            events = schema.get("contentSchema")
            shown = _kind(events or schema)
            why = schema.get("description", "") if events else answer["description"]
            yield (
                f"<tr><td>{escape(status)} <code>{escape(media)}</code></td><td>{shown}</td>"
                f"<td>{_text(why)}</td></tr>"
            )
    yield "</table>"


def _type(schema: Json) -> Iterator[str]:
    if "description" in schema:
        yield f"<p>{_text(schema['description'])}</p>"
    properties = schema.get("properties")
    if not properties:
        yield f"<p>{_kind(schema)}</p>"
        return
    required = schema.get("required", ())
    yield "<table>"
    for name, each in properties.items():
        default = f" Default: <code>{_json(each['default'])}</code>." if "default" in each else ""
        yield (
            f"<tr><td><code>{escape(name)}</code>{_must(name in required)}</td>"
            f"<td>{_kind(each)}</td><td>{_text(each.get('description', ''))}{default}</td></tr>"
        )
    yield "</table>"


def _referred(document: Json, each: Json) -> Json:
    if "$ref" not in each:
        return each
    name = each["$ref"].rsplit("/", 1)[-1]
    found: Json = document["components"]["parameters"][name]
    return found


def _kind(schema: Json) -> str:
    """A type in a few words, with links to those that have a name."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(PREFIX)
        return f'<a href="#{_anchor(name)}"><code>{escape(name)}</code></a>'
    for key in ("oneOf", "anyOf"):
        if key in schema:
            return " or ".join(_kind(member) for member in schema[key])
    if "const" in schema:
        return f"<code>{_json(schema['const'])}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{_json(value)}</code>" for value in schema["enum"])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        said = " or ".join(kind)
    elif kind == "array" and schema.get("items"):
        said = f"array of {_kind(schema['items'])}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        said = f"object of {_kind(schema['additionalProperties'])}"
    else:
        said = str(kind)
    limits = [form.format(schema[key]) for key, form in _LIMITS if key in schema]
    return said + (f' <span class="soft">{escape(", ".join(limits))}</span>' if limits else "")


def _must(required: bool) -> str:
    return ' <span class="must" title="required">*</span>' if required else ""


def _curl(method: str, path: str, key: str, example: Any) -> str:
    body = orjson.dumps(example, option=orjson.OPT_INDENT_2).decode().replace("'", "'\\''")
    verb = "" if method == "POST" else f"-X {method} "
    return f"curl {verb}{ROOT}{path} -H 'content-type: application/json'{key} -d '{body}'"


def _json(value: Any) -> str:
    return escape(orjson.dumps(value).decode())


def _text(text: str) -> str:
    """Text with `code` in it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _anchor(name: str) -> str:
    return "type-" + escape(name)
