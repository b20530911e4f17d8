"""sightline: self-attention for sequences of any length, packed, exact and see-through, with its rivals beside it.

The core loads with `import sightline`; a room that needs a heavy library is loaded when one of its names is first used.
"""

from importlib import import_module as _import_module

from sightline.attention import CAUSAL, FULL, Attended, Pattern, attention
from sightline.encoders import Encoder, Mixer, Readout, build
from sightline.sequences import Sequences

_LATER = {
    "fit": "sightline.training",
    "evaluate": "sightline.training",
    "predict": "sightline.training",
    "generate": "sightline.training",
    "Model": "sightline.training",
    "compare": "sightline.evidence",
    "watch": "sightline.observe",
}

__all__ = [
    "CAUSAL",
    "FULL",
    "Attended",
    "Encoder",
    "Mixer",
    "Pattern",
    "Readout",
    "Sequences",
    "attention",
    "build",
    *_LATER,
]


def __getattr__(name: str):
    if name not in _LATER:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(_import_module(_LATER[name]), name)


def __dir__():
    return __all__
