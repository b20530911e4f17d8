"""Routing: a Hugging Face model has the attention "sightline" while anybody watches it, and its own again afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

from torch import nn

from sightline.encoders import SelfAttention
from sightline.observe.callers import forwards_noted, is_huggingface

INFLUENCE = "sightline.observe.influence shows what moves its outputs without attention weights"

_lock = threading.Lock()
_watched: WeakKeyDictionary[nn.Module, list] = WeakKeyDictionary()  # model -> [number of watchers, attention before]


@contextmanager
def routed(model: nn.Module) -> Iterator[None]:
    """Within it, every Hugging Face model in this one has our attention, and `Callers` know of its forwards.

    Raises: ValueError where there is no attention to be seen.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"watch: expected a model, a torch.nn.Module, got {type(model).__name__}; pass the model")
    parts = [part for part in model.modules() if is_huggingface(part)]
    if not parts and not any(isinstance(part, SelfAttention) for part in model.modules()):
        raise ValueError(
            f"watch: expected a model with self-attention, got {type(model).__name__} without weights to see; "
            f"{INFLUENCE}"
        )
    with ExitStack() as stack:
        for part in parts:
            _switch(part)
            stack.callback(_switch_back, part)
        stack.enter_context(forwards_noted(model))
        yield


def _switch(model: nn.Module) -> None:
    from sightline.huggingface.attention_function import NAME  # a model of transformers has imported that already

    with _lock:
        if model not in _watched:
            before = [(config, config._attn_implementation) for config in _configs(model)]
            if model.config._attn_implementation != NAME:
                model.set_attn_implementation(NAME)
            if model.config._attn_implementation != NAME:
                _restore(before)
                raise ValueError(
                    f"watch: expected attention through transformers' interface, but {type(model).__name__} "
                    f"computes its own; {INFLUENCE}"
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
    configs = [part.config for part in model.modules() if is_huggingface(part)]
    for config in configs:  # grows meanwhile
        configs += [inner for name in config.sub_configs if (inner := getattr(config, name, None)) is not None]
    return list({id(config): config for config in configs}.values())
