"""The engine behind HTTP: OpenAI's API, vLLM's metrics, health."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_never

from aiohttp import web

from loadstair import __version__, clock
from loadstair.errors import TopologyError
from loadstair.simserver.answer import AnswerHead, CollectedAnswer, StreamedAnswer
from loadstair.simserver.api import ApiError, CompletionRequest, Kind, parse_completion
from loadstair.simserver.engine import AbortedError, Engine, Live
from loadstair.simserver.faults import DieAt, Html, NeverReady, NoDone, Status
from loadstair.simserver.metrics import CONTENT_TYPE
from loadstair.simserver.options import Options
from loadstair.simserver.scheduler import Overloaded, Scheduler
from loadstair.simserver.stopping import draw_stop_after
from loadstair.units import NS_PER_S

BODY_BYTES_MAX = 64 * 1024 * 1024
BACKLOG = 1024
CUT_S = 0.2
"""How long answers may take to end when the server stops; what is in flight is cut, not drained."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Server:
    def __init__(self, options: Options, engine: Engine) -> None:
        self._options = options
        self._config = options.scheduler
        self._engine = engine
        self._requests = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._complete("chat", request)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._complete("completions", request)

    async def _complete(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        number = self._requests
        self._requests += 1
        request_id = self._request_id(request, number)
        try:
            faulty = self._faulty_answer(request_id)
            if faulty is not None:
                return faulty
            completion = parse_completion(
                kind,
                await _body(request),
                model_name=self._options.served_model_name,
                max_model_len=self._options.max_model_len,
                adapters=self._options.lora_modules,
                prefix_block_size=self._config.block_size if self._config.prefix_caching else None,
            )
            self._refuse_what_is_too_much(completion)
        except ApiError as error:
            return web.json_response(error.body(), status=error.status, headers={"X-Request-Id": request_id})
        received_ns = clock.now_ns()
        head = AnswerHead(
            request_id=request_id,
            model_name=completion.lora or self._options.served_model_name,
            created_s=received_ns // NS_PER_S,
            kind=kind,
            tells_cached=self._options.prompt_tokens_details,
        )
        if completion.stream:
            return await self._stream(request, completion, head, number, received_ns)
        return await self._collect(request, completion, head, number, received_ns)

    async def _stream(
        self, request: web.Request, completion: CompletionRequest, head: AnswerHead, number: int, received_ns: int
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "X-Request-Id": head.request_id}
        response = web.StreamResponse(headers=headers)
        chunked = request.version >= (1, 1)
        if chunked:
            response.enable_chunked_encoding()
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client hung up before its answer began")
        answer = StreamedAnswer(
            transport,
            head,
            completion,
            chunked=chunked,
            ends_properly=not isinstance(self._options.fault, NoDone),
        )
        live = self._submit(answer, completion, head, number, received_ns)
        try:
            await live.done
        except AbortedError:
            transport.abort()
        finally:
            self._engine.abort(live)
        return response

    async def _collect(
        self, request: web.Request, completion: CompletionRequest, head: AnswerHead, number: int, received_ns: int
    ) -> web.StreamResponse:
        answer = CollectedAnswer()
        live = self._submit(answer, completion, head, number, received_ns)
        try:
            await live.done
        except AbortedError:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        finally:
            self._engine.abort(live)
        body = json.dumps(answer.body(head, completion), separators=(",", ":")).encode()
        response = web.Response(body=body, content_type="application/json", headers={"X-Request-Id": head.request_id})
        answer.write_ns.append(clock.now_ns())
        self._engine.note(live, live.sequence.request.finish)
        return response

    def _submit(
        self,
        answer: StreamedAnswer | CollectedAnswer,
        completion: CompletionRequest,
        head: AnswerHead,
        number: int,
        received_ns: int,
    ) -> Live:
        stop_after = None
        if not completion.ignore_eos:
            stop_after = draw_stop_after(seed=self._options.seed, number=number, min_tokens=completion.min_tokens)
        return self._engine.submit(
            answer,
            request_id=head.request_id,
            received_ns=received_ns,
            prompt_tokens=completion.prompt_tokens,
            max_tokens=completion.max_tokens,
            stop_after=stop_after,
            priority=completion.priority,
            prompt_blocks=completion.prompt_blocks,
            lora=completion.lora,
        )

    def _refuse_what_is_too_much(self, completion: CompletionRequest) -> None:
        """Before an answer has begun, so that its status can still say so."""
        if completion.priority and self._config.policy != "priority":
            message = f"Got priority {completion.priority} but Priority scheduling is not enabled."
            raise ApiError(400, message, param="priority")
        try:
            self._engine.scheduler.check_admission()
        except Overloaded as error:
            raise ApiError(503, f"The engine is overloaded: {error}.", kind="ServiceUnavailableError") from error

    def _request_id(self, request: web.Request, number: int) -> str:
        given = request.headers.get("X-Request-Id", "")
        return given if REQUEST_ID.fullmatch(given) else f"sim-{self._options.seed}-{number}"

    def _faulty_answer(self, request_id: str) -> web.Response | None:
        """Raises ApiError where the fault is an error body."""
        match self._options.fault:
            case Status(429):
                raise ApiError(429, "The server is overloaded. Please try again later.", kind="TooManyRequestsError")
            case Status(500):
                raise ApiError(500, "EngineCore encountered an issue.", kind="InternalServerError")
            case Html():
                page = "<!doctype html><title>Welcome</title><p>Please sign in.</p>"
                return web.Response(text=page, content_type="text/html", headers={"X-Request-Id": request_id})
            case Status() | DieAt() | NoDone() | NeverReady() | None:
                return None
            case unknown:
                assert_never(unknown)

    async def _models(self, _: web.Request) -> web.Response:
        options = self._options
        common = {"object": "model", "created": clock.now_ns() // NS_PER_S, "owned_by": "loadstair"}
        model = {
            "id": options.served_model_name,
            **common,
            "root": options.model.name,
            "parent": None,
            "max_model_len": options.max_model_len,
        }
        adapters = [
            {"id": name, **common, "root": name, "parent": options.served_model_name, "max_model_len": None}
            for name in options.lora_modules
        ]
        return web.json_response({"object": "list", "data": [model, *adapters]})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=503 if isinstance(self._options.fault, NeverReady) else 200)

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": f"loadstair-simserver {__version__}"})

    async def _metrics(self, _: web.Request) -> web.Response:
        scheduler = self._engine.scheduler
        config = scheduler.config
        page = self._engine.metrics.page(
            gauges={
                "num_requests_running": scheduler.running,
                "num_requests_waiting": scheduler.waiting,
                "kv_cache_usage_perc": scheduler.blocks_used / config.blocks,
            },
            counters=_counters(scheduler),
            cache_config={
                "block_size": str(config.block_size),
                "num_gpu_blocks": str(config.blocks),
                "gpu_memory_utilization": str(self._options.gpu_memory_utilization),
                "cache_dtype": "auto",
                "enable_prefix_caching": str(config.prefix_caching),
            },
        )
        return web.Response(body=page.encode(), headers={"Content-Type": CONTENT_TYPE})


def _counters(scheduler: Scheduler) -> dict[str, int]:
    """By vLLM's names; as there, those of a feature that is off are missing, but for the prefix cache's."""
    counted = scheduler.counters
    named = {
        "num_preemptions": counted.preemptions,
        "prompt_tokens": counted.prompt_tokens,
        "generation_tokens": counted.generation_tokens,
        "prefix_cache_queries": counted.prefix_cache_queries,
        "prefix_cache_hits": counted.prefix_cache_hits,
    }
    if scheduler.config.max_num_queued_reqs is not None:
        named["admission_rejections"] = counted.admission_rejections
    if scheduler.config.speculation is not None:
        named |= {
            "spec_decode_num_drafts": counted.drafts,
            "spec_decode_num_draft_tokens": counted.draft_tokens,
            "spec_decode_num_accepted_tokens": counted.accepted_tokens,
        }
    return named


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise ApiError(413, f"The body is longer than {BODY_BYTES_MAX} bytes") from error


@asynccontextmanager
async def listening(server: Server, host: str, port: int) -> AsyncIterator[str]:
    """Serves at the origin that it yields, until the block is left. Raises TopologyError if the port is taken."""
    # With cancellation, a request whose client hangs up is aborted.
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=CUT_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise TopologyError(f"simserver: cannot listen on {host}:{port}: {error.strerror or error}") from error
        bound_port = runner.addresses[0][1]
        yield f"http://[{host}]:{bound_port}" if ":" in host else f"http://{host}:{bound_port}"
    finally:
        await runner.cleanup()
