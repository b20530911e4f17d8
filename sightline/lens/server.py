"""A long text in a browser: a server on this machine that answers the questions of one page and nothing else.

It listens on the loopback address alone. The page's address holds a secret, so that other people and programs of this
machine do not find it; a request that names another host is refused, so that a page from elsewhere cannot reach it by a
name of its own. Everything else is not found. Questions are answered newest first, a few at a time, equal ones once,
and not at all when the browser no longer waits.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import nn

from sightline.lens.page import render
from sightline.lens.page_data import check_length, check_text, unknown_note
from sightline.lens.page_queries import Answers
from sightline.lens.prediction import prediction
from sightline.models.opening import evaluating, open_attention
from sightline.observe import Seen, watch
from sightline.sequences import Sequences

HOST = "127.0.0.1"
AT_ONCE = 2  # questions
WAITING = 1000  # questions at most; the oldest of more is dropped
SAFE = {
    "Content-Security-Policy": "frame-ancestors 'none'",  # besides what the page says of itself
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(
    model: str | Path | nn.Module,
    text: str,
    *,
    tokenizer=None,
    link: str | None = None,
    layer: int | None = None,
    head: int | None = None,
    port: int = 0,
    progress: bool = False,
    announce: Callable[[str], None] = print,
) -> None:
    """Serves the page of a text until it is stopped (Ctrl-C); `announce` is called with the page's address.

    As `look`, for texts as long as memory holds. `port` 0 takes any that is free; `progress` shows on standard error
    how far the model has read.

    Raises: ValueError as `look` does, where the port is taken, and where starlette and uvicorn are missing.

    >>> from sightline.lens.server import serve
    >>> serve("runs/book", open("book.txt").read())  # doctest: +SKIP
    The page: http://127.0.0.1:43127/Vb3k.../
    """
    _check_installed()
    with _listening(port) as listener:
        answers = observed(model, text, progress, tokenizer)
        server, address = server_of(answers, answers.page("server", link, layer, head), listener)
        announce(address)
        torch.set_num_threads(1)  # each question has a thread of its own
        with answers, suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


# --- the text, read -----------------------------------------------------------------------------------------------


def observed(model: str | Path | nn.Module, text: str, progress: bool = False, tokenizer=None) -> Answers:
    """What a model's heads look at in a text of any length that it can read.

    Raises: ValueError for a model whose attention cannot be seen, a text of no tokens or of too many for the model.
    """
    check_text(text)
    opened = open_attention(model, tokenizer, otherwise="leave out --serve for its influence")
    words, ids = opened.read_text(text)
    check_length(opened, words)
    with torch.no_grad(), evaluating(opened.model):
        with watch(opened.encoder, keep_map=True) as seen, _progress(seen, len(ids), progress):
            encodings = opened.encode(Sequences(ids, [0, len(ids)]))
        predicts = prediction(opened.model, encodings, words, per_token=False)
    return Answers(seen, words, opened.name, [*opened.notes, *unknown_note(words)], predicts)


@contextmanager
def _progress(seen: Seen, tokens: int, progress: bool) -> Iterator[None]:
    """Prints which layer the model has reached, once a second, while it reads."""
    if not progress:
        yield
        return
    from rich.console import Console

    done, began = threading.Event(), monotonic()
    with Console(stderr=True).status(f"reading {tokens:,} tokens") as status:

        def update() -> None:
            while not done.wait(1):
                status.update(f"reading {tokens:,} tokens: layer {seen.layers + 1}, {monotonic() - began:.0f} s")

        thread = threading.Thread(target=update, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


# --- the server ---------------------------------------------------------------------------------------------------


def _check_installed() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"look: expected starlette and uvicorn for --serve, got no {error.name}; pip install sightline[serve]"
        ) from None


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """A socket on the loopback address; taken before the text is read, not after.

    Raises: ValueError where the port is taken, or is none.
    """
    if not 0 <= port < 65536:
        raise ValueError(f"look: expected a port from 0 to 65535, got {port}; 0 is any that is free")
    with socket.socket() as listener:
        if os.name == "posix":  # elsewhere it would let two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(128)
        except OSError as error:
            raise ValueError(
                f"look: expected a free port, got {port}, which cannot be had: {error.strerror}; "
                "name another --port, or none"
            ) from None
        yield listener


def server_of(answers: Answers, data: dict, listener: socket.socket):
    """A uvicorn server, not running yet, that serves one page and its questions; and the page's address."""
    import uvicorn

    port, secret = listener.getsockname()[1], secrets.token_urlsafe(24)
    config = uvicorn.Config(
        application(answers, render(data), secret, {f"{HOST}:{port}", f"localhost:{port}"}),
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config), f"http://{HOST}:{port}/{secret}/"


def application(answers: Answers, page: str, secret: str, hosts: set[str]):
    """The ASGI application: /SECRET/ is the page, /SECRET/ask/NAME?... the answer to a question; else not found."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route

    desk = Desk(answers.answer)

    async def show(_: Request) -> Response:
        return HTMLResponse(page, headers=SAFE)

    async def ask(request: Request) -> Response:
        try:
            answer = await desk.ask(request.path_params["name"], dict(request.query_params), request.is_disconnected)
        except ValueError as error:
            return PlainTextResponse(str(error), 400, SAFE)
        except Crowded:
            return PlainTextResponse("ask: too many questions at once; ask again", 503, SAFE)
        return Response(answer, media_type="application/octet-stream", headers=SAFE)

    inner = Starlette(routes=[Route("/{secret}/", show), Route("/{secret}/ask/{name}", ask)])
    inner.router.redirect_slashes = False
    not_found = PlainTextResponse("not found", 404, SAFE)
    opening = f"/{secret}/".encode()

    async def guarded(scope, receive, send) -> None:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        path = scope.get("raw_path") or b""
        known = secrets.compare_digest(path[: len(opening)], opening) and not (b"%" in path or b"//" in path)
        allowed = known and host.decode("latin-1") in hosts and scope["method"] in ("GET", "HEAD")
        await (inner if allowed else not_found)(scope, receive, send)

    return guarded


class Crowded(Exception):
    """Too many questions wait, or the browser no longer waits for this one."""


@dataclass(eq=False)
class Question:
    name: str
    params: dict[str, str]
    answer: asyncio.Future
    disconnected: list[Callable[[], Awaitable[bool]]]  # whether the client has left, for each request


class Desk:
    """Questions wait on a pile; the newest is answered first."""

    def __init__(self, answer: Callable[[str, dict], bytes]):
        self.answer = answer
        self.pool = ThreadPoolExecutor(AT_ONCE, initializer=torch.set_num_threads, initargs=(1,))
        self.pile: dict[tuple, Question] = {}
        self.working: dict[tuple, Question] = {}
        self.tasks: set[asyncio.Task] = set()

    async def ask(self, name: str, params: dict[str, str], disconnected: Callable[[], Awaitable[bool]]) -> bytes:
        """The answer, once it is its turn.

        Raises: ValueError where there is none, Crowded where the question was dropped.
        """
        key = name, *sorted(params.items())
        question = self.working.get(key) or self.pile.pop(key, None)
        if question is None:
            question = Question(name, params, asyncio.get_running_loop().create_future(), [])
        question.disconnected.append(disconnected)
        if key not in self.working:
            self.pile[key] = question
            if len(self.pile) > WAITING:
                self._drop(self.pile.pop(next(iter(self.pile))))
        if len(self.tasks) < AT_ONCE:
            self.tasks.add(asyncio.create_task(self._work()))
        return await asyncio.shield(question.answer)

    async def _work(self) -> None:
        while self.pile:
            key, question = self.pile.popitem()
            self.working[key] = question
            try:
                if all([await left() for left in list(question.disconnected)]):
                    self._drop(question)
                    continue
                run = asyncio.get_running_loop().run_in_executor
                question.answer.set_result(await run(self.pool, self.answer, question.name, question.params))
            except Exception as error:
                question.answer.set_exception(error)
            finally:
                del self.working[key]
        self.tasks.discard(asyncio.current_task())  # not once it has ended: a question may arrive in between

    def _drop(self, question: Question) -> None:
        question.answer.set_exception(Crowded())
