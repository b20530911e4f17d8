"""Arguments of the C functions that compute from a watched call of attention: a struct of pointers, strides and sizes.

A `call` is an `observe.calls.Call`. Whoever fills a struct keeps its tensors and arrays until the function returns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

STEPS = "q_row q_head q_one k_row k_head k_one lse_row lse_head".split()
POINTER, INTEGER, DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


def struct(pointers: str, integers: str, doubles: str) -> type[ctypes.Structure]:
    """The type of a C struct: the pointers, the numbers in `integers`, STEPS, then the doubles, named in this order."""
    names = {POINTER: pointers.split(), INTEGER: [*integers.split(), *STEPS], DOUBLE: doubles.split()}
    fields = [(name, kind) for kind, several in names.items() for name in several]
    return type("Call", (ctypes.Structure,), {"_fields_": fields})


def is_readable(call) -> bool:
    """Whether a call is float32 on the CPU."""
    tensors = (call.q, call.k, call.lse, *(call.bias or ()))
    return all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)


def of_call(call, longest: int) -> dict[str, Any]:
    """The fields of a call that all structs have; a side of its pattern is at most `longest`."""
    sides = {"left": call.pattern.left, "right": call.pattern.right}
    values = {side: longest if reach is None else min(reach, longest) for side, reach in sides.items()}
    values |= {"q": call.q, "k": call.k, "lse": call.lse, "groups": call.groups.long().contiguous()}
    strides = (*call.q.stride(), *call.k.stride(), *call.lse.stride())
    return values | {"width": call.q.shape[2], "scale": call.scale} | dict(zip(STEPS, strides, strict=True))


def fill(arguments: ctypes.Structure, values: Mapping[str, Any]) -> None:
    """Sets fields: of tensors and arrays the address, None for NULL, else the number."""
    for name, value in values.items():
        if isinstance(value, Tensor):
            value = value.data_ptr()
        elif isinstance(value, np.ndarray):
            value = value.ctypes.data
        setattr(arguments, name, value)
