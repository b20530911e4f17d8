"""Compiles sources in C once into the user's cache, and loads them, where the system has a compiler.

Without a compiler, if it fails, or if the environment variable SIGHTLINE_NATIVE is 0, PyTorch computes the same. The
cached library's name carries a digest of what it was compiled from (source, flags, compiler, processor) and a digest of
the library itself, without which none is loaded; it is written aside and renamed.
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
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sightline.kernels.locks import ForkSafeLock

KERNELS = Path(__file__).parent
LANES = KERNELS / "lanes.c"  # which every source includes
FLAGS = "-std=gnu11 -O3 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math -fPIC -shared".split()
PATIENCE = 30.0  # seconds a compiler may take


class Source(NamedTuple):
    """A file of C, and its one function with the types of its arguments; it returns 0 on success."""

    file: Path
    function: str
    arguments: tuple[type, ...]


_compiling = ForkSafeLock()


def library(source: Source) -> ctypes.CDLL | None:
    """The compiled source; None without a compiler, if it fails, or with SIGHTLINE_NATIVE=0 in the environment."""
    if os.environ.get("SIGHTLINE_NATIVE") == "0":
        return None
    with _compiling.lock:
        return _library(source)


@cache
def _library(source: Source) -> ctypes.CDLL | None:
    compiler = shutil.which("cc")
    if compiler is None or os.name != "posix":
        return None
    try:
        name, folder = _name(compiler, source), _folder()
        return _cached(source, folder, name) or _compiled(source, compiler, folder, name)
    except (
        OSError,
        AttributeError,
        subprocess.SubprocessError,
    ):  # no such file can be written or loaded, or it lacks the function
        return None


def _name(compiler: str, source: Source) -> str:
    """A digest of all that the library is compiled from."""
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
    """The cache's folder, created if missing; None if it cannot be written, or another user could write it."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightline" / "native"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):  # no home
        return None
    ours = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if ours and os.access(folder, os.W_OK | os.X_OK) else None


def _cached(source: Source, folder: Path | None, name: str) -> ctypes.CDLL | None:
    """The library that an earlier process cached, if it is whole; a damaged one is removed."""
    for file in sorted(folder.glob(f"{name}-*.so")) if folder else ():
        if file.stem == f"{name}-{_digest(file)}":
            return _loaded(source, file)
        file.unlink(missing_ok=True)
    return None


def _compiled(source: Source, compiler: str, folder: Path | None, name: str) -> ctypes.CDLL | None:
    """Compiles aside, and moves the library into the cache if there is one."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as aside:
        built = Path(aside) / "built.so"
        command = [compiler, *FLAGS, f"-I{LANES.parent}", "-o", str(built), str(source.file), "-lm"]
        nothing = subprocess.DEVNULL
        with subprocess.Popen(
            command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        ) as process:
            try:
                failed = process.wait(PATIENCE)
            except BaseException:  # a timeout or an interrupt: ends the compiler and its children
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if failed:
            return None
        loaded = _loaded(source, built)
        if folder is not None:
            os.replace(built, folder / f"{name}-{_digest(built)}.so")
        return loaded


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _loaded(source: Source, file: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(file))
    function = getattr(loaded, source.function)
    function.argtypes, function.restype = source.arguments, ctypes.c_int
    return loaded
