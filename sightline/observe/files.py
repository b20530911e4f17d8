"""Observations in a folder: written aside and renamed, read a layer at a time, refused whole where a part is damaged.

observation.json          version of the format; of each layer what is no tensor; the sha256 of each file, and its own
layer-000.safetensors     statistics, offsets and lse; queries, keys and biases where the map was kept
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from sightline.attention import Pattern
from sightline.files import make_folder, write_files
from sightline.observe.calls import Call
from sightline.observe.layer import Layer
from sightline.observe.statistics import Statistics

VERSION = 1
NOTE = "observation.json"
STATISTICS = [field.name for field in fields(Statistics)]
KEPT = ("q", "k", "groups")  # of a call whose map was kept
LAYER_KEYS = {"name", "heads", "pattern", "scale", "softcap", "map", "biases"}


def save(seen, folder: str | Path) -> None:
    """Writes the watched layers of a `Seen` to a new folder.

    Raises: ValueError where the folder exists, or nothing was seen.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise ValueError(f"{folder}: expected a new folder, got one that exists; name another")
    layers = [(name, seen.layer(name)) for name in seen.watched]
    if not layers:
        raise ValueError(
            f"{folder}: expected something that was seen, got nothing; run the model inside the context first"
        )
    aside = folder.with_name(f"{folder.name}.{secrets.token_hex(6)}.partial")
    make_folder(aside)
    try:
        notes = [_write(layer, name, aside / _file(number)) for number, (name, layer) in enumerate(layers)]
        note = {"version": VERSION, "names": seen.names, "layers": notes}
        note["sha256"] = _digest(note)
        write_files(aside, {NOTE: json.dumps(note, indent=1).encode()})
        aside.rename(folder)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{folder}: expected to write it, got: {error}; make room, or name another") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


class Stored:
    """The layers of a folder, each read at its first use.

    Raises: ValueError where a file is missing, damaged, or of another version.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            note = json.loads((self.folder / NOTE).read_text("utf-8"))
            version, self.notes = note["version"], note["layers"]
            self.names = {name: number for number, name in enumerate(note["names"])}
            self.known = {layer["name"]: number for number, layer in enumerate(self.notes)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{folder}: expected {NOTE} as `save` writes it, got {_summary(error)}; save it again"
            ) from error
        if version != VERSION:
            raise ValueError(
                f"{folder}: expected an observation of version {VERSION}, got {version!r}; "
                "use the sightline that wrote it"
            )
        missing = {key for layer in self.notes for key in LAYER_KEYS - layer.keys()}
        if missing or note.get("sha256") not in (None, _digest(note)):  # older ones have none
            what = f"none of {', '.join(sorted(missing))}" if missing else "something else"
            raise ValueError(f"{folder}: expected {NOTE} as `save` writes it, got {what}; save it again")
        for number in range(len(self.notes)):
            self.check(number)
        self._layers: dict[str, Layer] = {}

    def check(self, number: int) -> None:
        """Raises ValueError unless the file is whole."""
        file, expected = self.folder / _file(number), self.notes[number].get("sha256")
        needed = {*STATISTICS, "lse", "offsets", "key_offsets"} | (
            set(KEPT) if self.notes[number].get("map") else set()
        )
        try:
            with safe_open(file, "pt") as tensors:
                missing = needed - set(tensors.keys())
            changed = expected is not None and expected != _digest(file)
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"{file}: expected the tensors of a layer, got {_summary(error)}; save it again"
            ) from error
        if missing:
            raise ValueError(
                f"{file}: expected the tensors of a layer, got none named {', '.join(sorted(missing))}; save it again"
            )
        if changed:
            raise ValueError(
                f"{file}: expected the tensors of a layer, got other bytes than were written; save it again"
            )

    def layer(self, name: str) -> Layer | None:
        if name not in self.known:
            return None
        if name not in self._layers:
            number = self.known[name]
            self._layers[name] = _read(load_file(self.folder / _file(number)), self.notes[number])
        return self._layers[name]


def _write(layer: Layer, name: str, file: Path) -> dict:
    call = layer.kept
    tensors = {name: getattr(layer.statistics, name) for name in STATISTICS}
    tensors |= {"lse": call.lse, "offsets": call.offsets, "key_offsets": call.key_offsets}
    if call.q is not None:
        tensors |= {name: getattr(call, name) for name in KEPT}
        tensors |= {f"bias.{s}": one for s, one in enumerate(call.bias or ())}
    save_file(
        {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}, file
    )
    return {
        "name": name,
        "heads": layer.heads,
        "pattern": [call.pattern.left, call.pattern.right],
        "scale": call.scale,
        "softcap": call.softcap,
        "map": call.q is not None,
        "biases": 0 if call.q is None else len(call.bias or ()),
        "sha256": _digest(file),
    }


def _read(tensors: dict, note: dict) -> Layer:
    statistics = Statistics(*(tensors[name] for name in STATISTICS))
    bias = tuple(tensors[f"bias.{s}"] for s in range(note["biases"])) or None
    own = {name: tensors.get(name) for name in ("q", "k", "lse", "offsets", "key_offsets", "groups")}
    numbers = {name: note[name] for name in ("scale", "softcap")}
    call = Call(**own, **numbers, pattern=Pattern(*note["pattern"]), bias=bias)
    return Layer(note["name"], note["heads"], call, lambda: statistics)


def _digest(of: Path | dict) -> str:
    """The sha256 of a file, or of a note without its own."""
    if isinstance(of, dict):
        note = json.dumps({name: value for name, value in of.items() if name != "sha256"}, sort_keys=True)
        return hashlib.sha256(note.encode()).hexdigest()
    with of.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(number: int) -> str:
    return f"layer-{number:03d}.safetensors"


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
