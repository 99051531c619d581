"""`kernel`: numba's `njit` whose machine code is kept on disk, whatever happens to the processes that write it.

numba's own cache is neither locked nor checked: two processes that compile at the same time may give two signatures
the same file, a kill between its two writes may leave code of an older source, and a damaged file ends every command.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, BinaryIO

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

_DIGEST_BYTES = hashlib.sha256().digest_size


def kernel(*, nogil: bool = True, inline: str = "never") -> Callable[[Any], Any]:
    """Return a decorator that compiles a function on its first call; arguments as for `numba.njit`."""

    def compiled(function: Any) -> Any:
        dispatcher = njit(nogil=nogil, inline=inline)(function)
        # Without a folder to write to, numba refuses to keep anything.
        with suppress(RuntimeError):
            dispatcher._cache = _Cache(function)
        return dispatcher

    return compiled


class _Cache(FunctionCache):
    """The kept signatures of one function."""

    def __init__(self, function: FunctionType) -> None:
        super().__init__(function)
        # The source of the kernels that this one calls is part of its own.
        names, scope = function.__code__.co_names, function.__globals__
        scopes = [scope, *(vars(scope[name]) for name in names if isinstance(scope.get(name), ModuleType))]
        caches = [getattr(where.get(name), "_cache", None) for where in scopes for name in names]
        called = [cache.stamp for cache in caches if isinstance(cache, _Cache)]
        self.stamp: tuple[Any, ...] = (self._impl.locator.get_source_stamp(), *called)
        self._cache_file = _File(self._cache_path, self._impl.filename_base, self.stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a signature, unless the disk is full or the like: it is then compiled again."""
        with suppress(OSError):
            super().save_overload(sig, data)


class _File(IndexDataCacheFile):
    """Reads and writes under a lock on the folder, and returns only what was saved under the same key."""

    def save(self, key: Any, data: Any) -> None:
        """Write the data first, so that the index never names a file of an older source."""
        with _locked(self._cache_path):
            overloads = self._load_index()
            free = (self._data_name(n) for n in count(1) if self._data_name(n) not in overloads.values())
            name = overloads.get(key) or next(free)
            self._save_data(name, (key, data))
            self._save_index({**overloads, key: name})

    def load(self, key: Any) -> Any:
        """Return the data of a key, None if there are none or they are damaged."""
        # pickle raises anything on a damaged file.
        with suppress(Exception), _locked(self._cache_path, shared=True):
            saved_key, data = super().load(key)
            return data if saved_key == key else None
        return None

    def _load_index(self) -> dict[Any, str]:
        with suppress(Exception):
            return dict(super()._load_index())
        return {}

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        digest, pickled = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return pickle.loads(pickled) if hashlib.sha256(pickled).digest() == digest else None

    def _save_data(self, name: str, data: Any) -> None:
        pickled = self._dump(data)
        with self._open_for_write(self._data_path(name)) as stream:
            stream.write(hashlib.sha256(pickled).digest() + pickled)

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BinaryIO]:
        # Under the lock, so that one name serves all: what a kill leaves is overwritten.
        partial = Path(f"{filepath}.tmp")
        with partial.open("wb") as stream:
            yield stream
        partial.replace(filepath)


@contextmanager
def _locked(folder: str, *, shared: bool = False) -> Iterator[None]:
    """Lock a folder against other processes, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
