"""Which packing a caller means: told by offsets, by positions that begin anew, or found in the running call itself.

Positions tell of packing only where they can mean nothing else. As in transformers, a call with an attention_mask, be it all
ones, is not packed by its positions; and without one a row is packed only if each break in its positions is a return to the
row's first. Any other row is what eager attention takes it for.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from sightline.huggingface.row_layout import Grid, Packing, of_sequences


def of_offsets(cu_q: Tensor, cu_k: Tensor) -> Packing:
    """Offsets as transformers gives them, brought to the CPU once for all layers."""
    state, known = _state(cu_q, cu_k), getattr(cu_q, "_sightline", None)
    if known is None or known[0] != state:
        known = state, Packing(*(t.detach().to("cpu", torch.int64) for t in (cu_q, cu_k)))
        if state is not None:
            cu_q._sightline = known
    return known[1]


def of_positions(positions: Tensor, grid: Grid) -> Packing | None:
    """Where positions begin anew, a new sequence begins; None where none does within a row."""
    if positions.dim() != 2 or positions.shape[1] != grid.queries or len(positions) not in (1, grid.batch):
        return None
    state, known = _state(positions), getattr(positions, "_sightline", None)
    if known is None or known[0] != (state, grid.batch):
        several = _anew(positions)
        found = of_sequences(pad(several.cumsum(1), (1, 0)).expand(grid.batch, -1)) if several.any() else None
        known = (state, grid.batch), found
        if state is not None:
            positions._sightline = known
    return known[1]


def _anew(positions: Tensor) -> Tensor:
    """Where a row [B, L] begins anew, bool [B, L - 1]; nowhere in a row that breaks off in any other way."""
    breaks = positions.diff(dim=1) != 1
    returns = positions[:, 1:] == positions[:, :1]
    return breaks & (returns | ~breaks).all(1, keepdim=True)


def _state(*tensors: Tensor) -> tuple | None:
    """What changes whenever the tensors do; None for those of inference mode, which keep no count and are read each time."""
    if any(t.is_inference() for t in tensors):
        return None
    return tuple((t.data_ptr(), t._version) for t in tensors)


@dataclass(frozen=True)
class Asked:
    """Packed input that the outermost model's caller gave it; `axes` says that the positions [B, L] are read from several axes."""

    model: PreTrainedModel
    positions: Tensor | None
    axes: bool


def asked_packing() -> Asked | None:
    """The outermost model and its positions, if its caller gave it packed input; found in the running call itself.

    Many models take such input and drop it before it comes to their attention, which then cannot tell.
    """
    call = outermost_call()
    if call is None:
        return None
    model, arguments = call
    offsets, positions = arguments.get("cu_seq_lens_q"), arguments.get("position_ids")
    axes = isinstance(positions, Tensor) and positions.dim() == 3
    if axes:
        positions = positions_of_text(positions)
    elif not isinstance(positions, Tensor) or positions.dim() != 2:
        positions = None
    several = offsets is not None and len(offsets) > 2
    if not several and positions is not None and arguments.get("attention_mask") is None:
        several = bool(_anew(positions).any())
    return Asked(model, positions, axes) if several else None


def positions_of_text(axes: Tensor) -> Tensor:
    """Positions [B, L] of the text, from positions on several axes [R, B, L].

    Of four rows the first is the text's, by transformers' convention. Otherwise a text begins where every axis returns to its
    first value and none ever lies below that: an image repeats the values of some axes, but never of all.
    """
    if len(axes) == 4:
        return axes[0]
    places = torch.arange(axes.shape[2], device=axes.device).expand(axes.shape[1:])
    first = axes[:, :, :1]
    begins = (axes == first).all(0) & (axes >= first).all(0).all(1, keepdim=True)
    begins[:, :1] = True
    return places - torch.where(begins, places, 0).cummax(1).values


def outermost_call() -> tuple[PreTrainedModel, dict] | None:
    """The outermost model of the running call, and its arguments by name; None outside of any."""
    frame, outermost = sys._getframe(1), None
    while frame is not None:
        local = frame.f_locals if frame.f_code.co_name in _CALLS else {}
        if isinstance(local.get("self"), PreTrainedModel) and "kwargs" in local:
            outermost = local
        frame = frame.f_back
    if outermost is None:
        return None
    model, forward = outermost["self"], type(outermost["self"]).forward
    local = {  # where `forward` itself was called, past torch's way into a module
        name: outermost[name]
        for name, parameter in list(inspect.signature(forward).parameters.items())[1:]
        if name in outermost and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    return model, local | arguments_by_name(forward, model, outermost.get("args", ()), outermost["kwargs"])


def arguments_by_name(forward: Callable, model: PreTrainedModel, args: tuple, kwargs: dict) -> dict:
    """The arguments of a call of the model's forward, without the model."""
    bound = inspect.signature(forward).bind_partial(model, *args, **kwargs)
    kinds = {name: parameter.kind for name, parameter in bound.signature.parameters.items()}
    arguments = dict(list(bound.arguments.items())[1:])
    for name in [name for name in arguments if kinds[name] is inspect.Parameter.VAR_KEYWORD]:
        arguments |= arguments.pop(name)
    return arguments


_CALLS = ("_call_impl", "forward", "wrapper")  # torch's way into a module, the model's own, and transformers' around it
