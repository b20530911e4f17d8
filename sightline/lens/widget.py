"""A long sequence in a notebook: the same page, which asks the kernel for each part of a map when somebody looks at it.

The page stands in a frame and posts its questions to the cell around it (`answers` has them); the cell sends them on as messages of
the widget, and the answers come back as bytes by the same way. There is no port.
"""

from __future__ import annotations

from importlib import resources

import anywidget
import traitlets

from sightline.lens.answers import Answers
from sightline.lens.page import render
from sightline.lens.wording import Text
from sightline.observe import Seen


class Widget(anywidget.AnyWidget):
    """The page of one sequence, from an observation of this sequence alone."""

    _esm = (resources.files("sightline.lens") / "assets" / "widget.js").read_text("utf-8")
    page = traitlets.Unicode().tag(sync=True)
    height = traitlets.Int(720).tag(sync=True)

    def __init__(self, seen: Seen, text: Text, model: str):
        self._answers = Answers(seen, text, model)
        super().__init__(page=render(self._answers.page("message")))
        self._answers.__enter__()
        self.on_msg(Widget._asked)

    def _asked(self, question: dict, _buffers: list[bytes]) -> None:
        about = {"view": question.get("view"), "id": question.get("id")}
        try:
            answer = self._answers.answer(question.get("name"), question.get("params") or {})
        except ValueError as why:
            self.send(about | {"error": str(why)})
        else:
            self.send(about, [answer])

    def close(self) -> None:
        """Ends what works for the page besides the kernel."""
        self._answers.__exit__(None, None, None)
        super().close()
