"""The structure of a model: its parts, their classes, the forwards set on them, and their configurations.

A proof about a model holds as long as its structure is the same. Every call compares, so comparing is cheap: a part
that has been replaced is another object. Weights do not belong to the structure.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedConfig

from sightline.huggingface.twin import module_of, plain_class

IGNORED = {  # settings that have no effect on packing
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
LIBRARIES = {"torch", "transformers", "accelerate", "peft", "sightline"}  # their hooks read no rows of another sequence


@dataclass(eq=False)
class Structure:
    """A model's structure at one moment."""

    parts: list[nn.Module]  # the model first; a shared one as often as it is named
    kinds: list[type]
    forwards: dict[int, object]  # number of the part -> what is set on it
    settings: list[dict]
    hooked: bool  # parts of the model have hooks of the caller, which may read all rows
    normalizes: bool  # it is in training and has batch norms, which then read all rows

    @classmethod
    def of(cls, model: nn.Module) -> Structure:
        """In one walk, since every call of a model needs it."""
        parts, kinds, forwards, configs, hooked, normalizes = [model], [], {}, {}, False, False
        for i, part in enumerate(parts):
            own = vars(part)
            if part._modules:
                parts += [one for one in part._modules.values() if one is not None]
            if part._forward_hooks or part._forward_pre_hooks:
                hooked = hooked or i > 0 and has_hooks(part)
            if "forward" in own:
                forwards[i] = own["forward"]
            if "config" in own:
                configs[id(own["config"])] = own["config"]
            if part.training and isinstance(part, _BatchNorm):
                normalizes = True
            kinds.append(type(part))
        kinds[0] = getattr(kinds[0], "padded_class", kinds[0])  # `unpad` comes after the trial
        settings = [_settings(config) for config in configs.values() if isinstance(config, PreTrainedConfig)]
        return cls(parts, kinds, forwards, settings, hooked, normalizes)

    def snapshot(self) -> Structure:
        """A copy to compare with later: it does not change with the model, and does not refer to it (no cycle)."""
        return replace(self, parts=[None, *self.parts[1:]], settings=copy.deepcopy(self.settings))

    def matches(self, before: Structure) -> bool:
        """Whether the model still has this structure, or is a replica of one that has."""
        same = self.kinds == before.kinds or [*map(plain_class, self.kinds)] == [*map(plain_class, before.kinds)]
        if not same or self.settings != before.settings:
            return False
        if self.parts[1:] == before.parts[1:]:  # modules are equal if they are the same
            return self.forwards.keys() == before.forwards.keys() and all(
                forward is before.forwards[i] for i, forward in self.forwards.items()
            )
        return all(map(_is_replica, self.parts[1:], before.parts[1:]))


def has_hooks(module: nn.Module) -> bool:
    """Whether the module itself has hooks of the caller."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(module_of(hook).partition(".")[0] not in LIBRARIES for hook in hooks)


def _settings(config: PreTrainedConfig) -> dict:
    return {
        name: _settings(value) if isinstance(value, PreTrainedConfig) else value
        for name, value in vars(config).items()
        if name not in IGNORED
    }


def _is_replica(part: nn.Module, other: nn.Module) -> bool:
    """Whether all attributes but the weights are those of the other, as in the replicas of DataParallel."""
    own = vars(part)
    return part is other or all(
        own.get(name) is value
        for name, value in vars(other).items()
        if name not in ("_parameters", "_buffers", "_modules", "_former_parameters")
    )
