"""The class of a model after `unpad`: a subclass of its own, of the same name, whose forward runs padded calls packed.

It is the class that is changed, and no attribute of the model, since a class goes wherever the model goes: to a deep copy, to
a replica of DataParallel, through pickle and `torch.save` into another process, which has to know the attention "sightline"
then; it is found there, because what pickle looks up lies in this package. A bound method set on the model would stay bound
to the first model in a replica, and be lost by pickle; hooks do not see `model.forward(...)`, nor what other hooks do.
"""

from __future__ import annotations

from functools import cache, wraps

from transformers import PreTrainedModel

from sightline.huggingface.unpadded_call import call_unpadded


class Unpadded:
    """What is added to the class of a model: how it travels."""

    padded_class: type[PreTrainedModel]

    def __reduce_ex__(self, protocol):
        rebuild, (kind, *others), *state = super().__reduce_ex__(protocol)
        if kind is not type(self):
            return rebuild, (kind, *others), *state
        return _new, (self.padded_class,), *state


@cache  # one class for all models of a class
def unpadded_class(kind: type[PreTrainedModel]) -> type[PreTrainedModel]:
    if issubclass(kind, Unpadded):
        return kind
    whole = kind.forward

    @wraps(whole)
    def forward(self, *args, **kwargs):
        return call_unpadded(self, whole, args, kwargs)

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (Unpadded, kind), {**names, "padded_class": kind, "forward": forward})


def _new(kind: type[PreTrainedModel]) -> PreTrainedModel:
    unpadded = unpadded_class(kind)
    return unpadded.__new__(unpadded)
