"""A run in windows: stopped, shared by processes, damaged, and a folder of something else."""

import re
from types import SimpleNamespace

import pytest

from sightline import resumable
from sightline.files import LOCK
from sightline.resumable import Run, digest, read_window, windows

TEXTS = [b"a", b"bc", b"d", b"e", b"f"]


def process(index=0, number=1):
    return SimpleNamespace(
        is_main_process=index == 0, process_index=index, num_processes=number, wait_for_everyone=lambda: None
    )


def compute(folder, computed, processes=1, texts=TEXTS, settings=None, stop=None):
    """Every process in turn; the contents of all windows."""
    runs = [Run(folder, process(i, processes), ".bin", "whole") for i in range(processes)]
    with runs[0].locked():
        for run in runs:
            run.begin(settings or {"tokens": 3}, {"weights": "f0"})
        for run in runs:
            for number, text in enumerate(texts):
                if number == stop:
                    raise KeyboardInterrupt
                if run.compute(number, [text], lambda text=text: text.upper()):
                    computed.append((runs.index(run), number))
        return [read_window(path) for path in runs[0].paths(len(texts))]


def test_windows_that_are_done_are_not_computed_again(tmp_path):
    computed = []
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "run", computed, stop=2)
    assert computed == [(0, 0), (0, 1)]
    (tmp_path / "run" / "00000002-x.0123456789ab.partial").touch()  # written aside by a run that was killed
    (tmp_path / "run" / ".DS_Store").touch()
    assert compute(tmp_path / "run", computed) == [text.upper() for text in TEXTS]
    assert computed == [(0, i) for i in range(5)]
    assert len([*(tmp_path / "run").iterdir()]) == 7  # windows, note and the file of somebody else


def test_what_is_left_is_shared_by_the_processes(tmp_path):
    computed = []
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path, computed, stop=1)
    assert compute(tmp_path, computed, processes=2) == [text.upper() for text in TEXTS]
    assert computed == [(0, 0), (0, 1), (0, 3), (1, 2), (1, 4)]


def test_a_damaged_window_is_computed_again_by_one_process(tmp_path):
    compute(tmp_path, [])
    (file,) = tmp_path.glob("00000003-*")
    file.write_bytes(b"X")
    with pytest.raises(
        ValueError, match=f"{file.name}: expected what was written, got another content; remove it, and"
    ):
        read_window(file)
    computed = []
    assert compute(tmp_path, computed, processes=2) == [text.upper() for text in TEXTS] and computed == [(1, 3)]


@pytest.mark.parametrize("texts", [[b"a", b"x", *TEXTS[2:]], TEXTS[:4]])
def test_different_texts_are_refused(texts, tmp_path):
    compute(tmp_path, [])
    with pytest.raises(ValueError, match=f"{tmp_path}: expected the texts that it was begun with, got others; give"):
        compute(tmp_path, [], texts=texts)


def test_different_settings_are_refused_and_named(tmp_path):
    compute(tmp_path, [])
    with pytest.raises(ValueError, match="begun with, got pooling None then, 'max' now; tokens 3 then, 4 now; give"):
        compute(tmp_path, [], settings={"tokens": 4, "pooling": "max"})


@pytest.mark.parametrize(
    "name, actual",
    [("a.tex", "a.tex"), ("0" * 8 + "-" + "-".join(["a" * 20] * 2) + ".bin", "windows without a note.json")],
)
def test_a_folder_of_something_else_is_left_alone(name, actual, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=re.escape(f"run that was stopped left, got {actual}; move it away, or name")):
        compute(tmp_path, [])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_new_folder_goes_if_nothing_is_done_in_it(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "run", [], stop=0)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with Run(tmp_path / "run", process(), ".bin", "whole").locked():
        assert (tmp_path / "run" / LOCK).exists()
        with pytest.raises(ValueError, match="expected a folder that no other run uses"):
            compute(tmp_path / "run", [])


def test_windows_end_after_some_items_or_many_characters():
    items = ["a"] * 3 + ["b" * 1_000_000] + ["a"] * 3
    assert [len(window) for window in windows(items, 2, len)] == [2, 2, 2, 1]
    assert digest([b"ab", b""]) != digest([b"a", b"b"]) != digest([b"ab"])


def test_processes_wait_for_days(monkeypatch):
    monkeypatch.setattr(resumable, "PartialState", lambda **options: options)
    assert resumable.processes()["timeout"].days == 7
