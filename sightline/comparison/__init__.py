"""Comparison of encoders on one's own data: the same data, one size, the same time. Begin reading with `compare.py`.

`protocol.py` and `matching.py` make it fair; `report.py`, `page_data.py` and `exhibit.py` turn runs into what people
read.
"""

from sightline.comparison.compare import compare
from sightline.comparison.report import table

__all__ = ["compare", "table"]
