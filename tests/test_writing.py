"""One run to a folder at a time, and nothing outside the folder is written, whatever stands where a file should."""

import errno
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from sightline import files

HOLD = """
import os, sys, time
from sightline.files import locked
with locked(__import__("pathlib").Path(sys.argv[1])):
    if sys.argv[2] == "plain":
        print(1, flush=True)
    elif not os.fork():  # the child says so itself, and by now has closed what it inherited
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def message_of(call) -> str:
    with pytest.raises(ValueError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def take(folder):
    with files.locked(folder):
        return sorted(path.name for path in folder.iterdir())


@contextmanager
def holder(folder, mode="plain"):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), mode], stdout=subprocess.PIPE, text=True
    ) as process:
        process.child = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_a_second_run_is_refused_while_the_first_lives(tmp_path):
    folder = tmp_path / "run"
    with holder(folder) as first:
        message = message_of(lambda: take(folder))
        assert re.fullmatch(
            rf"{folder}: expected a folder that no other run uses, got one in use by process {first.pid} since "
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d; wait until it ends, or name another folder",
            message,
        )
        link = tmp_path / "link"
        link.symlink_to(folder)
        assert f"in use by process {first.pid}" in message_of(lambda: take(link))  # by whatever name
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert take(folder) == [files.LOCK]
    assert list(folder.iterdir()) == []


def test_a_forked_child_does_not_hold_the_lock_of_a_parent_that_died(tmp_path):
    with holder(tmp_path, "fork") as first:
        child = first.child
        try:
            first.send_signal(signal.SIGKILL)
            first.wait()
            os.kill(child, 0)  # lives
            take(tmp_path)
        finally:
            os.kill(child, signal.SIGKILL)


def test_threads_exclude_each_other_and_one_process_locks_again_and_again(tmp_path):
    inside, most, refused = [], [], []

    def work():
        for _ in range(50):
            try:
                with files.locked(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.0005)
                    inside.pop()
            except ValueError as error:
                assert "in use by this process" in str(error) or "another process" in str(error)
                refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and refused
    assert take(tmp_path) == [files.LOCK] and take(tmp_path) == [files.LOCK]
    with files.locked(tmp_path):
        assert "in use by this process" in message_of(lambda: take(tmp_path))


@pytest.mark.parametrize(
    "left",
    [
        b"",
        b"half of a no",
        b"\xff" * 5000,
        json.dumps({"process": 1, "host": "elsewhere", "since": "1970-01-01"}).encode(),
        json.dumps({"process": os.getpid(), "host": "", "since": ""}).encode(),
    ],
    ids=["empty", "half", "large", "elsewhere", "of this process"],
)
def test_what_a_dead_process_left_is_no_obstacle(tmp_path, left):
    (tmp_path / files.LOCK).write_bytes(left)
    assert take(tmp_path) == [files.LOCK]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_leads_elsewhere_is_not_written(tmp_path):
    precious, run = tmp_path / "precious", tmp_path / "run"
    precious.write_text("mine")
    run.mkdir()
    lock = run / files.LOCK
    lock.symlink_to(precious)
    assert message_of(lambda: take(run)) == f"{lock}: expected a plain file, got a link; remove it"
    lock.unlink()
    lock.symlink_to(tmp_path / "nowhere")
    assert "got a link; remove it" in message_of(lambda: take(run))
    lock.unlink()
    os.link(precious, lock)
    assert message_of(lambda: take(run)) == f"{lock}: expected a lock of sightline, got another file; remove it"
    lock.unlink()
    os.mkfifo(lock)
    assert "got another file; remove it" in message_of(lambda: take(run))
    lock.unlink()
    lock.mkdir()
    assert message_of(lambda: take(run)).startswith(f"{lock}: expected to write it, got: Is a directory; ")
    assert precious.read_text() == "mine" and not (tmp_path / "nowhere").exists()


def test_file_systems_without_locks_and_that_are_read_only(tmp_path, monkeypatch):
    def fails(code):
        def call(*_, **__):
            raise OSError(code, os.strerror(code))

        return call

    with monkeypatch.context() as patch:
        patch.setattr(files.fcntl, "flock", fails(errno.ENOLCK))
        take(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fails(errno.EROFS))
        assert message_of(lambda: take(tmp_path)) == (
            f"{tmp_path / files.LOCK}: expected to write it, got: Read-only file system; "
            "what was there before is whole; name a place that can be written to"
        )


# --- writing ----------------------------------------------------------------------------------------------------------


def replaced(path, content):
    with files.replacing(path) as file:
        file.write(content)


WRITERS = {
    "write": lambda path, content: files.write_files(path.parent, {path.name: content}),
    "replacing": replaced,
    "append": lambda path, content: files.append(path, content) or files.write_files(path.parent, {path.name: content}),
}


def a_link(path, precious):
    path.symlink_to(precious)


def a_hard_link(path, precious):
    os.link(precious, path)


def a_link_to_a_link(path, precious):
    (path.parent / "between").symlink_to(precious)
    path.symlink_to("between")


def a_dangling_link(path, precious):
    path.symlink_to(precious.parent / "nowhere")


def a_link_to_a_folder(path, precious):
    path.symlink_to(precious.parent)


def a_loop(path, precious):
    path.symlink_to(path.name)


def a_pipe(path, precious):
    os.mkfifo(path)


PLANTED = [a_link, a_hard_link, a_link_to_a_link, a_dangling_link, a_link_to_a_folder, a_loop, a_pipe]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_is_planted_is_replaced_and_never_written_through(tmp_path, plant, writer):
    run, precious = tmp_path / "run", tmp_path / "outside" / "precious"
    run.mkdir()
    precious.parent.mkdir()
    precious.write_text("mine")
    for name in ("a.json", "a.json.partial", "a.json.tmp"):  # earlier versions wrote aside under such names
        plant(run / name, precious)
        if plant is a_link_to_a_link:
            (run / "between").unlink()
    WRITERS[writer](run / "a.json", b"ours")
    status = (run / "a.json").lstat()
    assert stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and (run / "a.json").read_bytes() == b"ours"
    assert precious.read_text() == "mine" and [path.name for path in precious.parent.iterdir()] == ["precious"]


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "a.json").mkdir()
    for writer in WRITERS.values():
        message = message_of(lambda writer=writer: writer(tmp_path / "a.json", b"ours"))
        assert message.startswith(str(tmp_path)) and "older" in message  # "a folder", "move that folder away"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_link_planted_while_the_file_is_written(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    with files.replacing(tmp_path / "a") as file:
        file.write(b"ours")
        (tmp_path / "a").symlink_to(precious)
    assert precious.read_text() == "mine" and not (tmp_path / "a").is_symlink()


def test_appending_to_a_plain_file(tmp_path):
    path = tmp_path / "lines"
    assert not files.append(path, b"1\n") and not path.exists()
    path.write_bytes(b"0\n")
    assert files.append(path, b"1\n") and path.read_bytes() == b"0\n1\n"


def test_after_an_error_nothing_has_changed(tmp_path):
    path = tmp_path / "a"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        messages = [message_of(lambda w=w: w(path, b"x" * 200)) for w in WRITERS.values()]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert all("got: File too large; " in m and m.endswith("make room and try again") for m in messages)
    assert path.read_bytes()[:6] == b"before" and [p.name for p in tmp_path.iterdir()] == ["a"]
    with pytest.raises(FileNotFoundError), files.replacing(path):  # another's error is not called one of writing
        open(tmp_path / "nowhere")


def test_a_path_that_the_user_named_may_be_a_link_or_a_pipe(tmp_path):
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    actual = []
    reader = threading.Thread(target=lambda: actual.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    for name in ("link", "pipe"):
        with files.replacing(tmp_path / name, named=True) as file:
            file.write(b"ours")
    reader.join()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == actual[0] == b"ours"
    mode = (tmp_path / "real").stat().st_mode & 0o777
    os.umask(umask := os.umask(0))
    assert mode == 0o666 & ~umask
    assert "got a folder; name a file in it" in message_of(lambda: files.replacing(tmp_path, named=True).__enter__())


def test_a_folder_inside_another_is_none_that_a_link_leads_to(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "run").symlink_to("outside")  # the user named it
    (tmp_path / "outside" / "sub").symlink_to(tmp_path)
    for folder in ("sub", "sub/deeper"):
        message = message_of(
            lambda folder=folder: files.make_folder(tmp_path / "run" / folder, inside=tmp_path / "run")
        )
        assert message.startswith(f"{tmp_path / 'run' / 'sub'}: expected a folder, got a link, which leads out of")
    files.make_folder(tmp_path / "run" / "a" / "b", inside=tmp_path / "run")
    assert (tmp_path / "outside" / "a" / "b").is_dir()


def test_what_a_kill_left_is_swept_and_nothing_else(tmp_path):
    (tmp_path / "precious").write_text("mine")
    for name in ("a.json.partial", "a.json.0123456789ab.partial"):
        (tmp_path / name).symlink_to("precious")
    (tmp_path / "b.partial").write_text("half")
    (tmp_path / "c.partial").mkdir()
    files.remove_partial(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.partial", "precious"]


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(20)
def test_what_is_no_json_is_said_in_a_sentence(tmp_path):
    path = tmp_path / "a.json"
    contents = {
        b"": "expected JSON, got: Expecting value",
        b"\xff": "expected JSON, got: it is not UTF-8",
        b"[" * 200_000: "expected JSON, got: maximum recursion depth",
        b"[NaN]": "the number NaN, which is not finite",
        b"[-Infinity]": "the number -Infinity, which is not finite",
        b"[1e999]": "the number 1e999, which is not finite",
        b"1" * 5000: "expected JSON, got: Exceeds the limit",
        b'{"a": 1, "a": 2}': "the name 'a' twice in one object",
        b"[1]" + b" " * 100: "expected at most 50 bytes, got 103",
    }
    for content, sentence in contents.items():
        path.write_bytes(content)
        most = 50 if b"[1]" in content else files.MOST_JSON
        message = message_of(lambda most=most: files.read_json(path, most))
        assert message.startswith(f"{path}: ") and sentence in message
    path.unlink()
    os.mkfifo(path)
    assert "got a folder, pipe or device" in message_of(lambda: files.read_json(path))
    assert "got: Is a directory" in message_of(lambda: files.read_json(tmp_path))
    assert "expected at most 1,000 bytes" in message_of(lambda: files.read_bytes("/proc/cpuinfo", 1000))
