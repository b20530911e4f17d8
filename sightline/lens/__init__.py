"""What people look at: pages made from finished results and observations, figures, and what a notebook shows.

page     any page: one HTML file            looking   a text and what each head of a model looks at in it
inline   the data of a look                 reading   the models, and how each reads a text
predicted what a fitted model predicts      views     the weights that a page asks for
answers  what a page of a long text asks    server    and how a browser is answered
notebook what was seen, in a cell           widget    and how a cell is answered
figures  for papers
"""

from sightline.lens.notebook import watch

__all__ = ["look", "read_page", "render", "watch", "write_page"]


def __getattr__(name: str):
    """What draws pages is brought when it is used: with it come all models that can be looked into, and `watch` needs none."""
    if name == "look":
        from sightline.lens.page_data import look

        return look
    if name in ("read_page", "render", "write_page"):
        from sightline.lens import page

        return getattr(page, name)
    raise AttributeError(f"module 'sightline.lens' has no attribute {name!r}; it has {', '.join(__all__)}")
