"""The model behind an OpenAI-compatible HTTP endpoint on loopback, for agents built on any framework.

One server serves all episodes of a process; the API key of a request says which episode it belongs to.
It runs in a thread of its own, and each call is carried to the event loop of its episode, where the
engine lives.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from astune.errors import ContextOverflow, EngineError, EpisodeError
from astune.proxy.protocol import ChatRequest, RequestError, chunks, completion, read_request
from astune.rollout.messages import Message, MessageError
from astune.trace import Turn

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI, Request

    from astune.workflow.astune_proxy import AstuneProxy

_START_SECONDS = 30.0


class ModelServer:
    """Serves ``/v1/chat/completions`` and ``/v1/models`` on 127.0.0.1. Use as a context manager, or ``start``/``stop``.

    Args:
        port: TCP port; 0 takes a free one.
        blocked_seconds: after how long an episode's event loop that answers nothing counts as blocked (503).
    """

    def __init__(self, port: int = 0, *, blocked_seconds: float = 30.0) -> None:
        self.blocked_seconds = blocked_seconds
        self._port = port
        self._lock = threading.Lock()
        self._episodes: dict[str, tuple[AstuneProxy, asyncio.AbstractEventLoop]] = {}
        self._running: tuple[uvicorn.Server, threading.Thread, socket.socket] | None = None

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT/v1``.

        Raises:
            RuntimeError: the server is not running.
        """
        if self._running is None:
            raise RuntimeError("the model server is not running: call start() first")
        return f"http://127.0.0.1:{self._running[2].getsockname()[1]}/v1"

    def start(self) -> None:
        """Starts serving and returns once requests are answered; does nothing when it already does.

        Raises:
            OSError: the port is taken.
            RuntimeError: the server did not come up.
        """
        import uvicorn

        with self._lock:
            if self._running is not None:
                return
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
            config = uvicorn.Config(self._app(), log_level="warning", lifespan="off", access_log=False)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([listener],), name="astune-model-server", daemon=True)
            thread.start()
            deadline = time.monotonic() + _START_SECONDS
            while not server.started:
                if not thread.is_alive() or time.monotonic() > deadline:
                    listener.close()
                    raise RuntimeError("the model server did not start")
                time.sleep(0.005)
            self._running = (server, thread, listener)

    def stop(self) -> None:
        """Stops serving and forgets every key."""
        with self._lock:
            if self._running is None:
                return
            server, thread, listener = self._running
            server.should_exit = True
            server.force_exit = True
            thread.join(_START_SECONDS)
            listener.close()
            self._running = None
            self._episodes.clear()

    def register(self, proxy: AstuneProxy, loop: asyncio.AbstractEventLoop | None = None) -> str:
        """Returns a new API key that leads to ``proxy``, whose calls run on ``loop`` (the running one by default)."""
        key = f"sk-astune-{secrets.token_hex(16)}"
        self._episodes[key] = (proxy, loop or asyncio.get_running_loop())
        return key

    def unregister(self, key: str) -> None:
        """Forgets a key."""
        self._episodes.pop(key, None)

    def _app(self) -> FastAPI:
        from fastapi import FastAPI
        from fastapi.responses import JSONResponse, Response, StreamingResponse

        app = FastAPI(title="astune", docs_url=None, redoc_url=None, openapi_url=None)

        async def on_error(_: Request, error: Exception) -> Response:
            assert isinstance(error, RequestError)
            return JSONResponse(error.body(), status_code=error.status)

        async def models(request: Request) -> Response:
            proxy, _ = self._episode_of(request)
            entry = {"id": proxy.model_name, "object": "model", "created": 0, "owned_by": "astune"}
            return JSONResponse({"object": "list", "data": [entry]})

        async def chat_completions(request: Request) -> Response:
            proxy, loop = self._episode_of(request)
            asked = read_request(await _json(request))
            answer, turn = await self._on_loop(proxy, loop, asked)
            response = _response(proxy, asked, answer, turn)
            if asked.stream:
                return StreamingResponse(chunks(response, asked.include_usage), media_type="text/event-stream")
            return JSONResponse(response)

        app.add_exception_handler(RequestError, on_error)
        # Handlers are added as plain routes: FastAPI would resolve their annotations in this module's globals.
        app.add_route("/v1/models", models, methods=["GET"])
        app.add_route("/v1/chat/completions", chat_completions, methods=["POST"])
        return app

    def _episode_of(self, request: Request) -> tuple[AstuneProxy, asyncio.AbstractEventLoop]:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        found = self._episodes.get(key.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise RequestError(401, "unknown API key: use astune_proxy.api_key of a running episode", "invalid_api_key")
        return found

    async def _on_loop(
        self, proxy: AstuneProxy, loop: asyncio.AbstractEventLoop, asked: ChatRequest
    ) -> tuple[Message, Turn]:
        """Runs the call on the episode's event loop and turns its errors into responses."""
        await self._until_awake(loop)
        call = proxy.chat(asked.messages, asked.tools, max_tokens=asked.max_tokens)
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, loop))
        except ContextOverflow as error:
            raise RequestError(400, str(error), "context_length_exceeded", "messages") from error
        except EpisodeError as error:
            raise RequestError(400, str(error), error.kind) from error
        except EngineError as error:
            raise RequestError(500, str(error), "engine_failed") from error
        except MessageError as error:
            raise RequestError(400, str(error), "invalid_value", "messages") from error

    async def _until_awake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Returns once ``loop`` has answered: a blocking client on it would otherwise wait for itself forever."""
        awake = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop))
        try:
            await asyncio.wait_for(awake, self.blocked_seconds)
        except TimeoutError as error:
            message = "the episode's event loop is blocked: use AsyncOpenAI, or call the client in asyncio.to_thread"
            raise RequestError(503, message, "event_loop_blocked") from error


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {error}") from error


def _response(proxy: AstuneProxy, asked: ChatRequest, answer: Message, turn: Turn) -> dict[str, Any]:
    session = proxy.session
    identity = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": proxy.model_name}
    call_ids: Iterator[str] = iter(session.next_call_id, "")
    logprobs = {"content": list(_logprobs(proxy, turn)), "refusal": None} if asked.logprobs else None
    return completion(answer, turn, identity, call_ids, logprobs)


def _logprobs(proxy: AstuneProxy, turn: Turn) -> Iterator[dict[str, Any]]:
    for token_id, logprob in zip(turn.completion_ids, turn.logprobs, strict=True):
        text = proxy.session.renderer.decode([token_id])
        yield {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
