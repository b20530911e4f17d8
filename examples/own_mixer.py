"""An encoder of your own: one mixer in the slot that the five encoders share.

python examples/own_mixer.py
"""

import torch
from torch import nn

import sightline
from sightline import Mixer, Sequences


class Average(Mixer):
    """Each row becomes a projection of the average of its sequence."""

    causal = False

    def __init__(self, width: int):
        super().__init__()
        self.project = nn.Linear(width, width)

    def forward(self, x: Sequences) -> Sequences:
        totals = x.values.new_zeros(len(x), x.values.shape[1]).index_add_(0, x.sequence_ids, x.values)
        averages = totals / x.lengths.clamp(min=1)[:, None]
        return x.with_values(self.project(averages[x.sequence_ids]))


encoder = sightline.build(Average, vocabulary=100, width=32, layers=2)
batch = Sequences.from_list([torch.randint(100, (n,)) for n in (5, 0, 1, 17)])
encodings = encoder(batch)
alone = encoder(Sequences.from_list([batch[3]]))
print(encodings, f"alone and packed differ by {(encodings[3] - alone[0]).abs().max():.0e}")
