"""Bodies made to hurt, drawn from valid ones by a seed: the same seed, the same bodies."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Body = dict[str, Any]
# Stands in a body where bytes are put that no encoder would write.
_HERE = "\u0001here"
_QUOTED = json.dumps(_HERE).encode()


class Hostile(NamedTuple):
    kind: str
    path: str
    body: bytes


# Values for every place, those that are no JSON included.
WRONG: tuple[bytes, ...] = (
    b"null", b"true", b"false", b"0", b"-1", b"1.5", b"-0.0", b"1e308", b"1e999", b"-1e999",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1" * 400, b"1" * 5000,
    b"1e-400", b"0.1", b"2147483648", b"NaN", b"Infinity", b"-Infinity", b"01", b"0x10", b"-", b".5",
    b'""', b'"x"', b'" "', b'"\\u0000"', b'"\\ud800"', b'"\\udfff\\ud800"', b'"\\ud83d\\ude00"',
    b'"\xff\xfe"', b'"\\x"', b'"auto"', b'"text"', b'"user"', b'"function"', b'"' + b"x" * 5000 + b'"',
    '"\u202e\u0000\ufeff\u2028"'.encode(), b"[]", b"[null]", b"[[]]", b"[{}]", b'["x",1]', b"[1,2,3]",
    b"{}", b'{"":{}}', b'{"type":"text"}', b'{"type":{}}', b'{"type":"function","type":"text"}',
    b'{"role":"user","content":"x"}', b'{"a":1,"a":2}', b'{"__class__":"x","model":"y"}', b"",
    b"'x'", b"undefined", b"/**/1", b'{"$ref":"#"}',
)  # fmt: skip


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a body, as keys and indexes."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield (*before, key)
        yield from places(item, (*before, key))


def put(body: Body, place: Sequence[Any], raw: bytes) -> bytes:
    """The body with these bytes at a place."""
    changed = copy.deepcopy(body)
    inner: Any = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = _HERE
    return json.dumps(changed).encode().replace(_QUOTED, raw, 1)


def take(body: Body, place: Sequence[Any]) -> bytes:
    """The body without what is at a place."""
    changed = copy.deepcopy(body)
    inner: Any = changed
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return json.dumps(changed).encode()


def hostile(seeds: Mapping[str, Sequence[Body]], count: int, seed: int) -> Iterator[Hostile]:
    """So many, of every kind and for every path in turn."""
    rng = random.Random(seed)
    paths = sorted(seeds)
    for at in range(count):
        path = paths[at % len(paths)]
        body = rng.choice(seeds[path])
        kind = rng.choices(_KINDS, _WEIGHTS)[0]
        yield Hostile(kind.__name__.strip("_"), path, kind(rng, body))


def _wrong(rng: random.Random, body: Body) -> bytes:
    return put(body, rng.choice(list(places(body))), rng.choice(WRONG))


def _missing(rng: random.Random, body: Body) -> bytes:
    return take(body, rng.choice(list(places(body))))


def _several(rng: random.Random, body: Body) -> bytes:
    """Wrong at several places, the values themselves valid JSON."""
    changed = copy.deepcopy(body)
    for _ in range(rng.randrange(2, 6)):
        found = list(places(changed))
        if not found:
            break
        try:
            changed = json.loads(put(changed, rng.choice(found), rng.choice(WRONG)))
        except ValueError:
            continue
    return json.dumps(changed).encode()


def _spliced(rng: random.Random, body: Body) -> bytes:
    """A part of the body at another place of it."""
    found = list(places(body))
    value: Any = body
    for key in rng.choice(found):
        value = value[key]
    return put(body, rng.choice(found), json.dumps(value).encode())


def _truncated(rng: random.Random, body: Body) -> bytes:
    whole = json.dumps(body).encode()
    return whole[: rng.randrange(len(whole))]


def _mutated(rng: random.Random, body: Body) -> bytes:
    data = bytearray(json.dumps(body).encode())
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data.insert(at, rng.randrange(256))
            case _:
                del data[at : at + rng.randrange(1, 8)]
        if not data:
            break
    return bytes(data)


def _noise(rng: random.Random, body: Body) -> bytes:
    del body
    return rng.randbytes(rng.randrange(2000))


def _unknown(rng: random.Random, body: Body) -> bytes:
    """Keys that nobody knows, of all kinds."""
    keys = ["", "x" * 3000, "\u0000", "__proto__", "a.b[0]", "😀", "model ", "Messages"]
    key = rng.choice(keys)
    return put({**body, key: None}, [key], rng.choice(WRONG))


def _deep(rng: random.Random, body: Body) -> bytes:
    depth = rng.choice((10, 27, 31, 33, 100, 1000, 100_000))
    opened, closed = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"type":', b"}]")))
    raw = opened * depth + b"1" + rng.choice((closed, closed, b"")) * depth
    return raw if rng.random() < 0.1 else put(body, rng.choice(list(places(body))), raw)


def _wide(rng: random.Random, body: Body) -> bytes:
    """Much of one thing at one place: up to what a body may weigh, and sometimes more."""
    count = rng.choice((100, 2049, 9_000, 20_000, 200_000))
    item = rng.choice(
        (b"1", b'""', b"null", b"[]", b"{}", b'"word"', b'{"type":"text","text":"x"}',
         b'{"role":"user","content":"x"}', b'{"type":"function","function":{"name":"f"}}')
    )  # fmt: skip
    if rng.random() < 0.3:
        raw = b"{" + b",".join(b'"%d":%b' % (at, item) for at in range(count)) + b"}"
    else:
        raw = b"[" + b",".join([item] * count) + b"]"
    return put(body, rng.choice(list(places(body))), raw)


def _long(rng: random.Random, body: Body) -> bytes:
    """A long string of one kind at one place."""
    length = rng.choice((1_000, 70_000, 900_000, 1_100_000))
    piece = rng.choice(
        (
            b"x",
            b" ",
            b"\\n",
            b"\\\\",
            b"\\u0000",
            "é".encode(),
            "😀".encode(),
            b"a:",
            b"[",
            b"{{",
            b"<|im_start|>",
            b"data:,",
        )
    )
    return put(body, rng.choice(list(places(body))), b'"' + piece * (length // len(piece)) + b'"')


def _digits(rng: random.Random, body: Body) -> bytes:
    """Numbers that take long to read."""
    length = rng.choice((20, 310, 4_301, 100_000, 1_000_000))
    raw = rng.choice(
        (
            b"9" * length,
            b"-" + b"9" * length,
            b"0." + b"9" * length,
            b"9" * length + b"e-9",
            b"1e" + b"9" * length,
        )
    )
    return put(body, rng.choice(list(places(body))), raw)


def _unended(rng: random.Random, body: Body) -> bytes:
    """Brackets enough to be counted, then a string that never ends."""
    piece = rng.choice((b'\\"', b"\\", b'" ', b"x"))
    raw = b"[" * 40 + b'"' + piece * (rng.choice((1_000, 500_000, 900_000)) // len(piece))
    return put(body, rng.choice(list(places(body))), raw).split(raw)[0] + raw


Kind = Callable[[random.Random, Body], bytes]
_WEIGHTED: Mapping[Kind, int] = {
    _wrong: 35,
    _missing: 6,
    _several: 16,
    _spliced: 8,
    _truncated: 6,
    _mutated: 10,
    _noise: 2,
    _unknown: 4,
    _deep: 6,
    _wide: 3,
    _long: 3,
    _digits: 2,
    _unended: 2,
}
_KINDS = list(_WEIGHTED)
_WEIGHTS = list(_WEIGHTED.values())
