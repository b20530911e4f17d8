"""The sha256 of every file of a run, so that damage is named: in digests.json, and inside each file of tensors.

    digests.json     {"version": 1, "files": {"config.json": {"bytes": 968, "sha256": "9f86..."}, ...},
                     "sha256": of the files}; written last; any other text than `save` writes is damaged
    *.safetensors    metadata sha256: of the whole file, with zeros in place of these 64 letters, so that a checkpoint,
                     which is replaced again and again, is always one file

A run of an earlier version has neither, and is read without these checks.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from sightline.files import open_plain, read_bytes, write_files

DIGESTS = "digests.json"
STAMP = "sha256"
BLANK = b"0" * 64
MOST = 2**20  # bytes of digests.json
MOST_HEADER = 10**8  # bytes, as safetensors has it
DIGEST = re.compile(r"[0-9a-f]{64}")


def save(folder: Path, files: dict[str, bytes], present: Iterable[str] = ()) -> None:
    """Writes files of a run, then the digests of these and of those present. Raises: ValueError as `write_files`.

    The digest of a file that changes is removed first: a kill in between leaves a run to resume, not a damaged one.
    """
    before = listed(folder) or {}
    notes = {name: _note(len(content), hashlib.sha256(content)) for name, content in files.items()}
    notes |= {name: _measured(folder / name) for name in present if (folder / name).exists()}
    if any(before.get(name, note) != note for name, note in notes.items()):
        write_files(folder, {DIGESTS: _text({name: note for name, note in before.items() if name not in notes})})
    write_files(folder, files)
    write_files(folder, {DIGESTS: _text(before | notes)})


def listed(folder: Path) -> dict[str, dict] | None:
    """The bytes and digests of a folder's files by their names; None for a run of an earlier version.

    Raises: ValueError where digests.json is damaged.
    """
    path = folder / DIGESTS
    if not path.exists() and not path.is_symlink():
        return None
    content = read_bytes(path, MOST)
    try:
        notes = json.loads(content)["files"]
        whole = _text(notes) == content and all(note.keys() == {"bytes", STAMP} for note in notes.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(
            f"{path}: expected the digests of the run, got a damaged file; restore it from a copy, or remove it to "
            "take the other files as they are"
        )
    return notes


def identity(files: dict[str, bytes]) -> str:
    """A digest of the files that a run began with, which differs between runs."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(hashlib.sha256(files[name]).digest())
    return digest.hexdigest()


def check(folder: Path, names: Iterable[str] | None = None, optional: Collection[str] = ()) -> None:
    """Compares files with their digests, all that are listed unless some are named.

    Raises: ValueError, naming the file, where one is missing, unless it is optional, or has changed.
    """
    notes = listed(folder) or {}
    for name in notes if names is None else names:
        path = folder / name
        if name not in notes or name in optional and not path.exists():
            continue
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
        if size != notes[name]["bytes"]:
            problem = f"one of {size:,} bytes instead of {notes[name]['bytes']:,}"
        elif _measured(path) != notes[name]:
            problem = "another or a damaged one"
        else:
            continue
        raise ValueError(
            f"{path}: expected the file that the run wrote, got {problem}; restore it from a copy, or if the change is "
            f"yours remove {DIGESTS}"
        )


def _measured(path: Path) -> dict:
    with open_plain(path) as file:
        return _note(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256"))


def _note(size: int, digest: Any) -> dict:
    return {"bytes": size, STAMP: digest.hexdigest()}


def _text(notes: dict[str, dict]) -> bytes:
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode()).hexdigest()
    return (json.dumps({"version": 1, "files": notes, STAMP: digest}, indent=2, sort_keys=True) + "\n").encode()


# --- inside a file of tensors -----------------------------------------------------------------------------------------


def stamped(content: bytes, metadata: dict[str, str]) -> bytes:
    """A safetensors file with metadata, in this order, and its own digest."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = {**metadata, STAMP: BLANK.decode()}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of 8
    head, rest = len(text).to_bytes(8, "little") + text, memoryview(content)[end:]
    digest = hashlib.sha256(head)
    digest.update(rest)
    first, last = head.rsplit(BLANK, 1)
    return b"".join((first, digest.hexdigest().encode(), last, rest))


def check_stamp(path: Path, required: bool = False) -> None:
    """Checks a file of tensors against the digest inside it, which may be absent unless it is required.

    Raises: ValueError, naming the file, where it has changed.
    """
    with open_plain(path) as file:
        head = file.read(8)
        head += file.read(min(int.from_bytes(head, "little"), MOST_HEADER))
        try:
            stamp = json.loads(head[8:])["__metadata__"][STAMP]
        except (ValueError, KeyError, TypeError, RecursionError):
            stamp = None
        if isinstance(stamp, str) and DIGEST.fullmatch(stamp):
            digest = hashlib.sha256(BLANK.join(head.rsplit(stamp.encode(), 1)))
            while piece := file.read(2**20):
                digest.update(piece)
            whole = digest.hexdigest() == stamp
        else:
            whole = stamp is None and not required
    if not whole:
        raise ValueError(
            f"{path}: expected the file as it was written, got a damaged one (its digest differs); use another copy"
        )
