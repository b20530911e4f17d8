"""Files on disk: each written aside and renamed, none through a planted link; a folder used by one run at a time.

Every file that the library writes is written here. A link, a hard link or a pipe under the name of a file is replaced,
never written into, so nothing outside the folder changes. Only a path that the user names (`replacing` with `named`)
may be a link or a device.
"""

import errno
import io
import json
import math
import os
import re
import secrets
import socket
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None

LOCK = ".sightline.lock"
ASIDE = re.compile(r".+\.([0-9a-f]{12}\.)?partial")  # earlier versions wrote without the random part
MOST_JSON = 2**27  # bytes; the largest tokenizers have a quarter of that
ADVICE: dict[int | None, str] = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room and try again")
ADVICE |= dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "name a place that can be written to")
ADVICE |= {errno.EISDIR: "move that folder away", errno.ENAMETOOLONG: "name a shorter one"}
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # some network file systems
_locks: dict[int, int] = {}  # descriptor of each lock: the process that locked it


# --- folders ----------------------------------------------------------------------------------------------------------


def make_folder(folder: Path, inside: Path | None = None) -> None:
    """Makes a folder with its parents, if it does not exist.

    Between `inside`, which the user named, and `folder` no link is followed.
    Raises: ValueError where it cannot be made.
    """
    check_name(folder)
    step = folder
    while inside is not None and step != inside and step != step.parent:
        if step.is_symlink():
            raise ValueError(f"{step}: expected a folder, got a link, which leads out of {inside}; remove it")
        step = step.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{folder}: expected to make a folder, got: {reason}; name another") from None


def check_name(path: Path) -> None:
    """Raises: ValueError for a name that is not UTF-8, which safetensors cannot open."""
    if re.search("[\ud800-\udfff]", str(path)):
        raise ValueError(f"{path}: expected a name in UTF-8, got other bytes; name or rename it otherwise")


def folder_name(source: str | os.PathLike) -> str:
    """A folder's name, in UTF-8, from that of a file; empty where the file has none."""
    return re.sub("[\ud800-\udfff]", "_", Path(source).stem).replace(":", "-")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks a folder, which is made if need be, against other runs, not against readers.

    The kernel ends the lock with the process. Other threads of this process are kept out, too; forked children do not
    hold the lock. On Windows, and on file systems without locks, nothing is locked.
    Raises: ValueError where another run holds the folder, or the lock cannot be written.
    """
    make_folder(folder)
    path = folder / LOCK
    try:
        descriptor = _lock(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        yield
    finally:
        if descriptor is not None and _locks.get(descriptor) == os.getpid():  # not in a forked child
            try:
                path.unlink(missing_ok=True)  # while it is locked: `_lock` sees that its file is gone
            except OSError:
                pass
            _locks.pop(descriptor)
            os.close(descriptor)


def _lock(path: Path) -> int | None:
    """The descriptor of the locked file; None where there are no locks."""
    while fcntl is not None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise ValueError(f"{path}: expected a lock of sightline, got another file; remove it")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in NO_LOCKS:
                    os.close(descriptor)
                    return None
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                raise ValueError(
                    f"{path.parent}: expected a folder that no other run uses, got one in use by "
                    f"{_holder(descriptor)}; wait until it ends, or name another folder"
                ) from None
            status = os.fstat(descriptor)
            if status.st_nlink == 1 and os.path.samestat(status, os.stat(path, follow_symlinks=False)):
                since = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
                note = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(note).encode(), 0)
                _locks[descriptor] = os.getpid()
                return descriptor
        except FileNotFoundError:  # its holder has just ended
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    return None


def _holder(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, 1000, 0))
        here = note["host"] == socket.gethostname()
        process = "this process" if here and note["process"] == os.getpid() else "process"
        return f"{process} {note['process']}{'' if here else ' on ' + note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # not written yet
        return "another process"


def _closed_in_child() -> None:
    """Closes the locks in a forked child, which must not outlive the parent."""
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_closed_in_child)


def remove_partial(folder: Path) -> None:
    """Removes files written aside by a killed run; only under `locked`."""
    for path in folder.iterdir():
        if ASIDE.fullmatch(path.name) and (path.is_symlink() or not path.is_dir()):
            path.unlink(missing_ok=True)


def is_empty(folder: Path) -> bool:
    """Whether a folder has nothing but what `locked` and `replacing` leave behind."""
    return not folder.exists() or all(path.name == LOCK or ASIDE.fullmatch(path.name) for path in folder.iterdir())


# --- writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: str | os.PathLike, *, named: bool = False) -> Iterator[BinaryIO]:
    """A file to write, which gets its name when it is whole and on the disk; after an error nothing has changed.

    `named`: the user named this path, so the target of a link is replaced, and a device or a pipe is written into.
    Raises: ValueError where it cannot be written.
    """
    path = Path(path)
    if named and path.exists() and not path.is_file() and not path.is_dir():
        with open(path, "wb") as file:
            yield file
        return
    place = path.resolve() if named and path.is_symlink() else path
    if place.is_dir() and not place.is_symlink():
        raise ValueError(f"{path}: expected a file to write, got a folder; name a file in it")
    with _aside([place], path, "it") as [aside], _created(aside) as file:
        yield file
        _flush(file)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Writes or replaces files of a folder: all, or after an error none; each whole, even if the machine stops.

    Raises: ValueError where they cannot be written, as on a full disk; the files before stay.
    """
    what = f"{', '.join(files)} ({sum(map(len, files.values()))} bytes)"
    with _aside([folder / name for name in files], folder, what) as asides:
        for aside, content in zip(asides, files.values(), strict=True):
            with _created(aside) as file:
                file.write(content)
                _flush(file)


@contextmanager
def _aside(places: list[Path], named: Path, what: str) -> Iterator[list[Path]]:
    """Paths to write, beside `places`, whose names they get at the end; after an error they are removed."""
    asides = [place.with_name(f"{place.name[:200]}.{secrets.token_hex(6)}.partial") for place in places]
    try:
        yield asides
        for aside, place in zip(asides, places, strict=True):
            os.replace(aside, place)
        for folder in {place.parent for place in places}:
            _sync(folder)
    except OSError as error:
        own = {str(path) for place in places for path in (place, place.parent)} | set(map(str, asides))
        if error.filename is not None and str(error.filename) not in own:  # of another file
            raise
        raise _unwritable(named, error, what) from None
    finally:
        for aside in asides:
            _remove(aside)


def append(path: Path, content: bytes) -> bool:
    """Appends to a plain file. Returns: False if there is none, or another kind of file; then nothing is written.

    Raises: ValueError where it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOENT, errno.ENXIO, errno.EISDIR):
            return False
        raise _unwritable(path, error) from None
    try:
        with open(descriptor, "ab") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                return False
            file.write(content)
    except OSError as error:
        raise _unwritable(path, error) from None
    return True


def _created(path: Path) -> BinaryIO:
    """A new file; never an existing file or link."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666), "wb")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the error that led here says more
        pass


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Brings the new names to the disk, too."""
    names = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(names)
    finally:
        os.close(names)


def _unwritable(path: Path, error: OSError, what: str = "it") -> ValueError:
    advice = ADVICE.get(error.errno, "check the disk and the path")
    if error.errno == errno.ELOOP:
        return ValueError(f"{path}: expected a plain file, got a link; remove it")
    return ValueError(
        f"{path}: expected to write {what}, got: {error.strerror or error}; what was there before is whole; {advice}"
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def read_bytes(path: str | os.PathLike, most: int = 2**40) -> bytes:
    """The content of a plain file of at most `most` bytes; never waits for a pipe or a device.

    Raises: ValueError where it does not exist, is larger, or cannot be read.
    """
    content = bytearray()
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        while size <= most and len(content) <= most and (piece := file.read(2**20)):
            content += piece
    if max(size, len(content)) > most:
        raise ValueError(f"{path}: expected at most {most:,} bytes, got {max(size, len(content)):,}; check the file")
    return bytes(content)


@contextmanager
def open_plain(path: str | os.PathLike) -> Iterator[io.BufferedReader]:
    """A plain file to read. Raises: ValueError where it does not exist or cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError(f"{path}: expected a file, got a folder, pipe or device; check the path")
            yield file
    except OSError as error:
        raise ValueError(f"{path}: expected a file to read, got: {error.strerror or error}; check the path") from None


def read_json(path: str | os.PathLike, most: int = MOST_JSON) -> Any:
    """The content of a JSON file. No name may stand twice in an object, and each number must be finite.

    Raises: ValueError, naming the file, where it is missing, too large, or no such JSON.
    """
    content = read_bytes(path, most)
    try:
        return json.loads(
            content.decode("utf-8"), parse_constant=_finite, parse_float=_finite, object_pairs_hook=unique_names
        )
    except (ValueError, RecursionError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(f"{path}: expected JSON, got: {reason}; restore the file from a copy") from None


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text[:20]}, which is not finite")
    return number


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON parser's pairs. Raises: ValueError where a name stands twice."""
    if len(fields := dict(pairs)) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {name[:40]!r} twice in one object")
    return fields
