"""A long computation over texts in numbered windows: after a kill the same call resumes it, to the same bytes.

    FOLDER/note.json                      settings, and digests of the inputs; a different run is refused
    FOLDER/00000012-TEXTS-CONTENT.SUFFIX  window 12, with digests of its texts and of itself; computed again if damaged
    FOLDER/RESULT                         all windows joined, by the caller

Several processes share the windows; the main one locks the folder. The result must not depend on who computes it.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState

from sightline import files

NOTE = "note.json"
WINDOW = re.compile(r"(?P<number>\d{8})-(?P<texts>[0-9a-f]{20})-(?P<content>[0-9a-f]{20})\.\w+")
CHARACTERS = 1_000_000  # in a window, so that memory is bounded whatever texts come

Item = TypeVar("Item")


def windows(items: Iterable[Item], most: int, characters: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Cuts items into lists of at most `most`, fewer where they have many characters.

    >>> [*windows(["a", "bc", "d"], 2, len)]
    [['a', 'bc'], ['d']]
    """
    window, total = [], 0
    for item in items:
        window.append(item)
        total += characters(item)
        if len(window) == most or total >= CHARACTERS:
            yield window
            window, total = [], 0
    if window:
        yield window


def processes() -> PartialState:
    """The device and the processes of this run: one, or as many as torchrun started; they wait for one another."""
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=7))


def digest(parts: Iterable[bytes]) -> str:
    """20 hexadecimal digits that tell one list of byte strings from another."""
    whole = blake2b(digest_size=10)
    for part in parts:
        whole.update(struct.pack("<Q", len(part)))
        whole.update(part)
    return whole.hexdigest()


class Run:
    """The folder of one run: `with run.locked(): run.begin(...); run.compute(0, ...); ...; run.paths(1)`.

    Windows are files with this `suffix`; the caller joins them into a file named `result`.
    """

    def __init__(self, folder: Path, process: PartialState, suffix: str, result: str):
        self.folder, self.process, self.suffix, self.result = folder, process, suffix, folder / result
        self._present: dict[int, Path] = {}  # windows of earlier runs
        self._missing = 0  # windows so far that no earlier run computed

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs out. A folder that is new is removed if the run fails before its first window is done."""
        if not self.process.is_main_process:
            yield
            return
        files.make_folder(self.folder, inside=self.folder.parent)
        with files.locked(self.folder):
            new = self.process.num_processes == 1 and files.is_empty(self.folder)
            try:
                yield
            except BaseException:
                if new and {path.name for path in self.folder.iterdir()} <= {NOTE, files.LOCK}:
                    shutil.rmtree(self.folder, ignore_errors=True)
                raise

    def begin(self, settings: dict[str, Any], digests: dict[str, Any]) -> None:
        """Notes what the run is, or compares it with the note of the run that was stopped.

        Messages show values of `settings`, and only the names of `digests`.
        Raises: ValueError for a run that differs, or a folder of something else.
        """
        if self.process.is_main_process:
            self._check_note(json.loads(json.dumps({"settings": settings, "digests": digests})))
        self.process.wait_for_everyone()
        self._present = self._listed()
        self.process.wait_for_everyone()  # no window is added before each process has its list

    def compute(self, number: int, texts: Iterable[bytes], content: Callable[[], bytes]) -> bool:
        """Writes `content()` as window `number` if this process is to; False if it is done, or for another process.

        Windows come in their order, in every process. `texts` are what the window is computed from.
        Raises: ValueError where an earlier run computed this window from other texts.
        """
        path, turn = self._present.get(number), number
        if path is None:
            turn, self._missing = self._missing, self._missing + 1
        if turn % self.process.num_processes != self.process.process_index:
            return False
        key = digest(texts)
        if path is not None:
            if path.stem.split("-")[1] != key:
                raise self._different_texts()
            if _intact(path) is not None:
                return False
            path.unlink()
        window = content()
        with files.replacing(self.folder / f"{number:08d}-{key}-{digest([window])}{self.suffix}") as file:
            file.write(window)
        return True

    def paths(self, count: int) -> list[Path]:
        """The files of all windows, in their order. Raises: ValueError unless there are `count`."""
        paths = self._listed()
        if sorted(paths) != list(range(count)):
            raise self._different_texts()
        return [paths[number] for number in range(count)]

    def _listed(self) -> dict[int, Path]:
        return {int(match["number"]): path for path in self.folder.iterdir() if (match := WINDOW.fullmatch(path.name))}

    def _check_note(self, note: dict[str, dict[str, Any]]) -> None:
        files.remove_partial(self.folder)
        names = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}
        strange = [name for name in sorted(names - {NOTE, self.result.name}) if not WINDOW.fullmatch(name)]
        if strange:
            raise self._strange(strange[0])
        if NOTE not in names:
            if names - {self.result.name}:
                raise self._strange(f"windows without a {NOTE}")
            files.write_files(self.folder, {NOTE: json.dumps(note, indent=1).encode()})
            return
        try:
            before = files.read_json(self.folder / NOTE)
            before = {part: dict(before[part]) for part in note}
        except (ValueError, TypeError, KeyError):
            raise self._strange(f"a {NOTE} that is damaged") from None
        differences = [f"different {name}" for name in _different(before["digests"], note["digests"])]
        for name in _different(before["settings"], note["settings"]):
            values = (part["settings"].get(name) for part in (before, note))
            differences.append("{} {!r} then, {!r} now".format(name, *values))
        if differences:
            raise ValueError(
                f"{self.folder}: expected the settings and inputs that it was begun with, got "
                f"{'; '.join(differences)}; give the same, or remove the folder to begin anew"
            )

    def _strange(self, what: str) -> ValueError:
        return ValueError(
            f"{self.folder}: expected what a run that was stopped left, got {what}; move it away, or name another place"
        )

    def _different_texts(self) -> ValueError:
        return ValueError(
            f"{self.folder}: expected the texts that it was begun with, got others; give those, or remove the folder "
            "to begin anew"
        )


def read_window(path: Path) -> bytes:
    """The content of a window's file. Raises: ValueError where it is damaged."""
    content = _intact(path)
    if content is None:
        raise ValueError(
            f"{path}: expected what was written, got another content; remove it, and the same command computes it again"
        )
    return content


def _intact(path: Path) -> bytes | None:
    content = files.read_bytes(path, path.stat().st_size)
    return content if path.stem.split("-")[2] == digest([content]) else None


def _different(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
