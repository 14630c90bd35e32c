"""A chat completions endpoint over real HTTP that answers as a script says, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

#: One answer: a text, an HTTP status, seconds before an empty answer, or bytes in place of JSON.
Scripted = str | int | float | bytes


class FakeEndpoint:
    """Gives the answers of ``script`` one after another; the last one again and again."""

    def __init__(self, script: Sequence[Scripted]) -> None:
        self.script = list(script)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def complete(body: dict[str, Any]) -> Response:
            self.asked.append(body)
            answer = self.script[min(len(self.asked), len(self.script)) - 1]
            if isinstance(answer, float):
                await asyncio.sleep(answer)
                return JSONResponse({})
            if isinstance(answer, bytes):
                return Response(answer, media_type="application/json")
            if isinstance(answer, int):
                return JSONResponse({"error": {"message": f"status {answer}", "code": "no"}}, answer)
            return JSONResponse(completion(answer))

        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def prompt(self, number: int) -> str:
        """The last message of a request, counted from 0."""
        return str(self.asked[number]["messages"][-1]["content"])

    def stop(self) -> None:
        self._server.force_exit = True
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


def completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def answer(code: str, hypothesis: str = "It helps.", seconds: float = 20) -> str:
    said = f'{{"hypothesis": "{hypothesis}", "reason": "It may.", "seconds": {seconds}}}'
    return f"```json\n{said}\n```\n\n```python\n{code}\n```"
