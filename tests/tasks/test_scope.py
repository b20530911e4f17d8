"""The built-in data: the same every time, without spelling, split by module; and its cache, which may fail."""

import ast
import gc
import keyword
import random
import re
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch

from sightline.tasks import roles, scope
from sightline.tasks.scope import FIRST_NAME, LONGEST, NAMES, ROLES, VOCABULARY, Place

SAMPLE = ["bisect.py", "csv.py", "fractions.py", "json/__init__.py", "json/encoder.py", "shlex.py", "zipapp.py"]


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of our own to write into, and an empty cache."""
    folder = tmp_path / "lib"
    folder.mkdir()
    monkeypatch.setattr(scope, "_library", lambda: folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def sample(library):
    """Some modules of the real one."""
    real = Path(ast.__file__).parent
    for name in SAMPLE:
        (library / name).parent.mkdir(exist_ok=True)
        (library / name).write_text((real / name).read_text("utf-8"), "utf-8")
    return library


def everything(data):
    """(place, ids, targets, links, distances) of each function of all splits, as lists."""
    for examples in data.values():
        columns = [examples.inputs.values, examples.targets, examples.links, examples.distances]
        columns = [examples.inputs.with_values(column).to_list() for column in columns]
        for place, *rows in zip(examples.texts, *columns, strict=True):
            yield place, *(row.tolist() for row in rows)


def test_a_function_reads_as_drawn(library):
    (library / "a.py").write_text("def area(side):\n    return side * side + pi\n")
    [(place, ids, targets, links, distances)] = everything(scope.load())
    words = [VOCABULARY[i] for i in ids]
    name, other = words[3], words[13]
    assert " ".join(words) == (
        f"def FUNCTION ( {name} ) : NEWLINE INDENT return {name} * {name} + {other} NEWLINE DEDENT"
    )
    assert name != other and re.fullmatch(r"name\d+", name)
    assert place == Place("a", "area", 1)
    assert [(i, ROLES[t]) for i, t in enumerate(targets) if t != -100] == [
        (9, "parameter"),
        (11, "parameter"),
        (13, "outside"),
    ]
    assert (links[9], links[11], links[13]) == (3, 3, -1)
    assert (distances[9], distances[11], distances[13]) == (6, 8, -1)


def test_links_and_distances_agree_with_the_tokens(sample):
    actual = Counter()
    spelling = {
        (
            ".".join(path.relative_to(sample).with_suffix("").parts).removesuffix(".__init__"),
            f.qualname,
            f.line,
        ): f.spelling
        for path in sample.rglob("*.py")
        for f in roles.functions(path.read_text("utf-8"))
    }
    for place, ids, targets, links, distances in everything(scope.load()):
        spelled = spelling[place]
        assert len(spelled) == len(ids) <= LONGEST
        assert any(target != -100 for target in targets)
        id_of = {}
        for i, (token, target, link, distance) in enumerate(zip(ids, targets, links, distances, strict=True)):
            if token >= FIRST_NAME:
                assert id_of.setdefault(spelled[i], token) == token  # one name, one id
            elif VOCABULARY[token] in keyword.kwlist or not VOCABULARY[token].isalpha():
                assert VOCABULARY[token] == spelled[i]
            assert target == -100 or token >= FIRST_NAME
            assert distance == (i - link if link >= 0 else -1)
            if link >= 0:
                assert ids[link] == token and targets[link] == -100 and link < i
                assert ROLES[target] != "outside"
            actual[target] += 1
        assert len(set(id_of.values())) == len(id_of) <= NAMES  # two names, two ids
    assert scope.spelling(place) == spelled
    assert set(actual) == {-100, 0, 1, 2, 3}


SOURCE = """
class A1:
    def f(a2, a3=a4, *a5: a6):
        global a7
        from m import n as a8
        import a9
        with a3 as a7, a8.attribute(key=a9) as [a10, *a11]:
            a10 += a11[a10]
        try:
            return a2, a9, f"a2"
        except a8 as a12:
            raise a13 from a12
    async def g(a2):
        match a2:
            case {"a": a3, **a4} | a5.a6(a7=a4, a3=a3):
                del a3
        return await (a8 := a4)
"""


@pytest.mark.parametrize("seed", range(5))
def test_spelling_does_not_matter(library, seed):
    (library / "a.py").write_text(SOURCE)
    before = [rows for _, *rows in everything(scope.load())]
    names = [
        "self",
        "cls",
        "len",
        "match",
        "case",
        "name1",
        "FUNCTION",
        "_x",
        "é",
        "print",
        "x",
        "xx",
        "STRING",
        "T",
        "type",
    ]
    random.Random(seed).shuffle(names)
    (library / "a.py").write_text(re.sub(r"a(\d+)", lambda actual: names[int(actual[1])], SOURCE), "utf-8")
    scope._cache_file().unlink()
    after = [rows for _, *rows in everything(scope.load())]
    assert len(before) == 2 and after == before


def test_ids_are_drawn_anew_for_each_function(sample):
    first_parameter = Counter(ids[3] for _, ids, *_ in everything(scope.load()) if ids[3] >= FIRST_NAME)
    assert len(first_parameter) > 0.8 * NAMES  # nearly always `self`
    assert max(first_parameter.values()) < 0.15 * first_parameter.total()


def test_the_same_every_time_and_from_the_cache(sample, tmp_path):
    first = list(everything(scope.load()))
    [cached] = (tmp_path / "cache").rglob("*.safetensors")
    written = cached.read_bytes()
    assert list(everything(scope.load())) == first
    cached.unlink()
    assert list(everything(scope.load())) == first
    assert cached.read_bytes() == written
    assert [p.name for p in cached.parent.iterdir()] == [cached.name]


def test_the_cache_spares_reading(sample, monkeypatch):
    scope.load()
    monkeypatch.setattr(scope.roles, "functions", lambda source: pytest.fail("read again"))
    scope.load()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"{}" * 40])
def test_a_broken_cache_is_made_again(sample, tmp_path, damage):
    first = list(everything(scope.load()))
    [cached] = (tmp_path / "cache").rglob("*.safetensors")
    whole = cached.read_bytes()
    cached.write_bytes(damage(whole))
    assert list(everything(scope.load())) == first
    assert cached.read_bytes() == whole


def test_a_cache_of_wrong_columns_is_made_again(sample, tmp_path):
    first = list(everything(scope.load()))
    [cached] = (tmp_path / "cache").rglob("*.safetensors")
    scope.save_file({name: torch.zeros(3) for name in ("ids", "targets", "links", "offsets")}, cached, {"places": "[]"})
    assert list(everything(scope.load())) == first


def test_without_a_cache_folder_it_reads_each_time(sample, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert list(everything(scope.load())) == list(everything(scope.load()))


def test_the_cache_lies_in_the_home_folder_by_default(library, tmp_path, monkeypatch):
    (library / "a.py").write_text("def f(x): return x")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    scope.load()
    assert len(list((tmp_path / ".cache" / "sightline").iterdir())) == 1


def test_which_functions_are_left_out(library):
    lines = {
        "kept": "def kept(x): return x",
        "kept_longest": f"def kept_longest(x): return -x{' + x' * (LONGEST // 2 - 5)}",
        "kept_names": f"def kept_names({', '.join(f'a{i}' for i in range(NAMES))}): return a1",
        "long": f"def long(x): return --x{' + x' * (LONGEST // 2 - 5)}",
        "names": f"def names({', '.join(f'a{i}' for i in range(NAMES + 1))}): return a1",
        "unused": "def unused(x): return 1",
        "again": "def again(other): return other",
        "inner": "def inner(x): return [y for y in x]",
    }
    (library / "a.py").write_text("\n".join(lines.values()))
    actual = {place.qualname: len(ids) for place, ids, *_ in everything(scope.load())}
    assert set(actual) == {name for name in lines if name.startswith("kept")}
    assert actual["kept_longest"] == LONGEST


def test_alike_in_two_modules_is_kept_once_so_never_in_two_splits(library):
    for i in range(30):
        (library / f"m{i}.py").write_text(f"def f{i}(x{i}): return x{i}")
    assert [place.module for place, *_ in everything(scope.load())] == ["m0"]


def test_modules_go_whole_into_a_split_and_tests_are_not_read(library):
    for i in range(200):
        (library / f"m{i}.py").write_text(f"def f(x): return {'-' * i}x\ndef g(x): return {'~' * (i + 1)}x")
    for folder in ("test", "site-packages", "package/tests"):
        (library / folder).mkdir(parents=True)
        (library / folder / "a.py").write_text("def h(y): return not y")
    (library / "package" / "__init__.py").write_text("def p(x): return x ** x")
    data = scope.load()
    modules = {split: {place.module for place in examples.texts} for split, examples in data.items()}
    assert set(data) == {"train", "valid", "test"}
    assert set.union(*modules.values()) == {"package", *(f"m{i}" for i in range(200))}
    assert sum(map(len, modules.values())) == 201
    assert 140 < len(modules["train"]) < 180 and min(len(modules["valid"]), len(modules["test"])) > 8
    assert all(scope.split_of(module) == split for split in modules for module in modules[split])
    assert len(data["train"]) == 2 * len(modules["train"]) - ("package" in modules["train"])


def test_modules_that_do_not_parse_are_passed_over(library):
    (library / "old.py").write_text("print 'hello'")
    (library / "latin.py").write_bytes("def f(x): return 'é', x".encode("latin-1"))
    (library / "null.py").write_bytes(b"def f(x): return x\0")
    (library / "declared.py").write_bytes("# coding: latin-1\ndef f(x): return 'é', x".encode("latin-1"))
    assert [place.module for place, *_ in everything(scope.load())] == ["declared"]


def test_reading_is_quiet_and_leaves_the_collector_as_it_was(library):
    (library / "a.py").write_text(r"def f(x): return '\d', x is 1, x")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        [(place, *_)] = everything(scope.load())
        assert scope.spelling(place)[-2:] == ["x", "NEWLINE"]
    assert seen == [] and gc.isenabled()


def test_a_python_without_source_is_named(library):
    message = r"scope: expected the source of Python's library in .*lib, got no function from it; use a Python that"
    with pytest.raises(ValueError, match=message):
        scope.load()
    assert gc.isenabled()


@pytest.mark.parametrize(
    "place", [Place("nowhere", "f", 1), Place("a", "f", 2), Place("a", "g", 1), Place("pack", "f", 1)]
)
def test_spelling_of_no_function_is_named(library, place):
    (library / "a.py").write_text("def f(x): return x")
    (library / "pack").mkdir()
    message = (
        r"scope.spelling: expected a function of this Python's library, got \w at line \d of \w+; take places from"
    )
    with pytest.raises(ValueError, match=message):
        scope.spelling(place)


def test_the_vocabulary():
    assert len(set(VOCABULARY)) == len(VOCABULARY) == FIRST_NAME + NAMES
    assert VOCABULARY[FIRST_NAME] == "name0"
    assert ROLES == ("parameter", "local", "imported", "outside")


def test_the_plain_rule_says_what_it_says(library):
    (library / "a.py").write_text(
        "def f(a, *b, c=d, e: g = h):\n from i import j as k, l\n m = n = 1\n o, p = 1\n"
        " for q, r in s: pass\n with t as u: pass\n return a, b, c, d, e, g, h, k, l, m, n, o, p, q, r, s, t, u\n"
    )
    [(place, ids, *_)] = everything(scope.load())
    guesses = scope.rule(torch.tensor(ids)).tolist()
    spelled = scope.spelling(place)
    assert [guess >= 0 for guess in guesses] == [i >= FIRST_NAME for i in ids]
    answer = {s: ROLES[g][0] for s, g in zip(spelled, guesses, strict=True) if g >= 0}
    assert "".join(answer[s] for s in "abcdeghklmnopqrstu") == "pppoploiillolloool"


def test_the_plain_rule_is_hard_to_beat(sample):
    right = total = 0
    for _, ids, targets, *_ in everything(scope.load()):
        for guess, target in zip(scope.rule(torch.tensor(ids)).tolist(), targets, strict=True):
            right, total = right + (guess == target), total + (target != -100)
    assert 0.93 < right / total < 0.99


def test_any_pack_of_it_can_be_taken(sample):
    train = scope.load()["train"]
    order = list(range(len(train)))
    random.Random(0).shuffle(order)
    taken = train.take(order[:10])
    assert taken.texts == [train.texts[i] for i in order[:10]]
    assert taken.inputs[3].tolist() == train.inputs[order[3]].tolist()
