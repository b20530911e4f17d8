"""Routing: a Hugging Face model has the attention "sightline" while anybody watches it, and its own afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from sightline.encoders import SelfAttention
from sightline.observe.callers import WhileWatched, forwards_noted, is_huggingface

INFLUENCE = "sightline.observe.influence shows what moves its outputs without attention weights"


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
            stack.enter_context(_switched(part))
        stack.enter_context(forwards_noted(model))
        yield


def _switch(model: Any) -> Callable[[], None]:
    from sightline.huggingface.attention_function import NAME  # a model of transformers has imported that already

    before = [(config, config._attn_implementation) for config in _configs(model)]

    def restore() -> None:
        for config, implementation in before:
            config._attn_implementation = implementation

    if model.config._attn_implementation != NAME:
        model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        restore()
        raise ValueError(
            f"watch: expected attention through transformers' interface, but {type(model).__name__} "
            f"computes its own; {INFLUENCE}"
        )
    return restore


_switched = WhileWatched(_switch)


def _configs(model: nn.Module) -> list[Any]:
    """The configs of a model and of its parts, which may have copies of their own; outer ones first."""
    configs: list[Any] = [part.config for part in model.modules() if is_huggingface(part)]
    for config in configs:  # grows meanwhile
        configs += [inner for name in config.sub_configs if (inner := getattr(config, name, None)) is not None]
    return list({id(config): config for config in configs}.values())
