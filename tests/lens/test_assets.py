"""Scripts and styles of all pages: no long lines, and no two scripts of a page define the same name."""

import re
from pathlib import Path

import pytest

from sightline.lens.page import PAGES
from studies.claims.page import ASSETS

ROOT = Path(__file__).parents[2]
FILES = [
    path
    for folder in (ROOT / "sightline" / "lens" / "assets", ROOT / "studies" / "claims" / "assets")
    for path in sorted(folder.iterdir())
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_says_why_it_exists_and_is_short(path):
    lines = path.read_text("utf-8").splitlines()
    assert lines[0].startswith(("// ", "/* ", "<!doctype"))
    assert len(lines) <= 400 and max(map(len, lines)) <= 120


@pytest.mark.parametrize("name, assets", [*PAGES.items(), ("claims", ASSETS)], ids=lambda one: str(one)[:12])
def test_the_scripts_of_a_page_define_each_name_once(name, assets):
    script = assets.joined(".js")
    names = re.findall(r"^(?:async )?(?:function|const|let) (\w+)", script, re.MULTILINE)
    assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]


def test_every_script_and_style_is_used_by_a_page():
    names = {str(name) for assets in [*PAGES.values(), ASSETS] for part in assets for name in part}
    assert {path.stem for path in FILES} == {Path(name).name for name in names} | {"widget"}
