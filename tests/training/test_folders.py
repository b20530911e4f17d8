"""One run at a time to a folder, nothing outside it, what is resumed or written over, and how long it takes."""

import os
import threading

import pytest

from sightline import files
from sightline.comparison import compare
from sightline.training import loop, predict, state
from sightline.training.model import Model
from sightline.training.runs import fit
from tests.training.small_runs import KEPT, SMALL, TEXTS, refusal, resumed

# --- one run at a time, and nothing outside it ------------------------------------------------------------------------


def test_a_second_run_in_a_folder_is_refused_while_readers_are_not(run, folders, monkeypatch):
    before = list(predict(run, TEXTS))
    with files.locked(run):
        assert "in use by this process" in refusal(lambda: resumed(run, folders))
        for overwrite in (False, True):
            assert "in use by this process" in refusal(
                lambda o=overwrite: fit(folders / "reviews.csv", out=run, overwrite=o, **SMALL)
            )
        assert list(predict(run, TEXTS)) == before
    with files.locked(run.parent / "compare"):
        options = {"encoders": ["rnn"], "steps": 1, "out": run.parent / "compare", "tell": str}
        assert "in use by this process" in refusal(lambda: compare(folders / "reviews.csv", **options))
    resumed(run, folders)

    began, goes_on = threading.Event(), threading.Event()

    def paused(*arguments):
        began.set()
        goes_on.wait(30)
        return plain(*arguments)

    plain = loop._update
    monkeypatch.setattr(loop, "_update", paused)
    first = threading.Thread(target=fit, args=[folders / "reviews.csv"], kwargs={**SMALL, "out": run.parent / "new"})
    first.start()
    assert began.wait(30)
    assert "in use by this process" in refusal(lambda: fit(folders / "reviews.csv", out=run.parent / "new", **SMALL))
    goes_on.set()
    first.join()
    Model.load(run.parent / "new")
    assert not (run.parent / "new" / files.LOCK).exists()


@pytest.mark.timeout(120)
def test_nothing_outside_the_folder_is_written(run, folders, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (outside / "folder").mkdir()
    asides = [f"{name}{end}" for name in KEPT for end in (".partial", ".0123456789ab.partial")]
    for name in (*asides, "digests.json.partial"):
        (run / name).symlink_to(outside / "precious")
    for name in ("metrics.jsonl", "results.json"):  # what is read first is refused, or read and replaced
        content = (run / name).read_bytes()
        (run / name).unlink()
        (outside / name).write_bytes(content)
        (run / name).symlink_to(outside / name) if name == "metrics.jsonl" else os.link(outside / name, run / name)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in outside.iterdir() if path.is_file()}
    resumed(run, folders)
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(outside / "new")
    fit(folders / "reviews.csv", out=run, overwrite=True, **SMALL)
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in outside.iterdir() if path.is_file()}
    assert after == before and not any(path.is_symlink() for path in run.iterdir())

    (tmp_path / "compare").mkdir()
    (tmp_path / "compare" / "rnn-rate0.003-seed0").symlink_to(outside / "folder")
    options = {"encoders": ["rnn"], "steps": 2, "width": 8, "layers": 1, "tell": str}
    message = refusal(lambda: compare(folders / "reviews.csv", out=tmp_path / "compare", **options))
    assert "expected a folder, got a link, which leads out of" in message
    assert list((outside / "folder").iterdir()) == []


def test_a_line_of_metrics_goes_into_no_link_that_is_planted_while_it_trains(folders, tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_text("mine\n")
    plants = [lambda path: path.symlink_to(precious), lambda path: os.link(precious, path), os.mkfifo]
    plain = loop._update

    def planting(*arguments):
        path = tmp_path / "run" / "metrics.jsonl"
        path.unlink(missing_ok=True)
        if plants:
            plants.pop()(path)
        return plain(*arguments)

    monkeypatch.setattr(loop, "_update", planting)
    model = fit(folders / "reviews.csv", out=tmp_path / "run", log_every=1, **SMALL)
    assert precious.read_text() == "mine\n"
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == len(model.history) == 4


# --- folders to resume or to write over -------------------------------------------------------------------------------


def test_only_a_run_is_resumed(folders, tmp_path):
    for name in ("nowhere", "empty"):
        out = tmp_path / name
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert refusal(lambda out=out: fit(folders / "reviews.csv", out=out, resume=True)) == (
            f"{out}: expected the folder of a run to resume, got one without config.json; leave out resume to begin "
            "anew"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["empty"] and not list((tmp_path / "empty").iterdir())
    assert "expected resume or overwrite, got both" in refusal(
        lambda: fit(folders / "reviews.csv", out=tmp_path, resume=True, overwrite=True)
    )


def test_a_run_is_written_over_and_nothing_else(run, folders):
    other = fit(folders / "reviews.csv", out=run, overwrite=True, seed=5, **SMALL)
    assert list(predict(run, TEXTS)) == list(other.predict(TEXTS))
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in (folders / "first").iterdir())
    assert "column" in refusal(lambda: fit(folders / "reviews.csv", out=run, overwrite=True, label="strs", **SMALL))
    Model.load(run)  # was not removed for a wrong column
    (run / "thesis.txt").write_text("mine")
    assert refusal(lambda: fit(folders / "reviews.csv", out=run, overwrite=True, **SMALL)) == (
        f"{run}: expected a new or empty folder, got one with files of another kind (thesis.txt); name another out"
    )
    (run / "thesis.txt").rename(run.parent / "thesis.txt")
    (run / "config.json").unlink()
    assert "got one with files; name another out" in refusal(
        lambda: fit(folders / "reviews.csv", out=run, overwrite=True, **SMALL)
    )
    assert (run / "model.safetensors").exists()


# --- the budget of seconds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evaluation, counts", [(0.0, True), (0.5, True), (4.0, True), (0.5, False)])
def test_seconds_include_the_evaluations(folders, tmp_path, monkeypatch, evaluation, counts):
    """By a clock that moves a tenth of a second with each step and `evaluation` seconds with each evaluation."""
    now, began = [0.0], []
    update, validated = loop._update, loop._validated

    def slow_update(*arguments):
        now[0] += 0.1
        return update(*arguments)

    def slow_validated(*arguments):
        began.append(now[0])
        now[0] += evaluation
        return validated(*arguments)

    monkeypatch.setattr(loop, "_update", slow_update)
    monkeypatch.setattr(loop, "_validated", slow_validated)
    monkeypatch.setattr(state, "perf_counter", lambda: now[0])
    options = SMALL | {"steps": None, "seconds": 10.0, "tokens": 500}
    if not counts:
        options["evaluation_counts"] = False
    model = fit(folders / "reviews.csv", out=tmp_path / "run", **options)
    trained = model.history[-1]["seconds"]
    assert trained + evaluation * len(began) == pytest.approx(now[0])
    if not counts:
        assert trained == pytest.approx(10.0, abs=0.2) and len(began) in (10, 11)
        return
    assert now[0] == pytest.approx(10.0, abs=0.2)
    assert trained > {0.0: 9.8, 0.5: 6.5, 4.0: 1.9}[evaluation]
    assert len(began) in {0.0: (10, 11), 0.5: (6,), 4.0: (2,)}[evaluation]


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_that_are_no_utf8(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / os.fsdecode(b"caf\xe9.csv")
    data.write_bytes((folders / "reviews.csv").read_bytes())
    model = fit(data, **SMALL)
    folder = tmp_path / "runs" / "caf_-lstm"
    assert list(predict(folder, TEXTS)) == list(model.predict(TEXTS))
    fit(data, out=folder, resume=True, progress=False)
    bad = tmp_path / os.fsdecode(b"\xff\xfe")
    sentence = "expected a name in UTF-8, got other bytes; name or rename it otherwise"
    assert sentence in refusal(lambda: fit(data, out=bad, **SMALL)) and not bad.exists()
    folder.rename(bad)
    assert sentence in refusal(lambda: Model.load(bad))
