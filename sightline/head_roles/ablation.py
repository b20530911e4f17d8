"""What a head is good for shows when it is missing: the task of an encoder fitted to scope, with the head switched off.

    mixer    x + project_out([out of head 0 | out of head 1 | ...])
    off      the columns of project_out that one head's output meets are 0 for the time being; nothing else is changed

Beside it stand the whole encoder and the mean over switching off, one by one, the other heads of the same layer: losing
any part costs something.
Source: Voita et al. 2019, section 6 (pruning heads); Michel et al. 2019, section 3.2 (one head at a time).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    """An encoder fitted to scope with functions to ask it about, those of a part of the corpus `scope`.

    `measured` are the task's measures with one head off, (layer, head), or none, None: each is measured once.
    Raises: ValueError for any other model or corpus, which have no task here.
    """

    def __init__(self, model, corpus: Corpus):
        is_folder = isinstance(model, (str, Path)) and (Path(model) / "task.json").is_file()
        model = Model.load(model) if is_folder else model
        of_scope = isinstance(model, Model) and isinstance(model.task, Tag)
        if not of_scope or model.task.labels != tuple(scope.ROLES):
            raise ValueError(
                "heads: expected with ablate a model fitted to scope, whose task shows what a head is good for, got another; "
                "fit one (sightline fit scope), or leave ablate out"
            )
        if any(document.ids is None for document in corpus.documents):
            raise ValueError(
                "heads: expected with ablate the corpus scope, whose functions the model answers for, got texts; name scope"
            )
        self.model = model
        sources = [document.source for document in corpus.documents]
        self.functions = scope.load()["test"].take(sources)
        self.measured: dict[tuple[int, int] | None, dict[str, float]] = {}

    def off(self, best: Iterable[tuple[str, int, int]]) -> dict[str, Any]:
        """What the task loses without the best head of each relation, (relation, layer, head).

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
            rows.append(
                {
                    "layer": layer,
                    "head": head,
                    "relations": names,
                    "without": self._without((layer, head)),
                    "others": _mean(others),
                }
            )
        return {"measure": MEASURE, "texts": len(self.functions), "whole": self._without(None), "heads": rows}

    def _without(self, which: tuple[int, int] | None) -> dict[str, float]:
        if which not in self.measured:
            if which is None:
                found = self.model.evaluate(self.functions)
            else:
                with off(self.model.encoder.blocks[which[0]].mixer, which[1]):
                    found = self.model.evaluate(self.functions)
            self.measured[which] = {name: round(value, 6) for name, value in found.items() if name.startswith(MEASURE)}
        return self.measured[which]


def _mean(several: list[dict[str, float]]) -> dict[str, float] | None:
    if not several:
        return None
    return {
        name: round(sum(one[name] for one in several) / len(several), 6)
        for name in several[0]
        if all(name in one for one in several)
    }
