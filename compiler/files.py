"""Files and folders that appear whole or not at all.

Everything that onnxc writes for a user goes through here: the data is written beside its destination under a temporary
name, flushed to the disk and renamed. A reader, an interrupted compile or a full disk sees the old state or the new one,
never a part (https://lwn.net/Articles/457667/ on why the flush comes before the rename).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from .diagnostics import CompileError

T = TypeVar("T")


def map_file(path: Path) -> mmap.mmap:
    """Map a file for reading: its bytes are fetched when they are looked at, and never copied.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is empty.
    """
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_file(path: Path, first: int, chunk: int, visit: Callable[[memoryview], T]) -> tuple[memoryview, list[T]]:
    """Read a file to an address that is aligned to a page. For files that others may cut short, which mapped ones do not survive.

    Args:
        path: the file.
        first: bytes of the first part.
        chunk: bytes of the other parts.
        visit: looks at a part as soon as it is read, while it is in the caches; called by several threads.

    Returns:
        The content, and what `visit` returned for each part, in their order.

    Raises:
        OSError: if it cannot be read.
    """
    size = path.stat().st_size
    data = memoryview(mmap.mmap(-1, max(size, 1)))[:size]

    def read(at: int, end: int) -> T:
        with open(path, "rb", buffering=0) as file:
            file.seek(at)
            file.readinto(data[at:end])
        return visit(data[at:end])

    starts = [0, *range(first, size, chunk)]
    ends = [*starts[1:], size]
    if len(starts) <= 2:
        return data, list(map(read, starts, ends))
    with ThreadPoolExecutor() as pool:
        return data, list(pool.map(read, starts, ends))


def write_file(path: Path, data: bytes | memoryview | str | Iterable[bytes | memoryview]) -> None:
    """Write one file atomically, whole or part by part; parents are made.

    Raises:
        CompileError: E0502 if the file cannot be written; an older one stays as it was.
    """
    with _reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:50]}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.writelines(_parts(data))
                _flush(stream.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
        _flush_folder(path.parent)


def _parts(data: bytes | memoryview | str | Iterable[bytes | memoryview]) -> Iterable[bytes | memoryview]:
    return [data.encode()] if isinstance(data, str) else [memoryview(data)] if isinstance(data, bytes | memoryview) else data


def write_folder(path: Path, files: Mapping[str, bytes | memoryview | str], owned: Collection[str] = ()) -> None:
    """Write a folder with the given files (by relative path) atomically, instead of an older one.

    An older folder is only replaced if everything in it bears a name that is written now, or that is known to be ours (`owned`);
    a stranger's is never deleted.

    Raises:
        CompileError: E0502 if it cannot be written or holds something foreign; the old state stays as it was.
    """
    with folder(path, owned={*owned, *(Path(name).parts[0] for name in files)}) as made:
        for name, data in files.items():
            write_file(made / name, data)


@contextmanager
def folder(path: Path, owned: set[str]) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes `path` when the block ends without an exception.

    Args:
        path: the destination.
        owned: names of entries that an older folder there may hold and that may be replaced.
    """
    path = path.absolute()
    with _reported(path):
        _refuse_foreign(path, owned)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name[:50]}.", dir=path.parent))
        try:
            yield made
            made.chmod(0o777 & ~_umask())
            _flush_folder(made)
            _exchange(made, path)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _refuse_foreign(path: Path, owned: set[str]) -> None:
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise CompileError("E0502", f"{path} is not a folder", hint="name a folder that is new or holds an older artifact")
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in owned) if path.exists() else []
    if foreign:
        raise CompileError("E0502", f"{path} holds {foreign[0]}, which onnxc did not write", hint="name an empty or a new folder")


def _exchange(made: Path, path: Path) -> None:
    """Put `made` in the place of `path`: in one step where the system can, else by way of a third name."""
    if not path.exists():
        os.rename(made, path)
    elif not _swapped(made, path):
        _replace(made, path)
    _flush_folder(path.parent)


def _swapped(made: Path, path: Path) -> bool:
    """Exchange two names in one step with Linux's renameat2; False where there is none. `made` is then the old folder."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    at_cwd, exchange = -100, 2
    return bool(rename(at_cwd, os.fsencode(made), at_cwd, os.fsencode(path), exchange) == 0)


def _replace(made: Path, path: Path) -> None:
    """Exchange two folders by way of a third name; on failure the old folder stands there again."""
    retired = Path(tempfile.mkdtemp(prefix=f".{path.name[:50]}.old.", dir=path.parent))
    os.rename(path, retired / "old")
    try:
        os.rename(made, path)
    except OSError:
        os.rename(retired / "old", path)
        raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CompileError("E0502", f"cannot write {path}: {error.strerror or error}") from error


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)


def _flush_folder(path: Path) -> None:
    """Make a rename durable; file systems that cannot flush a folder are left alone."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _flush(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    """The process's umask. Reading it needs setting it; Linux also states it in /proc, without a race."""
    with suppress(OSError, ValueError, StopIteration), open("/proc/self/status", encoding="utf-8") as status:
        return int(next(line for line in status if line.startswith("Umask:")).split()[1], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
