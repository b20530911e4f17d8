"""Watching a model from the side; nothing below this room knows of it."""

from sightline.observe.watch import Seen, watch

__all__ = ["Seen", "watch"]
