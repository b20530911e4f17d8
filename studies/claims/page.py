"""The page of the claims: one self-contained HTML file."""

from __future__ import annotations

import os
from pathlib import Path

from sightline.lens.page import PLOTS, Assets, render, write_page

_OWN = Path(__file__).with_name("assets")
ASSETS = Assets(
    scripts=(*PLOTS, *(_OWN / name for name in ("claims-pictures", "claims-tables", "claims"))),
    styles=("page", _OWN / "claims"),
)


def render_claims(data: dict) -> str:
    """The page as one string."""
    return render(data, ASSETS)


def write_claims(data: dict, path: str | os.PathLike) -> Path:
    """Writes the page to a temporary file and renames it to `path`."""
    return write_page(data, path, ASSETS)
