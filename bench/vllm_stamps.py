"""ASGI middleware for vLLM: when each request reached its web server, and when each chunk with text was handed back.

    VLLM_STAMPS=stamps.jsonl PYTHONPATH=bench vllm serve … --middleware vllm_stamps.Stamps

One line a request, `[X-Request-Id, entry_ns, [chunk_ns …]]`, CLOCK_REALTIME. What lies between the client's times and
vLLM's own histograms can then be told apart (`bench/real_vllm.py --stamps`). It runs inside vLLM and imports nothing of
ours.
"""

import json
import os
import time
from pathlib import Path
from typing import Any


class Stamps:
    def __init__(self, app: Any) -> None:
        self._app = app
        self._out = Path(os.environ["VLLM_STAMPS"]).open("a", encoding="utf-8")  # noqa: SIM115  open as long as the server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/completions"):
            await self._app(scope, receive, send)
            return
        entry_ns = time.time_ns()
        request_id = dict(scope["headers"]).get(b"x-request-id", b"").decode("ascii", "replace")
        chunks_ns: list[int] = []

        async def stamped_send(message: Any) -> None:
            body = message.get("body", b"")
            if b'"content":"' in body and b'"content":""' not in body:
                chunks_ns.append(time.time_ns())
            await send(message)

        try:
            await self._app(scope, receive, stamped_send)
        finally:
            self._out.write(json.dumps([request_id, entry_ns, chunks_ns]) + "\n")
            self._out.flush()
