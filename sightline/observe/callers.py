"""Callers: which layer of a watched model makes a call of attention, and in which forward pass.

The call's origin names the layer. Which forwards are running is noted by public hooks, which are on a model while
anybody watches it and only then. They work in contexts that watch and do nothing elsewhere: in other threads, or on a
copy of the model that was made meanwhile.
"""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch._compile import _disable_dynamo

from sightline.attention import Origin, Request
from sightline.encoders import Encoder
from sightline.sequences import Sequences

IDS = ("input_ids", "inputs", "token")  # arguments that hold token ids
OTHER_KEYS = {"key_value_states", "encoder_hidden_states"}  # arguments of cross-attention


@dataclass(frozen=True, eq=False)
class Forward:
    """A running forward; the object itself identifies it.

    `tokens` are the token ids it was called with, if any; `cross` says that it was called with the keys of another
    text; `endless` that its end is not noted: it began with a lookup of embeddings, as in `Encoder.step`.
    """

    module: nn.Module
    tokens: Tensor | None
    cross: bool = False
    endless: bool = False


@dataclass(frozen=True, eq=False)
class Caller:
    """The layer that makes a call of attention.

    `times` counts the layer's calls in this pass, `first_of_pass` says that the call begins a pass, and
    `first_of_layer` that it does not go on with the next sequence of the layer's last call.
    """

    name: str
    origin: Origin
    tokens: Tensor | None
    cross: bool
    times: int
    first_of_pass: bool
    first_of_layer: bool


class Callers:
    """Names the callers of one model, call by call, in the order in which they come."""

    def __init__(self, model: nn.Module):
        self._names = {id(part): name or type(part).__name__ for name, part in model.named_modules()}
        self.forget()

    def forget(self) -> None:
        self._pass: Forward | None = None
        self._times: Counter[str] = Counter()
        self._last: tuple[str, int] | None = None  # layer and sequence of the last call

    def caller(self, request: Request) -> Caller | None:
        """Who makes this call; None for a call that the model does not make."""
        running = [forward for forward in _running.get() or () if id(forward.module) in self._names]
        origin = request.origin or Origin()
        module = origin.module
        if id(module) not in self._names:  # a module that states no origin, inside one that is watched
            module = next((forward.module for forward in reversed(running) if not forward.endless), None)
        if module is None:
            return None
        name, outermost = self._names[id(module)], running[0] if running else None
        goes_on = False
        if outermost is self._pass and origin.sequence is not None and self._last is not None:
            goes_on = name == self._last[0] and origin.sequence > self._last[1]
        # where no forward is noted, a pass ends when a layer is called again
        first_of_pass = outermost is not self._pass or outermost is None and not goes_on and name in self._times
        if first_of_pass:
            self._pass, self._times = outermost, Counter()
        self._times[name] += not goes_on
        self._last = None if origin.sequence is None else (name, origin.sequence)
        tokens = next((forward.tokens for forward in reversed(running) if forward.tokens is not None), None)
        cross = any(forward.cross for forward in running if forward.module is module)
        return Caller(name, origin, tokens, cross, self._times[name], first_of_pass, not goes_on)


# --- hooks ------------------------------------------------------------------------------------------------------------

_running: ContextVar[tuple[Forward, ...] | None] = ContextVar("running", default=None)  # None: nobody watches here


class WhileWatched:
    """Changes a module for its first watcher and undoes the change after its last one, in whatever threads."""

    def __init__(self, change: Callable[..., Callable[[], object]]):
        """`change(module, ...)` gives what undoes it."""
        self._change, self._lock = change, threading.Lock()
        self._watched: WeakKeyDictionary[nn.Module, list] = WeakKeyDictionary()  # module -> [number of watchers, undo]

    @contextmanager
    def __call__(self, module: nn.Module, *arguments) -> Iterator[None]:
        with self._lock:
            if module not in self._watched:
                self._watched[module] = [0, self._change(module, *arguments)]
            self._watched[module][0] += 1
        try:
            yield
        finally:
            with self._lock:
                self._watched[module][0] -= 1
                if self._watched[module][0] == 0:
                    self._watched.pop(module)[1]()


@contextmanager
def forwards_noted(model: nn.Module) -> Iterator[None]:
    """Within it, `Callers` of this context know which forwards of the model are running."""
    modules = _entrances(model)
    with ExitStack() as stack:
        token = _running.set(_running.get() or ())
        stack.callback(_running.reset, token)
        for module, embeds in modules.items():
            stack.enter_context(_hooked(module, embeds))
        yield


def _entrances(model: nn.Module) -> dict[nn.Module, bool]:
    """The modules through which a pass can begin, and those that get other keys or token ids; True: an embedding."""
    wholes = [part for part in model.modules() if isinstance(part, Encoder) or is_huggingface(part)]
    inside = {part for whole in wholes for part in whole.modules() if part is not whole}.difference(wholes)
    tables = [_embedding(whole) for whole in wholes]
    modules = {table: True for table in tables if table is not None}
    modules |= {
        part: False for part in model.modules() if part not in inside or OTHER_KEYS & {*_parameters(type(part))}
    }
    return modules


def is_huggingface(module: nn.Module) -> bool:
    """Whether it is a model of transformers, told without importing that."""
    return hasattr(module, "set_attn_implementation")


def _embedding(whole: Any) -> nn.Module | None:
    try:
        return whole.embedding if isinstance(whole, Encoder) else whole.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return None


def _hook(module: nn.Module, embeds: bool) -> Callable[[], object]:
    begin = _begin_endless if embeds else _begin
    handles = [module.register_forward_pre_hook(begin, with_kwargs=True, prepend=True)]
    if not embeds:
        handles.append(module.register_forward_hook(_end, with_kwargs=True, always_call=True))
    return lambda: [handle.remove() for handle in handles]


_hooked = WhileWatched(_hook)


@_disable_dynamo
def _begin(module: nn.Module, args: tuple, kwargs: dict) -> None:
    running = _running.get()
    if running is not None:
        named = dict(zip(_parameters(type(module)), args, strict=False)) | kwargs
        cross = any(isinstance(named.get(name), Tensor) for name in OTHER_KEYS)
        ids = [named.get(name) for name in IDS] + [x.values for x in named.values() if isinstance(x, Sequences)]
        begun = Forward(module, _token_ids(ids), cross)
        _running.set((*(forward for forward in running if not forward.endless), begun))


@_disable_dynamo
def _begin_endless(module: nn.Module, args: tuple, kwargs: dict) -> None:
    running = _running.get()
    if running is not None and all(forward.endless for forward in running):
        _running.set((Forward(module, _token_ids([*args, *kwargs.values()]), endless=True),))


@_disable_dynamo
def _end(module: nn.Module, args: tuple, kwargs: dict, output) -> None:
    running = _running.get() or ()
    place = next((i for i in reversed(range(len(running))) if running[i].module is module), None)
    if place is not None:
        _running.set(running[:place])


def _token_ids(candidates: Iterable) -> Tensor | None:
    return next((t for t in candidates if isinstance(t, Tensor) and not t.is_floating_point()), None)


@lru_cache(1024)
def _parameters(kind: type[nn.Module]) -> tuple[str, ...]:
    """The names of a forward's parameters, without `self`."""
    try:
        return tuple(inspect.signature(kind.forward).parameters)[1:]
    except (TypeError, ValueError):  # compiled by TorchScript
        return ()
