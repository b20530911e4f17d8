"""Claims and what they rest on: encoders compared on the same data, in one size, for the same time."""

from sightline.comparison.compare import compare
from sightline.comparison.report import table

__all__ = ["compare", "table"]
