"""The server's side of HTTP/2, as far as gRPC needs it, for as little CPU time as Python can.

grpcio's own server costs more for a message than the edge that is to be measured does. Requests
must be one message; what is sent is bytes that were made before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from hpack import Decoder

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD: Final = 9
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 8, 9
_ACK, _END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_INITIAL_WINDOW_SETTING: Final = 4
_WINDOW_AT_START: Final = 65_535
# What clients may send us: their requests are small, so it is given once and never again.
_OURS: Final = 2**31 - 1

# Header blocks without Huffman codes and without the table that both sides would have to keep:
# `:status: 200` is static entry 8; the others are literals, never indexed.
_ANSWER: Final = b"\x88" + b"\x10\x0ccontent-type\x10application/grpc"
_TRAILERS: Final = b"\x10\x0bgrpc-status\x010"


def message(payload: bytes) -> bytes:
    """A gRPC message: not compressed, with its length before it."""
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


@dataclass(slots=True)
class Call:
    """One RPC. `messages` wait for the client's window."""

    connection: Connection
    stream: int
    path: str
    window: int
    body: bytes = b""
    waiting: deque[bytes] = field(default_factory=deque)
    # Whether the last message was given; whether nothing can be sent any more.
    ended: bool = False
    closed: bool = False

    def send(self, *messages: bytes) -> None:
        """Sends these, each in a frame of its own; later, in order, if the window is full."""
        self.waiting.extend(messages)
        self.connection.flush(self)

    def end(self) -> None:
        """No message follows."""
        self.ended = True
        self.connection.flush(self)


# Called with each RPC when its request is here.
Handler = Callable[[Call], None]


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._decoder = Decoder()
        self._buffer = b""
        self._greeted = False
        self._calls: dict[int, Call] = {}
        self._window = _WINDOW_AT_START
        self._window_of_calls = _WINDOW_AT_START
        self._block = b""
        # Of this turn of the loop: a real worker too sends what one step gave together.
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets."""
        # uvloop's is none by its class.
        self._transport = cast("asyncio.Transport", transport)
        setting = _INITIAL_WINDOW_SETTING.to_bytes(2, "big") + _OURS.to_bytes(4, "big")
        grant = (_OURS - _WINDOW_AT_START).to_bytes(4, "big")
        self._write(_frame(_SETTINGS, 0, 0, setting) + _frame(_WINDOW, 0, 0, grant))

    def connection_lost(self, error: Exception | None) -> None:
        """Ends every call."""
        del error
        self._transport = None
        for call in self._calls.values():
            call.closed = True
        self._calls.clear()

    def data_received(self, data: bytes) -> None:
        """Takes whole frames."""
        buffer = self._buffer + data
        at = 0
        if not self._greeted:
            if len(buffer) < len(_PREFACE):
                self._buffer = buffer
                return
            at, self._greeted = len(_PREFACE), True
        while len(buffer) - at >= _HEAD:
            size = int.from_bytes(buffer[at : at + 3], "big")
            if len(buffer) - at < _HEAD + size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & _OURS
            self._take(kind, flags, stream, buffer[at + _HEAD : at + _HEAD + size])
            at += _HEAD + size
        self._buffer = buffer[at:]

    def flush(self, call: Call) -> None:
        """Sends what the windows allow of a call."""
        if call.closed or self._transport is None:
            return
        while call.waiting:
            size = len(call.waiting[0])
            if size > self._window or size > call.window:
                break
            self._window -= size
            call.window -= size
            self._write(_frame(_DATA, 0, call.stream, call.waiting.popleft()))
        if call.ended and not call.waiting:
            self._write(_frame(_HEADERS, _END_HEADERS | _END_STREAM, call.stream, _TRAILERS))
            call.closed = True
            self._calls.pop(call.stream, None)

    def _write(self, frame: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._write_out)
        self._out.append(frame)

    def _write_out(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None:
            self._transport.write(b"".join(out))

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (_HEADERS, _CONTINUATION):
            self._headers(kind, flags, stream, payload)
        elif kind == _DATA:
            self._data(flags, stream, payload)
        elif kind == _RESET:
            call = self._calls.pop(stream, None)
            if call is not None:
                call.closed = True
        elif kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)
        elif kind == _PING and not flags & _ACK:
            self._write(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            self._more(stream, int.from_bytes(payload, "big") & _OURS)

    def _headers(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _HEADERS:
            if flags & _PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            self._block = payload[5:] if flags & _PRIORITY else payload
        else:
            self._block += payload
        if not flags & _END_HEADERS:
            return
        head = {
            bytes(name): bytes(value) for name, value in self._decoder.decode(self._block, raw=True)
        }
        path = head[b":path"].decode()
        self._calls[stream] = Call(self, stream, path, self._window_of_calls)
        self._write(_frame(_HEADERS, _END_HEADERS, stream, _ANSWER))

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        call = self._calls.get(stream)
        if call is None:
            return
        call.body += payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
        if flags & _END_STREAM:
            # What is before the message: whether it is compressed, and its length.
            call.body = call.body[5:]
            self._handler(call)

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            if int.from_bytes(payload[at : at + 2], "big") == _INITIAL_WINDOW_SETTING:
                now = int.from_bytes(payload[at + 2 : at + 6], "big")
                for call in self._calls.values():
                    call.window += now - self._window_of_calls
                self._window_of_calls = now
        self._write(_frame(_SETTINGS, _ACK, 0, b""))

    def _more(self, stream: int, size: int) -> None:
        if stream:
            call = self._calls.get(stream)
            if call is not None:
                call.window += size
                self.flush(call)
            return
        self._window += size
        for call in list(self._calls.values()):
            if call.waiting:
                self.flush(call)
