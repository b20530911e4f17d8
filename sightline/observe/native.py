"""The statistics in C, where the system has a compiler: `native.c`, compiled once into the user's cache, and called in threads.

Where there is no compiler, or it fails, or the call is not float32 on the CPU, `statistics.py` does the same with PyTorch; so it
does if the environment variable SIGHTLINE_NATIVE is 0. What heads do is read off in C in the same way. The cached library carries in its name what it was made from (source,
flags, compiler, processor) and a digest of itself, without which none is loaded; it is written aside and renamed.
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
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sightline.observe.calls import Call

LANES = Path(__file__).with_name("lanes.c")  # which every source includes
FLAGS = (
    "-std=gnu11 -O3 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math -fPIC -shared".split()
)
PATIENCE = 30.0  # seconds a compiler may take
SPLIT = 2**20  # pairs of a head beyond which all threads share it
FEW = 2**17  # pairs that are not worth a thread

P, I, D = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
STEPS = "q_row q_head q_one k_row k_head k_one lse_row lse_head".split()


class Source(NamedTuple):
    """A file of C, and its one function with what that takes, which gives 0 if all went well."""

    file: Path
    function: str
    takes: tuple[type, ...]


STATISTICS = Source(Path(__file__).with_name("native.c"), "sightline_statistics", (P, P, I, I, I, I, P, P))


class Given(ctypes.Structure):
    """A call as `native.c` has it."""

    _fields_ = [
        *((name, P) for name in "q k lse offsets key_offsets groups special bias bias_steps".split()),
        *((name, I) for name in (*STEPS, "heads", "width", "left", "right", "links", "bins")),
        *((name, D) for name in ("scale", "softcap")),
        *((name, P) for name in "entropy distance first on_special received keys weights".split()),
    ]


def fits(call: Call) -> bool:
    """Whether this is a call that `native.c` knows, and `native.c` is there."""
    tensors = (call.q, call.k, call.lse, *(call.bias or ()))
    return all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors) and library() is not None


def statistics(call: Call, links: int, special: Tensor | None, bins: int) -> dict[str, Tensor]:
    """The fields of `Statistics`, by their names."""
    (rows, heads, width), keys = call.q.shape, len(call.k)
    made = {name: torch.zeros(rows, heads) for name in ("entropy", "distance", "first", "special")}
    made["received"] = torch.zeros(keys, heads)
    made["keys"] = torch.full((rows, heads, links), -1, dtype=torch.int32)
    made["weights"] = torch.zeros(rows, heads, links)
    offsets, key_offsets = (t.cpu().long().contiguous() for t in (call.offsets, call.key_offsets))
    groups = call.groups.long().contiguous()
    special = None if special is None else special.to("cpu", torch.uint8).contiguous()
    beyond = rows + keys
    left, right = (
        beyond if side is None else min(side, beyond) for side in (call.pattern.left, call.pattern.right)
    )
    given = Given(heads=heads, width=width, left=left, right=right, links=links, bins=bins)
    given.scale, given.softcap = call.scale, call.softcap or 0.0
    held = {"q": call.q, "k": call.k, "lse": call.lse, "offsets": offsets, "key_offsets": key_offsets}
    held |= {"groups": groups, "special": special, **{n: t for n, t in made.items() if n != "special"}}
    held["on_special"] = made["special"]
    if call.bias is not None:
        pointers = [t.data_ptr() for t in call.bias]
        steps = [(t.stride(0) if len(t) > 1 else 0, t.stride(1), t.stride(2)) for t in call.bias]
        held |= {"bias": torch.tensor(pointers), "bias_steps": torch.tensor(steps)}
    for name, t in held.items():
        setattr(given, name, None if t is None else t.data_ptr())
    for name, step in zip(STEPS, (*call.q.stride(), *call.k.stride(), *call.lse.stride()), strict=True):
        setattr(given, name, step)
    made["histogram"] = _run(given, offsets.numpy(), key_offsets.numpy(), made["received"])
    return made


def _run(given: Given, offsets: np.ndarray, key_offsets: np.ndarray, received: Tensor) -> Tensor:
    """Small heads are dealt out among the threads, a run of them each; of a large one each thread takes some queries."""
    function, threads, heads = library().sightline_statistics, torch.get_num_threads(), given.heads
    pairs = np.diff(offsets) * np.diff(key_offsets)
    rooms = torch.zeros(threads, int(np.diff(key_offsets).max(initial=0)), dtype=torch.float64)
    histograms = torch.zeros(threads, heads, 2 * given.bins + 1, dtype=torch.float64)

    def work(thread: int, sequences: np.ndarray, first: int, stop: int, part: int, parts: int) -> None:
        mine = rooms[thread].data_ptr(), histograms[thread].data_ptr()
        if function(ctypes.byref(given), sequences.ctypes.data, first, stop, part, parts, *mine):
            raise MemoryError("watch: expected memory for a few tiles of scores, got none; free some")

    small, large = (np.flatnonzero(some).astype(np.int64) for some in (pairs <= SPLIT, pairs > SPLIT))
    done = np.repeat(pairs[small], heads).cumsum()
    total = int(done[-1]) if len(done) else 0
    if threads == 1 or (total <= FEW and not len(large)):
        work(0, np.arange(len(pairs), dtype=np.int64), 0, len(pairs) * heads, 0, 1)
        return histograms.sum(0).float()
    with ThreadPoolExecutor(threads) as pool:
        cuts = [*np.searchsorted(done, np.linspace(0, total, threads + 1)[:-1]).tolist(), len(done)]
        list(pool.map(lambda t: work(t, small, cuts[t], cuts[t + 1], 0, 1), range(threads)))
        for item in range(len(large) * heads):
            list(pool.map(lambda t, item=item: work(t, large, item, item + 1, t, threads), range(threads)))
            keys = slice(*key_offsets[large[item // heads] :][:2].tolist())
            received[keys, item % heads] = rooms[:, : keys.stop - keys.start].sum(0).float()
    return histograms.sum(0).float()


# --- the library --------------------------------------------------------------------------------------------------------

_one_at_a_time = threading.Lock()


def library(source: Source = STATISTICS) -> ctypes.CDLL | None:
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
    except (
        OSError,
        AttributeError,
        subprocess.SubprocessError,
    ):  # a file that cannot be, or lacks the function
        return None


def _name(compiler: str, source: Source) -> str:
    """What the library is made from, in a few letters."""
    binary = Path(compiler).resolve()
    cpuinfo = Path("/proc/cpuinfo")
    processor = {platform.machine(), platform.processor()}
    if cpuinfo.exists():
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
        processor |= {
            line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))
        }
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
        command = [compiler, *FLAGS, "-o", str(made), str(source.file), "-lm"]
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
