"""Attention over packed sequences: one function, one definition (reference.py), other ways to compute the same."""

from sightline.attention.operator import Attended, attention, watching
from sightline.attention.pattern import CAUSAL, FULL, Pattern

__all__ = ["CAUSAL", "FULL", "Attended", "Pattern", "attention", "watching"]
