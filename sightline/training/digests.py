"""The sha256 of every file of a run, so that damage is named: in digests.json, and inside each file of tensors.

    digests.json     {"version": 1, "sha256": {"config.json": "9f86...", ...}}, written last; whatever is not exactly what
                     `save` writes is damaged
    *.safetensors    metadata sha256: of the whole file, with zeros in place of these 64 letters. So a checkpoint, which is
                     replaced again and again, is always one file, and a kill leaves the old or the new one

A run of an earlier version has neither, and is read as it is.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from sightline.files import opened, read, write

DIGESTS = "digests.json"
STAMP = "sha256"
BLANK = b"0" * 64
MOST = 2**20  # bytes of digests.json
MOST_HEADER = 10**8  # bytes, as safetensors has it
DIGEST = re.compile(r"[0-9a-f]{64}")


def save(folder: Path, files: dict[str, bytes], there: Iterable[str] = ()) -> None:
    """Writes files of a run, and then their digests, and those of some that are there. Raises: ValueError as `write`.

    The digest of a file that changes is taken away first: a kill in between leaves a run to resume, and not a damaged one.
    """
    before = listed(folder) or {}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    digests |= {name: _digest(folder / name) for name in there if (folder / name).exists()}
    if any(before.get(name, digest) != digest for name, digest in digests.items()):
        write(folder, {DIGESTS: _text({name: d for name, d in before.items() if name not in digests})})
    write(folder, files)
    write(folder, {DIGESTS: _text(before | digests)})


def listed(folder: Path) -> dict[str, str] | None:
    """The digests of a folder by the names of their files; None for a run of an earlier version.

    Raises: ValueError where digests.json is damaged.
    """
    path = folder / DIGESTS
    if not path.exists() and not path.is_symlink():
        return None
    content = read(path, MOST)
    try:
        digests = json.loads(content)["sha256"]
        whole = _text(digests) == content and all(map(DIGEST.fullmatch, digests.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(
            f"{path}: expected the digests of the run, got a damaged file; restore it from a copy, or remove it to "
            "take the other files as they are"
        )
    return digests


def identity(files: dict[str, bytes]) -> str:
    """Tells runs apart by what they began with."""
    return hashlib.sha256(_text({n: hashlib.sha256(content).hexdigest() for n, content in files.items()})).hexdigest()


def check(folder: Path, names: Iterable[str] | None = None, optional: Collection[str] = ()) -> None:
    """Compares files with their digests, all that are listed unless some are named.

    Raises: ValueError, naming the file, where one is missing, unless it is optional, or has changed.
    """
    digests = listed(folder) or {}
    for name in digests if names is None else names:
        if name not in digests or name in optional and not (folder / name).exists():
            continue
        if _digest(folder / name) != digests[name]:
            raise ValueError(
                f"{folder / name}: expected the file that the run wrote, got another or a damaged one; restore it from a copy, "
                f"or if the change is yours remove {DIGESTS}"
            )


def _digest(path: Path) -> str:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(digests: dict[str, str]) -> bytes:
    return (json.dumps({"version": 1, "sha256": digests}, indent=2, sort_keys=True) + "\n").encode()


# --- inside a file of tensors -------------------------------------------------------------------------------------------


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


def check_stamp(path: Path, needed: bool = False) -> None:
    """Checks a file of tensors against the digest inside it; without one, a file of an earlier version, if none is needed.

    Raises: ValueError, naming the file, where it has changed.
    """
    with opened(path) as file:
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
            whole = stamp is None and not needed
    if not whole:
        raise ValueError(
            f"{path}: expected the file as it was written, got a damaged one (its digest differs); use another copy"
        )
