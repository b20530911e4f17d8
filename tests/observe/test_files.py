"""What was seen comes back from a folder as it was, or is refused; and its table says the same."""

import json

import pytest
import torch

from sightline.encoders import build
from sightline.observe import load, watch
from sightline.observe import recording as room
from sightline.sequences import Sequences

PACK = Sequences(torch.tensor([1, 5, 2, 8, 3, 3]), [0, 4, 4, 6])


def seen_of(**options):
    torch.manual_seed(0)
    encoder = build("self-attention", vocabulary=9, width=8, layers=3, heads=4, key_heads=2, window=2)
    with torch.no_grad(), watch(encoder, links=3, **options) as seen:
        encoder(PACK)
    return seen


def test_there_and_back(tmp_path):
    seen = seen_of(layers=[0, 2], heads=[3, 1], special=PACK.values == 5)
    seen.save(tmp_path / "seen")
    back = load(tmp_path / "seen")
    assert back.names == seen.names and back.layers == 3 and back.watched == [seen.names[i] for i in (0, 2)]
    for name in back.watched:
        a, b = seen.layer(name), back.layer(name)
        for what in (
            "offsets",
            "key_offsets",
            "lse",
            "entropy",
            "distance",
            "histogram",
            "received",
            "first",
            "special",
        ):
            assert torch.equal(getattr(a, what), getattr(b, what)), what
        assert all(map(torch.equal, a.links, b.links)) and a.special.any()
        assert (a.heads, a.pattern, a.scale, a.name) == (b.heads, b.pattern, b.scale, b.name)
        assert torch.equal(a.weights(2), b.weights(2))
        assert all(map(torch.equal, a.tile(1, at=(2, 2)), b.tile(1, at=(2, 2))))
    with pytest.raises(ValueError, match="expected a layer that was watched, got 1"):
        back.layer(1)
    assert not (tmp_path / "seen.partial").exists()


def test_long_input_is_saved_without_its_map_unless_that_is_kept(tmp_path, monkeypatch):
    right = seen_of()
    monkeypatch.setattr(room, "KEPT", 0)
    for keep in (False, True):
        seen = seen_of(keep_map=keep)
        seen.save(tmp_path / str(keep))
        for one in (seen, load(tmp_path / str(keep))):
            assert torch.equal(one.layer(1).entropy, right.layer(1).entropy)
            if keep:
                assert torch.equal(one.layer(1).weights(0), right.layer(1).weights(0))
                continue
            with pytest.raises(ValueError, match="expected the map, got statistics alone.*keep_map=True"):
                one.layer(1).tile(0)


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="expected a new folder, got one that exists"):
        seen_of().save(tmp_path)
    with watch(build("self-attention", vocabulary=9, width=8, layers=1)) as seen:
        pass
    with pytest.raises(ValueError, match="expected something that was seen, got nothing"):
        seen.save(tmp_path / "nothing")


def test_damaged_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected observation.json as `save` writes it, got FileNotFoundError"):
        load(tmp_path)
    seen_of().save(tmp_path / "seen")
    file, note = tmp_path / "seen" / "layer-001.safetensors", tmp_path / "seen" / "observation.json"
    whole, saved = file.read_bytes(), note.read_text()
    for length in (0, 5, 300, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match="layer-001.safetensors: expected the tensors of a layer, got .*save it again"
        ):
            load(tmp_path / "seen")
    file.unlink()
    with pytest.raises(ValueError, match="layer-001.safetensors: expected the tensors of a layer"):
        load(tmp_path / "seen")
    file.write_bytes((tmp_path / "seen" / "layer-000.safetensors").read_bytes().replace(b'"entropy"', b'"entropt"'))
    with pytest.raises(ValueError, match="got none named entropy"):
        load(tmp_path / "seen")
    for damaged in (saved[:-20], "[]", "{}"):
        note.write_text(damaged)
        with pytest.raises(ValueError, match="expected observation.json"):
            load(tmp_path / "seen")
    pieces = json.loads(saved)
    del pieces["layers"][1]["pattern"]
    note.write_text(json.dumps(pieces))
    with pytest.raises(ValueError, match="expected observation.json as `save` writes it, got none of pattern"):
        load(tmp_path / "seen")
    note.write_text(json.dumps(json.loads(saved) | {"version": 99}))
    with pytest.raises(ValueError, match="expected an observation of version 1, got 99"):
        load(tmp_path / "seen")


def test_one_other_byte_is_enough_and_older_folders_have_no_digest(tmp_path):
    seen_of().save(tmp_path / "seen")
    file, note = tmp_path / "seen" / "layer-001.safetensors", tmp_path / "seen" / "observation.json"
    whole, saved = file.read_bytes(), json.loads(note.read_text())
    file.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(ValueError, match=r"layer-001.*got other bytes than were written; save it again"):
        load(tmp_path / "seen")
    file.write_bytes(whole)
    other = json.loads(json.dumps(saved))
    other["layers"][0]["scale"] *= 2
    note.write_text(json.dumps(other))
    with pytest.raises(ValueError, match="expected observation.json as `save` writes it, got something else"):
        load(tmp_path / "seen")
    for one in (saved, *saved["layers"]):
        del one["sha256"]
    note.write_text(json.dumps(saved))
    assert load(tmp_path / "seen").layer(1).entropy.isfinite().all()


def test_the_table_says_the_same():
    layer = seen_of(heads=[2, 0]).layer(1)
    table = layer.table()
    assert table.num_rows == 12
    frame = layer.frame()
    assert list(frame.columns) == table.column_names
    for i in range(12):
        row, head = divmod(i, 2)
        one = frame.iloc[i]
        sequence = 0 if row < 4 else 2
        assert (one["sequence"], one["query"], one["head"]) == (sequence, row if row < 4 else row - 4, [2, 0][head])
        for name in ("lse", "entropy", "distance", "first", "special", "received"):
            assert one[name] == getattr(layer, name)[row, head]
        keys = layer.links.keys[row, head]
        there = int((keys >= 0).sum())
        assert one["link_keys"].tolist() == keys[:there].tolist()
        assert one["link_distances"].tolist() == [k - one["query"] for k in keys[:there].tolist()]
        assert one["link_weights"].tolist() == layer.links.weights[row, head, :there].tolist()
