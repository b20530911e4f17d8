"""sightline: self-attention for sequences of any length, packed, exact and see-through, with its rivals beside it.

`import sightline` loads nothing; a name is fetched from its room when it is first used. The operator is
`sightline.attention.attention`, in the room of its name; `watch` is `observe.watch`, whose result can also show itself.
"""

from importlib import import_module as _import_module

_ROOMS = {
    "Sequences": "sequences",
    "Attended": "attention",
    "Pattern": "attention",
    "FULL": "attention",
    "CAUSAL": "attention",
    "Encoder": "encoders",
    "Mixer": "encoders",
    "Readout": "encoders",
    "build": "encoders",
    "Model": "training",
    "fit": "training",
    "evaluate": "training",
    "predict": "training",
    "generate": "training",
    "watch": "lens",
    "look": "lens",
    "compare": "comparison",
    "heads": "head_roles",
}

__all__ = list(_ROOMS)


def __getattr__(name: str):
    if name not in _ROOMS:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(_import_module(f"sightline.{_ROOMS[name]}"), name)


def __dir__():
    return __all__
