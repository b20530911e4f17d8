"""What people look at: pages made from finished results and observations, figures, and what a notebook shows.

Begin with `page_data` (a text, and what each head of a model looks at in it), then `inline` (the format of its page).

page           any page: one HTML file                inline             the maps and links that a page holds
prediction     what a fitted model predicts           influence_profile  what moves a model's output
page_queries   what the page of a long text asks      server             answers a browser
views          the weights that it asks for           sampling           all heads of a long text at a glance
notebook       what was seen, in a cell               widget             answers a cell
figures        for papers
"""

from typing import TYPE_CHECKING

from sightline.lens.notebook import watch

if TYPE_CHECKING:
    from sightline.lens.page import read_page, render, write_page
    from sightline.lens.page_data import look

__all__ = ["look", "read_page", "render", "watch", "write_page"]


def __getattr__(name: str):
    """Imports what draws pages when it is used: it imports all that opens models, and `watch` needs none of it."""
    if name == "look":
        from sightline.lens.page_data import look

        return look
    if name in ("read_page", "render", "write_page"):
        from sightline.lens import page

        return getattr(page, name)
    raise AttributeError(f"module 'sightline.lens' has no attribute {name!r}; it has {', '.join(__all__)}")
