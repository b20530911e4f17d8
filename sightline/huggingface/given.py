"""Which packing a caller means: told by offsets, by positions that begin anew, or found in the running call itself.

Positions tell of packing only where they can mean nothing else. As in transformers, a call with an attention_mask, be it all
ones, is not packed by its positions; and without one a row is packed only if each break in its positions is a return to the
row's first. Any other row is what eager attention takes it for.
"""

from __future__ import annotations

import inspect
import sys

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from sightline.huggingface.rows import Grid, Packing, of_sequences


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


def asked_packing() -> tuple[PreTrainedModel, Tensor | None] | None:
    """The outermost model and its positions, if its caller gave it packed input; found in the running call itself.

    Many models take such input and drop it before it comes to their attention, which then cannot tell.
    """
    frame, outermost = sys._getframe(1), None
    while frame is not None:
        held = frame.f_locals if frame.f_code.co_name in _CALLS else {}
        if isinstance(held.get("self"), PreTrainedModel) and "kwargs" in held:
            outermost = held
        frame = frame.f_back
    if outermost is None:
        return None
    model, others = outermost["self"], outermost["kwargs"]
    given = (
        inspect.signature(type(model).forward)
        .bind_partial(model, *outermost.get("args", ()), **others)
        .arguments
    )
    given = {**outermost, **given, **given.get("kwargs", {})}
    offsets, positions = (given.get(name) for name in ("cu_seq_lens_q", "position_ids"))
    counted = isinstance(positions, Tensor) and positions.dim() == 2
    several = offsets is not None and len(offsets) > 2
    if not several and counted and given.get("attention_mask") is None:
        several = bool(_anew(positions).any())
    return (model, positions if counted else None) if several else None


_CALLS = (
    "_call_impl",
    "forward",
    "wrapper",
)  # torch's way into a module, the model's own, and transformers' around it
