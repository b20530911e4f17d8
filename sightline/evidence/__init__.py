"""Claims and what they rest on: encoders compared on the same data, in one size, for the same time."""

from sightline.evidence.compare import compare
from sightline.evidence.report import table

__all__ = ["compare", "table"]
