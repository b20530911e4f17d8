"""What is written in C, where the system has a compiler: compiled once into the user's cache, and opened.

There is always a way in PyTorch besides, taken where there is no compiler, or it fails, or the environment variable
SIGHTLINE_NATIVE is 0. The cached library carries in its name what it was made from (source, flags, compiler, processor) and a
digest of itself, without which none is loaded; it is written aside and renamed.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import NamedTuple

KERNELS = Path(__file__).parent
LANES = KERNELS / "lanes.c"  # which every source includes
FLAGS = "-std=gnu11 -O3 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math -fPIC -shared".split()
PATIENCE = 30.0  # seconds a compiler may take


class Source(NamedTuple):
    """A file of C, and its one function with what that takes, which gives 0 if all went well."""

    file: Path
    function: str
    takes: tuple[type, ...]


_one_at_a_time = threading.Lock()


def _unlock() -> None:
    """In a forked child nobody is left who would open the lock that another thread had closed."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def library(source: Source) -> ctypes.CDLL | None:
    """What a source compiles to, or None: no compiler, or it fails, or the environment says SIGHTLINE_NATIVE=0."""
    if os.environ.get("SIGHTLINE_NATIVE") == "0":
        return None
    with _one_at_a_time:
        return _library(source)


@cache
def _library(source: Source) -> ctypes.CDLL | None:
    compiler = shutil.which("cc")
    if compiler is None or os.name != "posix":
        return None
    try:
        name, folder = _name(compiler, source), _folder()
        return _cached(source, folder, name) or _compiled(source, compiler, folder, name)
    except (OSError, AttributeError, subprocess.SubprocessError):  # a file that cannot be, or lacks the function
        return None


def _name(compiler: str, source: Source) -> str:
    """What the library is made from, in a few letters."""
    binary = Path(compiler).resolve()
    cpuinfo = Path("/proc/cpuinfo")
    processor = {platform.machine(), platform.processor()}
    if cpuinfo.exists():
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
        processor |= {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    status = binary.stat()
    texts = [file.read_text("utf-8") for file in (source.file, LANES)]
    parts = [*texts, *FLAGS, str(binary), str(status.st_size), str(status.st_mtime_ns)]
    return hashlib.sha256("\n".join([*parts, *sorted(processor)]).encode()).hexdigest()[:16]


def _folder() -> Path | None:
    """The cache, made if need be; None where it cannot be written, or somebody else could write it too."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightline" / "native"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):  # no home
        return None
    ours = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if ours and os.access(folder, os.W_OK | os.X_OK) else None


def _cached(source: Source, folder: Path | None, name: str) -> ctypes.CDLL | None:
    """What an earlier process left, if it is whole; a damaged one is taken away."""
    for file in sorted(folder.glob(f"{name}-*.so")) if folder else ():
        if file.stem == f"{name}-{_digest(file)}":
            return _opened(source, file)
        file.unlink(missing_ok=True)
    return None


def _compiled(source: Source, compiler: str, folder: Path | None, name: str) -> ctypes.CDLL | None:
    """Compiles aside, and leaves the library in the cache if there is one."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as aside:
        made = Path(aside) / "made.so"
        command = [compiler, *FLAGS, f"-I{LANES.parent}", "-o", str(made), str(source.file), "-lm"]
        nothing = subprocess.DEVNULL
        with subprocess.Popen(
            command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        ) as process:
            try:
                failed = process.wait(PATIENCE)
            except BaseException:  # it hangs, or the user has had enough: with all that it started
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if failed:
            return None
        opened = _opened(source, made)
        if folder is not None:
            os.replace(made, folder / f"{name}-{_digest(made)}.so")
        return opened


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _opened(source: Source, file: Path) -> ctypes.CDLL:
    opened = ctypes.CDLL(str(file))
    function = getattr(opened, source.function)
    function.argtypes, function.restype = source.takes, ctypes.c_int
    return opened
