"""Sequences of vectors in an .npz archive of NumPy:

    values   [T, F] numbers, or [T]: the rows of all sequences, one sequence after the other
    offsets  [S + 1] integers: sequence s is values[offsets[s] : offsets[s + 1]]; the first is 0, the last is T
    others   under any name: [S], a label or number for each sequence; or [T], one for each row (tags)

PACK makes one from a list of arrays. Sizes in the headers are compared with those of the archive before anything is
unpacked.
"""

from __future__ import annotations

import itertools
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

import numpy as np
import torch

from sightline.sequences import Sequences
from sightline.tasks.parquet import text_of
from sightline.tasks.records import Record

BYTES = 2**30  # always allowed to unpack
PER_BYTE = 64  # bytes to unpack, for each byte of a larger archive
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, MemoryError, RuntimeError)
PACK = "numpy.savez(file, values=np.concatenate(list), offsets=np.cumsum([0, *map(len, list)]), label=labels)"


def sequences(stream: BinaryIO, name: str) -> Iterator[Record]:
    """The records of an .npz: `values` cut by `offsets`, and the items of the other arrays.

    Raises: ValueError where an array is missing, does not fit the others, or is larger than the archive can hold.
    """
    try:
        arrays = _arrays(stream, name)
    except UNREADABLE as error:
        raise _unreadable(name, str(error) or type(error).__name__) from None
    if not {"values", "offsets"} <= arrays.keys() or arrays["values"].ndim not in (1, 2):
        shapes = ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items()) or "nothing"
        raise ValueError(
            f"{name}: expected the arrays values [T, F] and offsets [S + 1], got {shapes}; pack a list of arrays by "
            f"{PACK}"
        )
    values, offsets = arrays.pop("values"), arrays.pop("offsets")
    if values.dtype.kind not in "biuf":
        advice = "give real and imaginary parts as two features" if values.dtype.kind == "c" else "convert them"
        raise ValueError(f"{name}: expected real numbers in values, got {values.dtype}; {advice}")
    values = values[:, None] if values.ndim == 1 else values
    if offsets.dtype.kind not in "iuf":
        raise ValueError(f"{name}: expected integers in offsets, got {offsets.dtype}; convert them")
    bounds = _bounds(offsets, len(values), name)
    count = len(bounds) - 1
    for key, array in arrays.items():
        if array.ndim == 0 or len(array) not in (count, len(values)):
            raise ValueError(
                f"{name}: expected {key} to have a row for each of {count} sequences or {len(values)} rows, "
                f"got {list(array.shape)}; make it as long"
            )
    listed = {key: _listed(array, key, name) for key, array in arrays.items()}
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        fields: dict[str, Any] = {"values": values[start:stop]}
        for key, rows in listed.items():
            fields[key] = rows[number] if len(rows) == count else rows[start:stop]
        yield Record(fields, name, number + 1)


def _arrays(stream: BinaryIO, name: str) -> dict[str, np.ndarray]:
    size = os.fstat(stream.fileno()).st_size
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > max(BYTES, PER_BYTE * size):
            raise _unreadable(name, f"{size:,} bytes that unpack to {total:,}")
        arrays: dict[str, np.ndarray] = {}
        for member in members:
            key = member.filename.removesuffix(".npy")
            if key in arrays:
                raise _unreadable(name, f"{key} twice")
            with archive.open(member) as file:
                arrays[key] = _array(file, member.file_size, key, name)
    return arrays


def _array(file: IO[bytes], size: int, key: str, name: str) -> np.ndarray:
    """An array whose header claims as many bytes as there are."""
    try:
        first = np.lib.format.read_magic(file) == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
    except (ValueError, SyntaxError, TypeError, RecursionError, EOFError) as error:
        raise _unreadable(name, f"{key}: {str(error).split('. ')[0]}") from None
    if dtype.hasobject:
        raise ValueError(
            f"{name}: expected an .npz of plain arrays, got Python objects in {key}, such as arrays of unequal lengths "
            f"(Object arrays cannot be read without running code); pack a list of arrays by {PACK}"
        )
    count = math.prod(map(int, shape))
    left = size - file.tell()
    if count < 0 or count * dtype.itemsize != left or (count and not dtype.itemsize):
        raise _unreadable(name, f"{key} claims {count * dtype.itemsize:,} bytes, and has {left:,}")
    array = np.frombuffer(file.read(), dtype, count) if left else np.zeros(count, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _bounds(offsets: np.ndarray, rows: int, name: str) -> list[int]:
    offsets = offsets.astype(np.int64 if offsets.dtype.kind in "iu" else np.float64)  # of this machine's byte order
    try:
        return Sequences(torch.empty(rows), torch.from_numpy(offsets)).offsets.tolist()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from None


def _listed(array: np.ndarray, key: str, name: str) -> list:
    """The items of an array as Python values."""
    if array.dtype.kind not in "biufUSM":
        raise ValueError(f"{name}: expected numbers or texts in {key}, got {array.dtype}; convert them")
    if array.dtype.kind == "f" and array.dtype.itemsize < 8 and array.ndim == 1 and array.size:
        return array.astype(str).astype(np.float64).tolist()  # 0.1, not its 0.10000000149
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
    return text_of((array.astype("datetime64[us]") if array.dtype.kind == "M" else array).tolist())


def _unreadable(name: str, reason: str) -> ValueError:
    return ValueError(
        f"{name}: expected an .npz of plain arrays, got one that does not read ({reason}); save it with numpy.savez"
    )
