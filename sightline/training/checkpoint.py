"""A run on disk, from which a kill at any instant takes nothing: one file, written aside and renamed.

    checkpoint.safetensors
        model/<name>                  the weights
        optimizer/<name>/<moment>     the moments of AdamW for each of them
        best/<name>                   the weights with the best validation so far
        metadata: state               JSON: the step, the seconds, the best value, ... (`state.State`)
        metadata: run, sha256         the digest of the run's config.json, and of this file (`digests.py`)

No state of a random generator is kept: the order of the data and the dropout of a step follow from (seed, step).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor, nn

from sightline.files import check_name, open_plain, write_files
from sightline.training.digests import check_stamp, stamped


def as_bytes(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Tensors as the content of a safetensors file with its own digest."""
    content = safetensors.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    return stamped(content, metadata or {})


def read_tensors(path: Path, stamp_required: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file, which must have its digest if `stamp_required`.

    Raises: ValueError, naming the file, where it is missing, cut short, damaged or something else.
    """
    with _opened(path) as file:
        check_stamp(path, stamp_required)
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a safetensors file, checked against the length of the file; reads its header only.

    Raises: ValueError as `read_tensors`.
    """
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    check_name(path)
    if not path.exists():
        raise ValueError(f"{path}: expected a file of weights, got none; check the folder")
    with open_plain(path):  # not a pipe, for which safetensors would wait
        pass
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, got one cut short or damaged ({error}); use another copy"
        ) from None


def check_shapes(path: Path, expected: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises: ValueError, naming the file and the first tensor that is missing, differs, or has no place."""
    for name in [*expected, *shapes]:
        if expected.get(name) != shapes.get(name):
            one, other = (list(some[name]) if name in some else "none" for some in (expected, shapes))
            raise ValueError(
                f"{path}: expected {name} of shape {one}, got {other}; the file belongs to another configuration"
            )


def fill(path: Path, targets: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Copies tensors into targets of the same names, if all are there, of the same shapes and types.

    Raises: ValueError as `check_shapes`, and for another type.
    """
    check_shapes(path, *({name: tuple(t.shape) for name, t in some.items()} for some in (targets, tensors)))
    for name, target in targets.items():
        if target.dtype != tensors[name].dtype:
            raise ValueError(f"{path}: expected {name} in {target.dtype}, got {tensors[name].dtype}; use another copy")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor], state: dict, run: str = ""
) -> None:
    """Writes a checkpoint of a run; the one before stays until this one is whole. Raises: ValueError as `write`."""
    content = as_bytes(_named(model, optimizer, best), {"state": json.dumps(state), "run": run})
    write_files(path.parent, {path.name: content})


def load(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: str = ""
) -> tuple[dict[str, Tensor], dict]:
    """Fills model and optimizer from a checkpoint, which must be of `run` where that is known.

    Returns: the best weights (none: an empty dict) and the state.
    Raises: ValueError, naming the file, where it is damaged or does not fit; the model is then unchanged.
    """
    tensors, metadata = read_tensors(path, stamp_required=bool(run))
    if run and metadata.get("run") != run:
        raise ValueError(
            f"{path}: expected a checkpoint of this run, got one of another; restore its own, or remove it to begin "
            "anew"
        )
    try:
        state = json.loads(metadata["state"])
    except (KeyError, ValueError, RecursionError):
        raise ValueError(
            f"{path}: expected a checkpoint, got a safetensors file without its state; check the path"
        ) from None
    has_best = any(name.startswith("best/") for name in tensors)
    best = {name: torch.empty_like(t) for name, t in model.state_dict().items()} if has_best else {}
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    try:
        fill(path, _named(model, optimizer, best), tensors)
    except ValueError:
        optimizer.state.clear()
        raise
    return best, state


def _named(model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of a run under its one name."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for name, parameter in model.named_parameters():
        for moment, tensor in optimizer.state[parameter].items():
            tensors[f"optimizer/{name}/{moment}"] = tensor
    return tensors
