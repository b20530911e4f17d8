"""Packing by the caller: offsets, positions that begin again, or packed input that the model does not pass on.

Positions mean packing only where they can mean nothing else. As in transformers, a call with an attention_mask, even
one of ones, is not packed by its positions; without a mask a row is packed only if each break in its positions returns
to the row's first position. Any other row is taken as eager attention takes it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from sightline.huggingface.row_layout import Packing, packing_of_numbers

_FORWARDS = (
    "_call_impl",
    "forward",
    "wrapper",
)  # torch's call of a module, the model's own, and transformers' around it


def packing_of_offsets(cu_q: Tensor, cu_k: Tensor) -> Packing:
    """Offsets as transformers gives them, brought to the CPU once for all layers."""
    return _remembered(
        cu_q, _state(cu_q, cu_k), lambda: Packing(*(t.detach().to("cpu", torch.int64) for t in (cu_q, cu_k)))
    )


def packing_of_positions(positions: Tensor, batch: int, queries: int) -> Packing | None:
    """A new sequence begins where positions begin again; None where that is nowhere within a row."""
    if positions.dim() != 2 or positions.shape[1] != queries or len(positions) not in (1, batch):
        return None

    def packing() -> Packing | None:
        begins = _begins_again(positions)
        if begins.any():
            return packing_of_numbers(pad(begins.cumsum(1), (1, 0)).expand(batch, -1))
        return None

    state = _state(positions)
    return _remembered(positions, state and (*state, batch), packing)


def _begins_again(positions: Tensor) -> Tensor:
    """Where a row [B, L] begins again, bool [B, L - 1]; nowhere in a row that breaks off in any other way."""
    breaks = positions.diff(dim=1) != 1
    returns = positions[:, 1:] == positions[:, :1]
    return breaks & (returns | ~breaks).all(1, keepdim=True)


def _state(*tensors: Tensor) -> tuple | None:
    """What changes whenever the tensors do; None in inference mode, which counts no versions."""
    if any(t.is_inference() for t in tensors):
        return None
    return tuple((t.data_ptr(), t._version) for t in tensors)


def _remembered(tensor: Tensor, state: tuple | None, make: Callable[[], Packing | None]) -> Any:
    """`make()`, kept on the tensor for as long as its state is the same."""
    known = getattr(tensor, "_sightline", None)
    if state is None or known is None or known[0] != state:
        known = state, make()
        if state is not None:
            tensor._sightline = known  # pyright: ignore[reportAttributeAccessIssue]  # tensors take any attribute
    return known[1]


@dataclass(frozen=True)
class PackedInput:
    """The outermost running model, whose caller gave it packed input.

    `axes` says that the `positions` [B, L] come from positions on several axes.
    """

    model: PreTrainedModel
    positions: Tensor | None
    axes: bool


def packed_input() -> PackedInput | None:
    """The packed input of the running call, if it has such.

    Many models take packed input and drop it before their attention, which then cannot know of it.
    """
    call = outermost_call()
    if call is None:
        return None
    model, arguments = call
    offsets, positions = arguments.get("cu_seq_lens_q"), arguments.get("position_ids")
    axes = isinstance(positions, Tensor) and positions.dim() == 3
    if isinstance(positions, Tensor) and axes:
        positions = positions_of_text(positions)
    elif not isinstance(positions, Tensor) or positions.dim() != 2:
        positions = None
    several = offsets is not None and len(offsets) > 2
    if not several and positions is not None and arguments.get("attention_mask") is None:
        several = bool(_begins_again(positions).any())
    return PackedInput(model, positions, axes) if several else None


def positions_of_text(axes: Tensor) -> Tensor:
    """Positions [B, L] of the text, from positions on several axes [R, B, L].

    Of four rows the first is the text's, by transformers' convention. Otherwise a text begins where every axis returns
    to its first value and none ever lies below that: an image repeats the values of some axes, but never of all.
    """
    if len(axes) == 4:
        return axes[0]
    places = torch.arange(axes.shape[2], device=axes.device).expand(axes.shape[1:])
    first = axes[:, :, :1]
    begins = (axes == first).all(0) & (axes >= first).all(0).all(1, keepdim=True)
    begins[:, :1] = True
    return places - torch.where(begins, places, 0).cummax(1).values


def outermost_call() -> tuple[PreTrainedModel, dict] | None:
    """The outermost model of the running call, and its arguments by name; None outside of any.

    The only function that reads running frames: outside of watching no hook is on a model, and no other public way
    leads from an attention layer to what its model was called with.
    """
    frame, outermost = sys._getframe(1), None
    while frame is not None:
        local = frame.f_locals if frame.f_code.co_name in _FORWARDS else {}
        if isinstance(local.get("self"), PreTrainedModel) and "kwargs" in local:
            outermost = local
        frame = frame.f_back
    if outermost is None:
        return None
    model, forward = outermost["self"], type(outermost["self"]).forward
    parameters = inspect.signature(forward).parameters
    local = {  # where `forward` itself was called and not the module
        name: outermost[name]
        for name in list(parameters)[1:]
        if name in outermost and parameters[name].kind is not inspect.Parameter.VAR_KEYWORD
    }
    return model, local | arguments_by_name(forward, model, outermost.get("args", ()), outermost["kwargs"])


def arguments_by_name(forward: Callable, model: PreTrainedModel, args: tuple, kwargs: dict) -> dict:
    """The arguments of a call of the model's forward, without the model."""
    bound = inspect.signature(forward).bind_partial(model, *args, **kwargs)
    parameters = bound.signature.parameters
    arguments = dict(list(bound.arguments.items())[1:])
    for name in [name for name in arguments if parameters[name].kind is inspect.Parameter.VAR_KEYWORD]:
        arguments |= arguments.pop(name)
    return arguments
