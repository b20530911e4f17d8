"""Tokenizers give back what they were given, travel as one file, and take no text for a command."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Engine
from tokenizers import models, normalizers

from sightline.tasks.tokenizing import END, UNKNOWN, Tokenizer, text_chunks

HARD = "<end> <unk>\u0120é\x00\r\n\t 日本 🙂 e\u0301  twice "
text = st.text(st.characters(codec="utf-8"), max_size=30)
BYTES, BPE = Tokenizer.train("bytes", []), Tokenizer.train("bpe", [HARD, "the then there"] * 3, 300)


@given(text)
def test_decode_inverts_encode(string):
    characters = Tokenizer.train("characters", [string, "abc"])
    for tokenizer in (BYTES, BPE, characters):
        encoded = tokenizer.encode([string, HARD[:3]])
        assert tokenizer.decode(encoded.ids[0]) == string
        assert not (encoded.ids.values == tokenizer.end).any()
        assert torch.equal(encoded.words, encoded.ids.positions)


@pytest.mark.parametrize("kind", ["bytes", "characters", "words", "bpe"])
def test_each_kind(kind, tmp_path):
    tokenizer = Tokenizer.train(kind, [HARD] * 2)
    vocabulary = tokenizer.engine.get_vocab()
    assert (vocabulary[UNKNOWN], vocabulary[END], tokenizer.unknown, tokenizer.end) == (0, 1, 0, 1)
    assert sorted(vocabulary.values()) == list(range(tokenizer.size))
    tokenizer.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert torch.equal(Tokenizer.load(path).encode([HARD]).ids.values, tokenizer.encode([HARD]).ids.values)
    assert tokenizer.encode([""]).ids.lengths.tolist() == [0] and len(tokenizer.encode([]).ids) == 0
    assert Tokenizer.train(kind, [HARD] * 2).engine.to_str() == tokenizer.engine.to_str()
    assert Tokenizer.train(kind, []).encode([["a", ""], []]).ids.lengths.tolist() == [2, 0]


def test_words_of_a_text_and_words_of_a_list():
    literal = Tokenizer.train("words", ["The duck's 2 ducks...", "the DUCK ..."])
    assert set(literal.engine.get_vocab()) == {UNKNOWN, END, "the", "duck", "..."}
    assert literal.decode(literal.encode(["THE duck..."]).ids[0]) == "the duck ..."
    listed = Tokenizer.train("words", [["The", "duck's"], ["The", "duck's", "New York", "New York"]])
    encoded = listed.encode([["The", "the", "", "duck's", "New York"], ["The"]])
    assert encoded.words.tolist() == [0, 1, 2, 3, 4, 4, 0] and encoded.ids.offsets.tolist() == [0, 6, 7]
    assert (encoded.ids.values == 0).tolist() == [False, True, True, False, False, False, False]


def test_a_long_word_is_many_pieces_of_one_word():
    encoded = BYTES.encode([["a", "x" * 5000, "b"]])
    assert encoded.words.bincount().tolist() == [1, 5000, 1]


def test_sizes():
    assert Tokenizer.train("characters", ["aab", "abc"], 4).decode([2, 3]) == "ab"
    assert Tokenizer.train("words", ["a b b c c c"] * 2, 4).decode([2, 3]) == "c b"
    assert Tokenizer.train("bpe", ["aaaa"], 259).size == 259


@pytest.mark.parametrize(
    "kind, size, message",
    [
        (
            "letters",
            None,
            "tokenizer: expected one of bytes, characters, words, bpe or a tokenizer.json, got 'letters'",
        ),
        ("bytes", 300, "tokenizer: expected a vocabulary of 258 for bytes, got 300"),
        ("bpe", 200, "tokenizer: expected a vocabulary of 258 or more for bpe, got 200"),
        ("words", 0, "tokenizer: expected a vocabulary of 3 or more for words, got 0"),
    ],
)
def test_refused(kind, size, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer.train(kind, ["a"], size)


@pytest.mark.parametrize("content", [None, "", "{}", '{"model"', b"\xff", '{"model": {"type": "Mine"}}'])
def test_a_broken_file_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        ValueError, match=r"tokenizer\.json: expected a tokenizer\.json of the tokenizers library, got: ."
    ):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_from_elsewhere_keeps_its_ids_and_its_limits_are_lifted(tmp_path):
    engine = Engine(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    engine.normalizer = normalizers.Replace("x", "")
    engine.enable_truncation(1)
    engine.enable_padding(length=7)
    engine.save(str(tmp_path / "theirs.json"))
    tokenizer = Tokenizer.load(tmp_path / "theirs.json")
    assert (tokenizer.unknown, tokenizer.end, tokenizer.size) == (1, 2, 3)
    encoded = tokenizer.encode([["a", "q", "x", "a"]])
    assert encoded.ids.values.tolist() == [0, 1, 1, 0] and encoded.words.tolist() == [0, 1, 2, 3]


def test_symbols_keep_their_order():
    tokenizer = Tokenizer.of(["if", "name0", "("])
    assert tokenizer.encode([["name0", "(", "?"]]).ids.values.tolist() == [1, 2, 3]
    assert (tokenizer.size, tokenizer.unknown, tokenizer.end) == (5, 3, 4)


def test_one_long_text_is_cut_at_line_ends_and_nothing_is_lost():
    long = "".join(f"line {i} é\n" for i in range(20_000)) + "last"
    parts = text_chunks(long)
    assert len(parts) > 2 and all(part.endswith("\n") for part in parts[:-1]) and "".join(parts) == long
    assert BYTES.decode(BYTES.encode_stream(long)) == long
    assert len(BYTES.encode_stream("")) == 0
