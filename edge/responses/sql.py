"""Responses in a database, by SQLAlchemy: SQLite, or any other that has an asyncio driver.

Imported late and in a thread: it takes a fraction of a second. Several processes may use one
database at once, a SQLite file included.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    delete,
    event,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    InvalidRequestError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from edge.responses import render
from edge.responses.records import (
    Json,
    Limits,
    Record,
    StoreError,
    TooLargeError,
    TooLongError,
)

# Connections of one process, and the longest wait for one of them or for a lock, in seconds.
_CONNECTIONS: Final = 4
_PATIENCE: Final = 5.0
# Longest that any of this may take.
_TIMEOUT: Final = 15.0
# To open it, and seconds between two.
_ATTEMPTS: Final = 3
_PAUSE: Final = 0.1
# Responses that one may go on from, and their bytes in all.
MAX_CHAIN: Final = 1024
MAX_CHAIN_BYTES: Final = 64 * 2**20
_LIVE: Final = tuple(render.LIVE)
# Of one that is to end, in the column alone: whoever makes it ends it with what it has said so far.
_TO_END: Final = "to_end"
_NOT_OVER: Final = (*_LIVE, _TO_END)

# Some databases have bytes of several lengths.
_BYTES: Final = LargeBinary(2**27)
# A later layout has another name: versions can stand side by side.
_META: Final = MetaData()
_TABLE: Final = Table(
    "caravan_responses_1",
    _META,
    Column("id", String(64), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("previous", String(128)),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("status", String(16), nullable=False),
    Column("background", Boolean, nullable=False),
    Column("beat", Float, nullable=False),
    # Bytes of what follows.
    Column("size", Integer, nullable=False),
    Column("body", _BYTES, nullable=False),
    Column("items", _BYTES, nullable=False),
    Column("events", _BYTES),
    # Both are all that a purge looks at.
    Index("caravan_responses_1_expires", "expires", "size"),
)
_T: Final = _TABLE.c
_RECORD: Final = (
    _T.id,
    _T.owner,
    _T.previous,
    _T.created,
    _T.status,
    _T.background,
    _T.beat,
    _T.body,
    _TABLE.c["items"],
)


class SqlStore:
    """A Store (see records.py). `clock` is in seconds since 1970."""

    def __init__(self, url: URL, limits: Limits, clock: Any) -> None:
        self._limits = limits
        self._clock = clock
        self._engine = _engine(url)

    async def open(self) -> None:
        """Makes the table where it is missing. Raises StoreError."""
        for left in reversed(range(_ATTEMPTS)):
            try:
                async with self._begun() as connection:
                    await connection.run_sync(_META.create_all)
            except StoreError:
                # Another process may have made it at the same moment.
                if not left:
                    raise
                await asyncio.sleep(_PAUSE)
            else:
                return

    async def close(self) -> None:
        """See Store."""
        with contextlib.suppress(SQLAlchemyError, OSError):
            await self._engine.dispose()

    async def add(self, record: Record, extends: Sequence[str] = ()) -> None:
        """See Store."""
        body, items = orjson.dumps(record.body), orjson.dumps(record.items)
        size = self._sized(len(body) + len(items))
        expires = self._clock() + self._limits.ttl
        async with self._begun() as connection:
            await connection.execute(
                insert(_TABLE).values(
                    id=record.id,
                    owner=record.owner,
                    previous=record.previous,
                    created=record.created,
                    expires=expires,
                    status=record.status,
                    background=record.background,
                    beat=record.beat,
                    size=size,
                    body=body,
                    items=items,
                )
            )
            if extends:
                await connection.execute(
                    update(_TABLE)
                    .where(_T.id.in_(extends), _T.owner == record.owner)
                    .values(expires=expires)
                )

    async def end(self, id_: str, status: str, body: Json, events: bytes | None) -> bool:
        """See Store."""
        data = orjson.dumps(body)
        packed = await asyncio.to_thread(zlib.compress, events, 1) if events else None
        size = len(data) + len(packed or b"")
        if packed and size > self._limits.max_response_bytes:
            # The response itself matters more.
            packed, size = None, len(data)
        values = {"status": status, "body": data, "events": packed}
        async with self._begun() as connection:
            done = await connection.execute(
                update(_TABLE)
                .where(_T.id == id_, _T.status.in_(_NOT_OVER))
                .values(**values, size=self._sized(size) + func.length(_TABLE.c["items"]))
            )
        return bool(done.rowcount)

    async def call_off(self, id_: str) -> None:
        """See Store."""
        live = _T.id == id_, _T.status.in_(_LIVE)
        async with self._begun() as connection:
            await connection.execute(update(_TABLE).where(*live).values(status=_TO_END))

    async def get(self, owner: str, id_: str) -> Record | None:
        """See Store."""
        async with self._begun() as connection:
            found = await connection.execute(select(*_RECORD).where(*self._there(owner, id_)))
            row = found.first()
        return None if row is None else _record(row)

    async def events(self, owner: str, id_: str) -> bytes | None:
        """See Store."""
        async with self._begun() as connection:
            found = await connection.execute(select(_T.events).where(*self._there(owner, id_)))
            packed = found.scalar()
        return await asyncio.to_thread(zlib.decompress, packed) if packed else None

    async def chain(self, owner: str, id_: str) -> list[Record]:
        """See Store."""
        before = _TABLE.alias("before")
        first = select(_T.id, _T.previous, _T.size, literal(0).label("depth"))
        links = first.where(*self._there(owner, id_)).cte("links", recursive=True)
        links = links.union_all(
            select(before.c.id, before.c.previous, before.c.size, links.c.depth + 1).where(
                before.c.id == links.c.previous,
                before.c.owner == owner,
                before.c.expires > self._clock(),
                links.c.depth < MAX_CHAIN,
            )
        )
        async with self._begun() as connection:
            nearest_first = select(links.c.id, links.c.size).order_by(links.c.depth)
            found = (await connection.execute(nearest_first)).all()
            if len(found) > MAX_CHAIN or sum(row.size for row in found) > MAX_CHAIN_BYTES:
                raise TooLongError
            ids = [row.id for row in found]
            rows = (await connection.execute(select(*_RECORD).where(_T.id.in_(ids)))).all()
        # What was deleted in between is missing, as if before.
        by_id = {row.id: row for row in rows}
        return [_record(by_id[id_]) for id_ in reversed(ids) if id_ in by_id]

    async def delete(self, owner: str, id_: str) -> bool:
        """See Store."""
        async with self._begun() as connection:
            done = await connection.execute(delete(_TABLE).where(*self._there(owner, id_)))
        return bool(done.rowcount)

    async def beat(self, ids: Collection[str], now: float) -> set[str]:
        """See Store."""
        mine = _T.id.in_(ids)
        lives = update(_TABLE).where(mine, _T.status.in_(_NOT_OVER)).values(beat=now)
        wanted = select(_T.id).where(mine, _T.status.in_(_LIVE))
        async with self._begun() as connection:
            await connection.execute(lives)
            return set(ids) - set((await connection.execute(wanted)).scalars())

    async def purge(self, now: float) -> None:
        """See Store."""
        async with self._begun() as connection:
            await connection.execute(delete(_TABLE).where(_T.expires <= now))
        async with self._begun() as connection:
            total = (await connection.execute(select(func.sum(_T.size)))).scalar() or 0
        # In small steps, so that others get a turn at the lock.
        while total > self._limits.max_bytes:
            async with self._begun() as connection:
                oldest = select(_T.id, _T.size).order_by(_T.expires).limit(64)
                rows = (await connection.execute(oldest)).all()
            if not rows:
                return
            ids = []
            for row in rows:
                if total <= self._limits.max_bytes:
                    break
                ids.append(row.id)
                total -= row.size
            async with self._begun() as connection:
                await connection.execute(delete(_TABLE).where(_T.id.in_(ids)))

    def _there(self, owner: str, id_: str) -> tuple[Any, ...]:
        return _T.id == id_, _T.owner == owner, _T.expires > self._clock()

    def _sized(self, size: int) -> int:
        if size > self._limits.max_response_bytes:
            raise TooLargeError(f"{size} bytes are more than --store-max-response-bytes")
        return size

    @contextlib.asynccontextmanager
    async def _begun(self) -> AsyncIterator[AsyncConnection]:
        """A transaction. Those that write begin with it, so that SQLite's lock can be waited for."""
        try:
            async with asyncio.timeout(_TIMEOUT), self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError, TimeoutError, zlib.error) as error:
            raise StoreError(_said(error)) from None


def _said(error: Exception) -> str:
    """What a driver said, without the statement and its values, which are clients' texts."""
    original = getattr(error, "orig", None) or error
    return f"{type(original).__name__}: {original}"[:300]


def _record(row: Any) -> Record:
    body = orjson.loads(row.body)
    return Record(
        id=row.id,
        owner=row.owner,
        previous=row.previous,
        created=row.created,
        status=body["status"],
        background=row.background,
        body=body,
        items=orjson.loads(row.items),
        beat=row.beat,
    )


def check(url: URL) -> None:
    """That there is a driver for it. Raises StoreError."""
    _engine(url)


def _engine(url: URL) -> AsyncEngine:
    """Raises StoreError for what is no database that can be reached from here."""
    options: dict[str, Any] = {}
    sqlite = url.get_backend_name() == "sqlite"
    if not (sqlite and url.database in (None, "", ":memory:")):
        options = {"pool_size": _CONNECTIONS, "max_overflow": 0, "pool_timeout": _PATIENCE}
        options["pool_pre_ping"] = not sqlite
    try:
        # Statements would show clients' texts in errors and logs.
        engine = create_async_engine(url, hide_parameters=True, **options)
    except NoSuchModuleError:
        raise StoreError(f"no database or driver is called {url.drivername}") from None
    except InvalidRequestError:
        raise StoreError(f"{url.drivername} is no driver for asyncio, which is needed") from None
    except ImportError as error:
        raise StoreError(f"the driver of {url.drivername} cannot be imported: {error}") from None
    except (ArgumentError, TypeError, ValueError):
        # Their messages may tell the URL, which may have a password.
        hint = ": a file is sqlite:///PATH" if sqlite else ""
        raise StoreError(f"not a URL as {url.drivername} has them{hint}") from None
    except SQLAlchemyError as error:
        raise StoreError(_said(error)) from None
    if sqlite:
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    """Readers and one writer at once, waits instead of errors, no traces of what was deleted."""
    del record
    cursor = connection.cursor()
    for setting in (
        f"busy_timeout = {round(_PATIENCE * 1000)}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "secure_delete = ON",
    ):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()
