"""Puts a run on disk so that a kill at any instant loses nothing: one file, written aside and renamed.

    checkpoint.safetensors
        model/<name>                  the weights
        optimizer/<name>/<moment>     what AdamW remembers of each of them
        best/<name>                   the weights with the best validation so far
        metadata: state               JSON: the step, the seconds, the best value, ... (`loop.State`)

No state of a random generator is kept: the order of the data and the dropout of a step follow from (seed, step).
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor, nn

from sightline.files import make_folder, write

__all__ = ["as_bytes", "fill", "load", "make_folder", "read_tensors", "save", "write"]


def as_bytes(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Tensors as the content of a safetensors file."""
    return safetensors.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises: ValueError, naming the file, where it is missing, cut short or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except FileNotFoundError:
        raise ValueError(f"{path}: expected a file of weights, got none; check the folder") from None
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, got one cut short or damaged ({error}); use another copy"
        ) from None


def fill(path: Path, wanted: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Copies tensors into those of the same names, if each is there and of the same shape.

    Raises: ValueError, naming the file and the first tensor that is missing, differs, or has no place.
    """
    for name in [*wanted, *tensors]:
        if name not in tensors or name not in wanted or wanted[name].shape != tensors[name].shape:
            expected, got = (list(ts[name].shape) if name in ts else "none" for ts in (wanted, tensors))
            raise ValueError(
                f"{path}: expected {name} of shape {expected}, got {got}; the file belongs to another configuration"
            )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(tensors[name])


def save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Tensor], state: dict
) -> None:
    """Writes a checkpoint; the one before stays until this one is whole. Raises as `write`."""
    content = as_bytes(_named(model, optimizer, best), {"state": json.dumps(state)})
    write(path.parent, {path.name: content})


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict]:
    """Fills model and optimizer from a checkpoint; returns the best weights (none: an empty dict) and the state.

    Raises: ValueError, naming the file, for everything that can be wrong with it; the model is then as before.
    """
    path.with_name(path.name + ".partial").unlink(missing_ok=True)  # left by a kill while saving
    tensors, metadata = read_tensors(path)
    try:
        state = json.loads(metadata["state"])
    except (KeyError, ValueError):
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
