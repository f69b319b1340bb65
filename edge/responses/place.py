"""Where responses are kept: a database that was named, or a file of this process's own."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from edge.responses.records import Limits, Store, StoreError

# Drivers for URLs that name none.
_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
}
_SCHEME: Final = "://"
# What stands for a URL and is none: as a path it would be a file of that strange name.
_NEARLY: Final = re.compile(rf"({'|'.join(_DRIVERS)})(\+\w+)?:(?!//)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """An open store, and a directory that goes with it where it is a temporary one."""

    store: Store
    directory: Path | None = None

    async def close(self) -> None:
        """Gives all of it back."""
        await self.store.close()
        if self.directory is not None:
            await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)


def check(setting: str) -> None:
    """That `--store-url` names a database that this edge can speak to; nothing is opened.

    Blocks for some tenths of a second where it is a URL. Raises StoreError, which tells no secrets.
    """
    if _NEARLY.match(setting):
        raise StoreError(f"'{setting.partition(':')[0]}:' wants // behind it to be a URL")
    if _SCHEME in setting:
        sqlalchemy, sql = _modules()
        sql.check(_url(sqlalchemy, setting))


async def opened(setting: str, limits: Limits, clock: Callable[[], float]) -> Place:
    """The store that `--store-url` names. Raises StoreError."""
    # The import would stop all streams for a while.
    sqlalchemy, sql = await asyncio.to_thread(_modules)
    directory: Path | None = None
    if not setting:
        directory = await asyncio.to_thread(_temporary)
        setting = str(directory / "responses.sqlite3")
    try:
        url = _url(sqlalchemy, setting)
        store = sql.SqlStore(url, await asyncio.to_thread(_fitting, limits, url), clock)
        await store.open()
    except StoreError:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    return Place(store, directory)


def _modules() -> tuple[ModuleType, Any]:
    return importlib.import_module("sqlalchemy"), importlib.import_module("edge.responses.sql")


def _temporary() -> Path:
    """A new directory of this user's alone."""
    try:
        return Path(tempfile.mkdtemp(prefix="caravan-edge-"))
    except OSError as error:
        raise StoreError(f"no temporary directory: {error.strerror}") from None


def _fitting(limits: Limits, url: Any) -> Limits:
    """Limits that the file system of a SQLite file can hold: half of what it has for it.

    The file is larger than what is in it, and others want room, too.
    """
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return limits
    path = Path(url.database)
    try:
        has = shutil.disk_usage(path.parent).free + (path.stat().st_size if path.exists() else 0)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    return replace(limits, max_bytes=min(limits.max_bytes, has // 2))


def _url(sqlalchemy: Any, setting: str) -> Any:
    """A URL of SQLAlchemy's, or the path of a SQLite file."""
    if _SCHEME not in setting:
        path = Path(setting).expanduser().absolute()
        _own(path)
        return sqlalchemy.URL.create("sqlite+aiosqlite", database=str(path))
    try:
        url = sqlalchemy.make_url(setting)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        # A port that is no number is a ValueError.
        raise StoreError("neither a path nor a URL of a database") from None
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def _own(path: Path) -> None:
    """Makes the file, readable by this user alone. Raises StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
