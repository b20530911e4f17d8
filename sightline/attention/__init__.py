"""Attention over packed sequences: one function (operator.py), one definition (reference.py), and fast backends.

Begin with reference.py, then operator.py; `Request` is what a backend and a watcher receive.
"""

from sightline.attention.operator import Attended, attention, watching
from sightline.attention.origin import Origin
from sightline.attention.pattern import CAUSAL, FULL, Pattern
from sightline.attention.request import Request

__all__ = ["CAUSAL", "FULL", "Attended", "Origin", "Pattern", "Request", "attention", "watching"]
