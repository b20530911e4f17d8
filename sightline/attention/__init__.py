"""Attention over packed sequences: one function, one definition (reference.py), other ways to compute the same."""

from sightline.attention.operator import Attended, attention, watching
from sightline.attention.origin import Origin
from sightline.attention.pattern import CAUSAL, FULL, Pattern
from sightline.attention.request import Request

__all__ = ["CAUSAL", "FULL", "Attended", "Origin", "Pattern", "Request", "attention", "watching"]
