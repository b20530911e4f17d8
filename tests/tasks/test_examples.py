"""Examples behave like a list of (sequence, target, columns), whatever is taken from them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.sequences import Sequences
from sightline.tasks.examples import Examples


@given(st.lists(st.integers(0, 4), max_size=6), st.data())
def test_take_is_indexing_a_list(lengths, data):
    rows = torch.arange(sum(lengths))
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    texts = [f"text {s}" for s in range(len(lengths))]
    per_token = Examples(Sequences(rows, offsets), rows + 100, True, rows + 200, rows + 300, texts)
    per_sequence = Examples(Sequences(rows[:, None], offsets), torch.arange(len(lengths)))
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1))) if lengths else []
    taken = per_token.take(chosen)
    expected = [rows[offsets[s] : offsets[s + 1]].tolist() for s in chosen]
    assert [ids.tolist() for ids in taken.inputs] == expected
    for column, shift in ((taken.targets, 100), (taken.distances, 200), (taken.links, 300)):
        assert column.tolist() == [row + shift for sequence in expected for row in sequence]
    assert taken.texts == [texts[s] for s in chosen] and taken.lengths.tolist() == [lengths[s] for s in chosen]
    assert per_sequence.take(torch.tensor(chosen, dtype=torch.int64)).targets.tolist() == chosen
    assert per_sequence.take(chosen).inputs.values.shape == (len(taken.inputs.values), 1)


def test_to_moves_every_tensor():
    rows = torch.arange(3)
    on_device = Examples(Sequences(rows, [0, 3]), rows, True, rows, rows, ["text"]).to("meta")
    assert {on_device.inputs.values.device.type, on_device.targets.device.type, on_device.links.device.type} == {"meta"}
    assert on_device.texts == ["text"] and on_device.inputs.offsets.device.type == "cpu"


@pytest.mark.parametrize(
    "columns", [{"targets": torch.zeros(3)}, {"targets": torch.zeros(2), "per_token": True}, {"links": torch.zeros(2)}]
)
def test_a_column_of_another_length_is_refused(columns):
    with pytest.raises(ValueError, match="Examples: expected one row of"):
        Examples(Sequences(torch.arange(3), [0, 2, 3]), **columns)
