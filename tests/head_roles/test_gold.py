"""The questions of a corpus, against sets and loops: what is merged, what is left out, what a cut keeps."""

import numpy as np
import pytest

from sightline.head_roles.gold import Corpus, Document, Relation, build_corpus, document_of

PLAIN, AMONG = Relation("plain"), Relation("among", mentions=True)


def random_corpus(seed: int, documents: int = 7, links: int = 300) -> Corpus:
    """Documents of 0 to 12 words with links thrown by lot, in no order, some twice."""
    rng = np.random.default_rng(seed)
    texts = []
    for number in range(documents):
        words = tuple(rng.choice(["a", "b", "A", "c", ","], rng.integers(0, 13)).tolist())
        mentions = np.flatnonzero(rng.random(len(words)) < 0.6)
        texts.append(Document(f"d{number}", words, (" ",) * len(words), mentions, source=number))
    pairs = []
    for _ in range(links):
        number = int(rng.integers(documents))
        if words := len(texts[number].words):
            pairs.append((number, rng.integers(2), rng.integers(words), rng.integers(words)))
    return build_corpus(texts, [PLAIN, AMONG], pairs)


def as_sets(corpus: Corpus) -> dict:
    """{(document, relation, query): the right words} read off one by one."""
    return {
        (corpus.documents[d].name, corpus.relations[r].name, int(q)): set(corpus.keys[a:b].tolist())
        for d, r, q, a, b in zip(
            corpus.document, corpus.relation, corpus.query, corpus.offsets, corpus.offsets[1:], strict=False
        )
    }


def test_links_of_one_word_are_one_question():
    document = Document("d", tuple("abcd"), ("",) * 4)
    links = [(0, 0, 3, 1), (0, 0, 1, 1), (0, 0, 3, 0), (0, 0, 3, 1), (0, 1, 3, 0), (0, 1, 0, 3), (0, 1, 2, 2)]
    corpus = build_corpus([document], [PLAIN, AMONG], links)
    assert as_sets(corpus) == {("d", "plain", 3): {0, 1}, ("d", "among", 3): {0}}
    assert corpus.distance.tolist() == [2, 3] and corpus.among_mentions.tolist() == [False, True]


@pytest.mark.parametrize("seed", range(5))
def test_questions_come_in_order_and_lose_nothing(seed):
    corpus = random_corpus(seed)
    assert (np.diff(corpus.document) >= 0).all() and corpus.offsets[-1] == len(corpus.keys)
    assert (np.diff(corpus.offsets) > 0).all()
    for i, (first, last) in enumerate(zip(corpus.offsets, corpus.offsets[1:], strict=False)):
        right = corpus.keys[first:last]
        assert corpus.distance[i] == min(abs(int(k) - int(corpus.query[i])) for k in right) > 0
        assert not corpus.among_mentions[i] or (right < corpus.query[i]).all()
    assert sum(len(g) for g in corpus.groups.values()) == len(corpus)


@pytest.mark.parametrize("seed", range(5))
def test_right_is_membership(seed):
    corpus = random_corpus(seed)
    words = np.random.default_rng(seed).integers(-1, 12, (len(corpus), 3, 2))
    right = corpus.right(words)
    for i, answers in enumerate(as_sets(corpus).values()):
        assert (right[i] == np.isin(words[i], list(answers))).all()
    assert corpus.right(words[:, 0, 0]).shape == (len(corpus),)
    assert not corpus.right(np.full(len(corpus), -1)).any()


def test_a_part_has_the_questions_of_its_documents():
    corpus = random_corpus(0)
    whole, part = as_sets(corpus), as_sets(corpus.take([4, 1]))
    assert part == {key: value for key, value in whole.items() if key[0] in ("d1", "d4")} and part
    assert [d.name for d in corpus.take([4, 1]).documents] == ["d4", "d1"]


@pytest.mark.parametrize("width", [3, 40])
def test_halves_hold_whole_documents_and_every_question(width):
    whole = random_corpus(0)
    assert [half.tolist() for half in whole.halves()] == [[0, 2, 4, 6], [1, 3, 5]]
    starts = [(i, a) for i, d in enumerate(whole.documents) for a in range(0, len(d.words), 2)]
    corpus = whole.cut([(i, a, min(a + width, len(whole.documents[i].words))) for i, a in starts])
    halves = corpus.halves()
    assert sorted(np.concatenate(halves)) == list(range(len(corpus.documents)))
    sources = [{corpus.documents[i].source for i in half} for half in halves]
    assert not sources[0] & sources[1] and abs(len(sources[0]) - len(sources[1])) <= 1
    for half in halves:
        part, rows = corpus.take(half), corpus.questions_of(half)
        assert len(part) == len(rows) > 0
        assert (part.query == corpus.query[rows]).all() and (part.relation == corpus.relation[rows]).all()
        assert (half[part.document] == corpus.document[rows]).all() and (part.distance == corpus.distance[rows]).all()


def test_one_document_has_no_halves():
    with pytest.raises(ValueError, match="^heads: expected two documents or more, .* got one; give a second corpus"):
        random_corpus(0, documents=1).halves()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width, step", [(1, 1), (4, 4), (5, 2), (40, 40)])
def test_a_cut_keeps_what_lies_in_the_first_window_of_its_word(seed, width, step):
    corpus = random_corpus(seed)
    windows = [
        (number, start, min(start + width, len(document.words)))
        for number, document in enumerate(corpus.documents)
        for start in range(0, len(document.words), step)
    ]
    cut, expected = corpus.cut(np.array(windows)), {}
    for (name, relation, query), answers in as_sets(corpus).items():
        part, start, stop = next(
            (i, a, b) for i, (n, a, b) in enumerate(windows) if corpus.documents[n].name == name and a <= query < b
        )
        if kept := {key - start for key in answers if start <= key < stop}:
            expected[part, relation, query - start] = kept
    kept = as_sets(cut.take(range(len(cut.documents))))
    numbers = {id(document): i for i, document in enumerate(cut.documents)}
    by_number = {}
    for i in range(len(cut)):
        right = set(cut.keys[cut.offsets[i] : cut.offsets[i + 1]].tolist())
        by_number[int(cut.document[i]), cut.relations[cut.relation[i]].name, int(cut.query[i])] = right
    assert by_number == expected and len(numbers) == len(windows) and len(kept) <= len(by_number)
    for (number, start, stop), part in zip(windows, cut.documents, strict=True):
        whole = corpus.documents[number]
        assert part.source == whole.source and part.words == whole.words[start:stop]
        assert {start + m for m in part.mentions} == {m for m in whole.mentions.tolist() if start <= m < stop}


def test_a_cut_has_its_own_text_and_ids():
    document = Document("d", ("ab", "c", "d"), (" ", " ", "\n"), ids=np.array([7, 8, 9]))
    (part,) = build_corpus([document], [], []).cut(np.array([[0, 1, 3]])).documents
    assert (part.text, part.ids.tolist(), part.name) == ("c\nd", [8, 9], "d, words 1 to 2")


def test_groups_add_up_what_has_one_stem():
    names = ["nmod", "nmod:poss", "coref:name", "coref:pronoun", "acl:relcl<-", "acl:cleft<-", "flat:foreign"]
    document = Document("d", tuple("abcdefghi"), ("",) * 9)
    corpus = build_corpus([document], map(Relation, names), [(0, i, i + 1, 0) for i in range(len(names))])
    groups = {name: corpus.query[rows].tolist() for name, rows in corpus.groups.items()}
    assert groups == {name: [i + 1] for i, name in enumerate(names)} | {"coref": [3, 4], "acl<-": [5, 6]}


def test_a_corpus_without_questions():
    corpus = build_corpus([Document("e", (), ())], [], [])
    for one in (corpus, build_corpus([], [], []), corpus.cut(np.zeros((0, 3)))):
        assert len(one) == len(one.distance) == len(one.among_mentions) == 0
        assert one.right(np.zeros((0, 2, 2), np.int64)).shape == (0, 2, 2)


# --- documents ------------------------------------------------------------------------------------------------------


def test_where_words_stand():
    document = Document("d", ("The", "", "do", "n't", "\n"), ("", " ", "", "", " "))
    assert document.text == "The don't \n"
    assert [document.text[a:b] for a, b in document.spans] == list(document.words)
    assert document.punctuation.tolist() == [False, True, False, False, True]
    assert Document("e", (), ()).spans.shape == (0, 2) and Document("e", (), ()).text == ""


@pytest.mark.parametrize(
    "text, words",
    [
        ("", []),
        (" \n", []),
        ("Don't stop-gap (x_1)!", ["Don't", "stop-gap", "(", "x_1", ")", "!"]),
        ("10,000 men , he said .", ["10,000", "men", ",", "he", "said", "."]),
        ("10,000 men", ["10", ",", "000", "men"]),
        ("Mr. Long , “ quoth he", ["Mr.", "Long", ",", "“", "quoth", "he"]),
        ("Well, so , yes", ["Well", ",", "so", ",", "yes"]),
        ("日本 ja", ["日", "本", "ja"]),
    ],
)
def test_the_words_of_a_text(text, words):
    document = document_of("d", text)
    assert list(document.words) == words and document.text == text[: len(document.text)]
    assert not text[len(document.text) :].strip()


def test_the_last_word_of_a_stretch():
    document = document_of("d", "  a fine day")
    stretches = [(0, 3), (2, 8), (2, 9), (0, 2), (9, 12), (10, 11)]
    assert [document.word_of(*s) for s in stretches] == [0, 1, 1, -1, 2, 2]
    assert document.word_of(8, 9) == -1 and document_of("e", "").word_of(0, 1) == -1
