"""What a model is made of: its parts, their classes, the forwards set on them, and the settings of their configurations.

What was proved of a model holds as long as its structure is the same. Each call asks, so that comparing is cheap: a part that
has been replaced is another object. Weights are no structure.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedConfig

from sightline.huggingface.twin import plain_class

UNHEEDED = {  # settings that do not change how a model packs
    "_attn_implementation_internal",
    "_experts_implementation_internal",
    "_output_attentions",
    "output_hidden_states",
    "return_dict",
    "use_cache",
    "problem_type",
    "architectures",
    "dtype",
    "transformers_version",
    "_name_or_path",
}
LIBRARIES = {"torch", "transformers", "accelerate", "peft"}  # their hooks look at no row of another sequence


@dataclass(frozen=True, eq=False)
class Structure:
    """A model's structure at one moment."""

    parts: list[nn.Module]  # without the model itself, which lies below what it holds
    kinds: list[type]
    forwards: list
    settings: list[dict]

    @classmethod
    def of(cls, model: nn.Module) -> Structure:
        parts = parts_of(model)
        return cls(parts[1:], _kinds(parts), _forwards(parts), copy.deepcopy(_settings(parts)))

    def is_of(self, model: nn.Module) -> bool:
        """Whether the model has this structure, or is a replica of a model that has."""
        parts = parts_of(model)
        if _kinds(parts) != self.kinds or _settings(parts) != self.settings:
            return False
        if all(a is b for a, b in zip(parts[1:], self.parts, strict=True)):
            return all(a is b for a, b in zip(_forwards(parts), self.forwards, strict=True))
        return all(map(_is_replica, parts[1:], self.parts))


def parts_of(model: nn.Module) -> list[nn.Module]:
    """The module and all within it, a shared one as often as it is named."""
    parts = [model]
    for part in parts:
        parts.extend(one for one in part._modules.values() if one is not None)
    return parts


def hooked(model: nn.Module, itself: bool = False) -> bool:
    """Whether a caller's own hooks are on its parts (or on the model itself), which may look at all rows that they get."""
    return any(
        (getattr(hook, "__module__", None) or type(hook).__module__).partition(".")[0] not in LIBRARIES
        for part in parts_of(model)[not itself :]
        if part._forward_hooks or part._forward_pre_hooks
        for hook in (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
    )


def normalizes_the_batch(model: nn.Module) -> bool:
    """Whether it is in training and has batch norms, which then look at all rows."""
    return any(part.training and isinstance(part, _BatchNorm) for part in parts_of(model))


def _kinds(parts: list[nn.Module]) -> list[type]:
    return [plain_class(type(parts[0])), *map(type, parts[1:])]


def _forwards(parts: list[nn.Module]) -> list:
    return [vars(part).get("forward") for part in parts]


def _settings(parts: list[nn.Module]) -> list[dict]:
    configs = {id(config): config for part in parts if (config := vars(part).get("config")) is not None}
    return [_of_config(config) for config in configs.values() if isinstance(config, PreTrainedConfig)]


def _of_config(config: PreTrainedConfig) -> dict:
    return {
        name: _of_config(value) if isinstance(value, PreTrainedConfig) else value
        for name, value in vars(config).items()
        if name not in UNHEEDED
    }


def _is_replica(part: nn.Module, other: nn.Module) -> bool:
    """Whether all but the weights is the other's own, as in the replicas that DataParallel makes for each call."""
    own = vars(part)
    return part is other or all(
        own.get(name) is value
        for name, value in vars(other).items()
        if name not in ("_parameters", "_buffers", "_modules", "_former_parameters")
    )
