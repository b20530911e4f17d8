"""Which layer of which model is asking, read from the running call itself, so that nothing is hung onto the model.

A Hugging Face model is switched to the attention "sightline" while anybody watches it, and back when the last one is done.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from sightline.encoders import SelfAttention
from sightline.sequences import Sequences

INFLUENCE = "sightline.observe.influence shows what moves its outputs without attention weights"


@dataclass(frozen=True, eq=False)
class Asking:
    """Who called attention: the module's name, the frame of the model's outermost forward, and for Hugging Face how its batch
    lies. `cross`: the keys are another text's. `sequence`: of which row this call is, where a layer calls for one at a time."""

    name: str
    outermost: FrameType
    here: FrameType
    cross: bool = False
    sequence: int | None = None
    own: Tensor | None = None  # the rows of the batch that it has
    queries: Tensor | None = None  # rows of the batch that ask; None: all
    keys: Tensor | None = None  # rows of the batch that are keys; None: all
    shape: tuple[int, int, int] | None = None  # batch, queries and keys of the padded form
    tokens: Tensor | None = None  # the ids of the rows, padding and all


def asking(names: dict[int, str]) -> Asking | None:
    """Who is calling attention now, of the modules whose names are given by their id; None: none of them."""
    name = outermost = None
    how: dict = {"here": None}
    codes = _codes()
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code in codes:
            how |= codes[code](frame.f_locals)
            how["here"] = frame
        elif code.co_name in ("forward", "step"):
            its = frame.f_locals
            module = its.get("self")
            if isinstance(module, nn.Module) and id(module) in names:
                if name is None:
                    name = names[id(module)]
                    how["here"] = how["here"] or frame
                    other = (its.get(n) for n in ("key_value_states", "encoder_hidden_states"))
                    how["cross"] = any(isinstance(o, Tensor) for o in other)
                outermost = frame
                if how.get("tokens") is None:
                    how["tokens"] = _tokens(its)
        elif code is _CALL and how.get("tokens") is None and id(frame.f_locals["self"]) in names:
            how["tokens"] = _given(frame.f_locals)
        frame = frame.f_back
    return None if name is None else Asking(name, outermost, **how)


def _tokens(its: dict) -> Tensor | None:
    """The token ids that a forward was given, among its variables: of a Hugging Face model, or of a step of ours."""
    return next((t for name in ("input_ids", "inputs", "token") if _are_ids(t := its.get(name))), None)


_CALL = nn.Module._call_impl.__code__  # torch's way into a module, which keeps what the module was given


def _given(its: dict) -> Tensor | None:
    """The token ids that one of our encoders was called with; its own variable of them has moved on to their rows."""
    given = (x.values for x in (*its["args"], *its["kwargs"].values()) if isinstance(x, Sequences))
    return next(filter(_are_ids, given), None)


def _are_ids(t) -> bool:
    return isinstance(t, Tensor) and not t.is_floating_point()


def _codes() -> dict:
    """The functions of the room for Hugging Face through which a call comes, and what to read there; none before it is open."""
    room = sys.modules.get("sightline.huggingface.attention_function")
    if room is None:
        return {}
    return {
        inspect.unwrap(room.attend).__code__: lambda its: {
            "queries": its["rows"].queries,
            "keys": its["rows"].keys,
            "shape": (its["grid"].batch, its["grid"].queries, its["grid"].keys),
        },
        room._one_by_one.__code__: lambda its: {"sequence": its["s"], "own": its["places"][its["mine"]]},
    }


# --- switching ----------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_watched: WeakKeyDictionary[nn.Module, list] = WeakKeyDictionary()  # model -> [how many watch it, what it had]


@contextmanager
def routed(model: nn.Module) -> Iterator[None]:
    """Within it, the attention of every Hugging Face model in this one is ours.

    Raises: ValueError where there is no attention to be seen.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"watch: expected a model, a torch.nn.Module, got {type(model).__name__}; pass the model")
    parts = [part for part in model.modules() if hasattr(part, "set_attn_implementation")]
    if not parts and not any(isinstance(part, SelfAttention) for part in model.modules()):
        raise ValueError(
            f"watch: expected a model with self-attention, got {type(model).__name__} without weights to see; {INFLUENCE}"
        )
    done = []
    try:
        for part in parts:
            _switch(part)
            done.append(part)
        yield
    finally:
        for part in reversed(done):
            _switch_back(part)


def _switch(model: nn.Module) -> None:
    from sightline.huggingface.attention_function import (
        NAME,
    )  # opens the room, for a model that has opened transformers itself

    with _lock:
        if model not in _watched:
            before = [(config, config._attn_implementation) for config in _configs(model)]
            if model.config._attn_implementation != NAME:
                model.set_attn_implementation(NAME)
            if model.config._attn_implementation != NAME:
                _restore(before)
                raise ValueError(
                    f"watch: expected attention through transformers' interface, but {type(model).__name__} computes its own; "
                    f"{INFLUENCE}"
                )
            _watched[model] = [0, before]
        _watched[model][0] += 1


def _switch_back(model: nn.Module) -> None:
    with _lock:
        _watched[model][0] -= 1
        if _watched[model][0] == 0:
            _restore(_watched.pop(model)[1])


def _restore(before: list) -> None:
    for config, implementation in before:
        config._attn_implementation = implementation


def _configs(model: nn.Module) -> list:
    """The configs of a model and of its parts, which may have copies of their own; outer ones first."""
    found = [part.config for part in model.modules() if hasattr(part, "set_attn_implementation")]
    for config in found:  # which grows meanwhile
        found += [inner for name in config.sub_configs if (inner := getattr(config, name, None)) is not None]
    return list({id(config): config for config in found}.values())
