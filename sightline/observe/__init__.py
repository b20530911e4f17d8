"""Watching a model from the side; nothing below this room knows of it."""

from sightline.observe.layer import Layer, Links
from sightline.observe.watch import Seen, watch

__all__ = ["Layer", "Links", "Seen", "watch"]
