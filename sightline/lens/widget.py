"""A long sequence in a notebook: the same page, which asks the kernel for each part of a map that somebody looks at.

The page is in a frame and posts its questions (`page_queries`) to the cell around it; the cell sends them on as
messages of the widget, and the answers return as bytes. No port is opened.
"""

from __future__ import annotations

import weakref
from importlib import resources

import anywidget
import traitlets

from sightline.lens.page import render
from sightline.lens.page_queries import Answers


class Widget(anywidget.AnyWidget):
    """The page of one sequence, and the answers to its questions."""

    _esm = (resources.files("sightline.lens") / "assets" / "widget.js").read_text("utf-8")
    page = traitlets.Unicode().tag(sync=True)
    height = traitlets.Int(720).tag(sync=True)

    def __init__(self, answers: Answers):
        self._answers = answers.__enter__()
        # Called by `close`, when this is collected, or when Python ends: the thread must not outlive that.
        self._end = weakref.finalize(self, answers.__exit__, None, None, None)
        super().__init__(page=render(answers.page("message")))
        self.on_msg(Widget._answer)

    def _answer(self, question: dict, _buffers: list[bytes]) -> None:
        about = {"view": question.get("view"), "id": question.get("id")}
        try:
            answer = self._answers.answer(question.get("name"), question.get("params") or {})
        except ValueError as why:
            self.send(about | {"error": str(why)})
        else:
            self.send(about, [answer])

    def close(self) -> None:
        """Ends the thread that works for the page."""
        self._end()
        super().close()
