"""Ablation of heads: the task of an encoder fitted to scope, with one head switched off.

    mixer    x + project_out([out of head 0 | out of head 1 | ...])
    off      the columns of project_out for one head's output are 0 meanwhile; nothing else changes

To compare with: the whole encoder, and the mean over each other head of the same layer switched off, since any loss of
a part costs something.
Source: Voita et al. 2019, section 6 (pruning heads); Michel et al. 2019, section 3.2 (one head at a time).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sightline.encoders.self_attention import SelfAttention
from sightline.head_roles.gold import Corpus
from sightline.tasks import Tag, scope
from sightline.training import Model

MEASURE = "accuracy"


@contextmanager
def off(mixer: SelfAttention, head: int) -> Iterator[None]:
    """Switches a head off; afterwards its weights are the same bits.

    >>> mixer = SelfAttention(8, heads=2)
    >>> with off(mixer, 1):
    ...     mixer.project_out.weight[:, 4:].any().item()
    False
    >>> mixer.project_out.weight[:, 4:].any().item()
    True
    """
    columns = slice(head * mixer.head_width, (head + 1) * mixer.head_width)
    weight = mixer.project_out.weight.data
    kept = weight[:, columns].clone()
    try:
        weight[:, columns] = 0
        yield
    finally:
        weight[:, columns] = kept


class Switched:
    """An encoder fitted to scope, and the functions of a part of the corpus `scope`.

    `measured` has the task's measures with one head (layer, head) off, or none (None), each computed once.
    Raises: ValueError for any other model or corpus.
    """

    def __init__(self, model, corpus: Corpus):
        is_folder = isinstance(model, (str, Path)) and (Path(model) / "task.json").is_file()
        model = Model.load(model) if is_folder else model
        if not isinstance(model, Model) or not isinstance(model.task, Tag) or model.task.labels != tuple(scope.ROLES):
            raise ValueError(
                "heads: expected with ablate a model fitted to scope, whose task shows what a head is good for, "
                "got another; fit one (sightline fit scope), or leave ablate out"
            )
        if any(document.ids is None for document in corpus.documents):
            raise ValueError(
                "heads: expected with ablate the corpus scope, whose functions the model answers for, got texts; "
                "name scope"
            )
        self.model = model
        sources = [document.source for document in corpus.documents]
        self.functions = scope.load()["test"].take(sources)
        self.measured: dict[tuple[int, int] | None, dict[str, float]] = {}

    def off(self, best: Iterable[tuple[str, int, int]]) -> dict[str, Any]:
        """The task without the best head of each relation, (relation, layer, head).

        Returns: {measure, texts, whole, heads: [{layer, head, relations, without, others}]}, where a set of measures is
        {name: value}, and `others` is the mean over the other heads of the layer, None where there is none.
        """
        relations: dict[tuple[int, int], list[str]] = {}
        for relation, layer, head in best:
            relations.setdefault((layer, head), []).append(relation)
        rows = []
        for (layer, head), names in relations.items():
            count = self.model.encoder.blocks[layer].mixer.heads
            others = [self._without((layer, other)) for other in range(count) if other != head]
            row = {"layer": layer, "head": head, "relations": names}
            rows.append(row | {"without": self._without((layer, head)), "others": _mean(others)})
        return {"measure": MEASURE, "texts": len(self.functions), "whole": self._without(None), "heads": rows}

    def _without(self, which: tuple[int, int] | None) -> dict[str, float]:
        if which not in self.measured:
            with nullcontext() if which is None else off(self.model.encoder.blocks[which[0]].mixer, which[1]):
                measures = self.model.evaluate(self.functions)
            kept = {name: round(value, 6) for name, value in measures.items() if name.startswith(MEASURE)}
            self.measured[which] = kept
        return self.measured[which]


def _mean(several: list[dict[str, float]]) -> dict[str, float] | None:
    if not several:
        return None
    names = [name for name in several[0] if all(name in one for one in several)]
    return {name: round(sum(one[name] for one in several) / len(several), 6) for name in names}
