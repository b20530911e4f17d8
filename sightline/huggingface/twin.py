"""A twin of a model for trials: the caller's model does not run, and the caller's context has no effect.

The twin shares the weights, so it costs little memory, and has its own modules, buffers and configurations. It runs in
a thread of its own, whose autocast, inference mode, gradients, default device, modes and context variables are
PyTorch's defaults.

The result of a trial must hold for other weights too, since weights are trained, merged and loaded later. So weights
close to zero, which may hide a gate or a table of positions, are replaced by random ones; and 16-bit numbers become
float32, in which a fault is not lost in rounding.
"""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sightline.huggingface.row_layout import proving

SILENT = 1e-3  # weights that are nowhere larger say nothing of what they do when trained
WIDENED = 2**30  # at most so many numbers of 16 bits are widened: 4 GiB
NARROW = (torch.bfloat16, torch.float16)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

Module = TypeVar("Module", bound=nn.Module)
Result = TypeVar("Result")


def try_on_twin(module: Module, trial: Callable[[Module], Result], *, widen: bool = True) -> Result:
    """What `trial(twin)` returns or raises, in a thread of its own, on a twin of the module in evaluation.

    Raises: ValueError for a module that cannot be copied, or that draws random numbers in evaluation.
    """

    def attempt() -> Result:
        proving.set(True)
        with torch.no_grad():
            twin = _twin(module, widen)
            with _WithoutRandomNumbers():
                return trial(twin)

    with ThreadPoolExecutor(1, "sightline-trial") as thread:
        return thread.submit(Context().run, attempt).result()


def plain_class(kind: type) -> type:
    """The class that a model had before `unpad`, or before its weights were sharded."""
    if kind.__bases__[0].__name__ == "FSDPModule":  # by torch.distributed.fsdp.fully_shard
        kind = kind.__bases__[1]
    return getattr(kind, "padded_class", kind)


def module_of(hook: Callable) -> str:
    """The name of the Python module that defines a hook."""
    return getattr(hook, "__module__", None) or type(hook).__module__


def _twin(module: Module, widen: bool) -> Module:
    name, parts = plain_class(type(module)).__name__, list(module.modules())
    memo: dict[int, Any] = _weights(parts, widen)
    for part in parts:
        for kind in HOOKS:  # those that compute a weight stay, such as weight_norm's
            hooks = dict(getattr(part, kind)).items()
            kept = [(i, hook) for i, hook in hooks if module_of(hook).startswith("torch.nn.utils")]
            memo[id(getattr(part, kind))] = OrderedDict(kept)
    try:
        twin = copy.deepcopy(module, memo).eval()
    except (TypeError, RuntimeError, NotImplementedError, AssertionError, AttributeError) as error:
        raise ValueError(
            f"{name}: expected a model that can be copied, to be tried on a few tokens, got {type(error).__name__}: "
            f"{error}; use it as it is"
        ) from error
    for part in twin.modules():
        part.__class__ = plain_class(type(part))
        part.__dict__.pop("_output_capturing_hooks_installed", None)  # by transformers, for its optional outputs
        if "forward" in vars(part):
            _keep_or_drop_forward(part, name)
    return twin


def _weights(parts: list[nn.Module], widen: bool) -> dict[int, Tensor]:
    """The tensors of the twin by the ids of the model's."""
    weights = {id(t): t for part in parts for t in part._parameters.values() if t is not None}
    buffers = {id(t): t for part in parts for t in part._buffers.values() if t is not None}
    others = {id(t): t for part in parts for t in vars(part).values() if isinstance(t, Tensor)}
    narrow = [t for t in {**others, **weights}.values() if t.dtype in NARROW]
    wide = widen and sum(t.numel() for t in narrow) <= WIDENED
    random = torch.Generator().manual_seed(0)

    def numbers(t: Tensor) -> Tensor:
        t = t.detach()
        return t.float() if wide and t.dtype in NARROW and type(t) in (Tensor, nn.Parameter) else t

    memo = {key: numbers(t) for key, t in others.items()}
    memo |= {key: numbers(t.clone()) for key, t in buffers.items()}
    for key, weight in weights.items():
        if type(weight) is not nn.Parameter:  # of a class for packed or sharded weights
            memo[key] = weight
            continue
        values = numbers(weight)
        memo[key] = nn.Parameter(_random_like(values, random) if _is_silent(values) else values, False)
    return memo


def _is_silent(weight: Tensor) -> bool:
    if weight.device.type == "meta" or not weight.is_floating_point() or not weight.numel():
        return False
    few = weight.flatten()[:4096] if weight.is_contiguous() else weight
    return not bool(few.abs().amax() >= SILENT) and bool(weight.abs().amax() < SILENT)


def _random_like(weight: Tensor, random: torch.Generator) -> Tensor:
    values = torch.rand(weight.shape, generator=random)
    if weight.dim() < 2:
        values = 0.1 + 0.4 * values  # a gate is open
    else:
        values = (2 * values - 1) * 3**0.5 * weight.shape[-1] ** -0.5
    return values.to(weight.device, weight.dtype)


def _keep_or_drop_forward(part: nn.Module, name: str) -> None:
    """Treats a forward set on the module: one for precision or compilation is dropped, one of the twin stays."""
    forward = vars(part)["forward"]
    if isinstance(forward, partial):  # as accelerate loads weights that lie elsewhere
        belongs = any(one is part for one in forward.args)
    else:
        inner = inspect.unwrap(forward)
        if getattr(inner, "__func__", inner) is inspect.unwrap(type(part).forward):
            del part.forward
            return
        belongs = isinstance(forward, MethodType) and forward.__self__ is part
    if not belongs:
        raise ValueError(
            f"{name}: expected the forward of {type(part).__name__} itself, got a function set in its place, which "
            "belongs to one model and cannot be tried on a copy; set it on the class"
        )


class _WithoutRandomNumbers(TorchDispatchMode):
    """Refuses to draw from the random generators that all threads share."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if torch.Tag.nondeterministic_seeded in function.tags and "attention" not in function.name():
            raise ValueError(
                f"it draws random numbers in evaluation ({function.name()}), so that no two runs are alike"
            )
        return function(*args, **(kwargs or {}))
