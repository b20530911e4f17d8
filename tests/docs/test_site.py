"""The site builds without a warning, and its pages and pictures are there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "quickstart.html", "guides/unpad.html", "reference/attention.html"} <= pages
    reference = (tmp_path / "site" / "reference" / "attention.html").read_text("utf-8")
    assert (
        "<strong>Raises:</strong>" in reference and '<span class="gp">&gt;&gt;&gt; </span>' in reference
    )  # docs/docstrings.py laid it out
    assert (tmp_path / "site" / "raw" / "embed.json").exists()
