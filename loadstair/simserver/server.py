"""The engine behind HTTP: OpenAI's API, the small endpoints of the server that is played, its metrics page."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from loadstair import __version__, clock
from loadstair.errors import TopologyError
from loadstair.simserver.answer import CollectedAnswer, SlowClientError, StreamedAnswer
from loadstair.simserver.api import CompletionRequest, parse_completion
from loadstair.simserver.chunks import AnswerHead, Kind, error_body
from loadstair.simserver.embeddings import embeddings_body, parse_embedding
from loadstair.simserver.engine import AbortedError, Engine, Live
from loadstair.simserver.exposition import CONTENT_TYPE
from loadstair.simserver.faults import (
    Html,
    NeverReady,
    NoDone,
    RequestFault,
    Status,
    StreamError,
    Truncate,
    request_faults,
)
from loadstair.simserver.fields import ApiError, refusal
from loadstair.simserver.metrics import EngineState, LoraState
from loadstair.simserver.options import Options
from loadstair.simserver.pages import metrics_page
from loadstair.simserver.scheduler import Overloaded
from loadstair.simserver.stopping import draw_stop_after
from loadstair.simserver.tokenizing import detokenize, tokenize
from loadstair.simserver.words import Vocabulary
from loadstair.units import NS_PER_S, s_from_ns

BODY_BYTES_MAX = 64 * 1024 * 1024
BACKLOG = 1024
CUT_S = 0.2
"""How long an answer that has its last token, or was aborted, may take to leave when the server stops."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
TOO_BUSY = (
    "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
)
HTML_PAGE = "<!doctype html><title>Welcome</title><p>Please sign in.</p>"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    def __init__(self, options: Options, engine: Engine) -> None:
        self._options = options
        self._http = options.http
        self._config = options.scheduler
        self._engine = engine
        self._requests = 0
        self._vocabulary = Vocabulary(options.model.vocab)
        self._start_ns = clock.monotonic_ns()
        self._drains = False
        # Any model name will do for the others.
        self._model_asked = options.served_model_name if options.http.dialect == "vllm" else None

    def app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._error_bodies])
        routes = app.router
        routes.add_post("/v1/chat/completions", self._chat)
        routes.add_post("/v1/completions", self._completions)
        routes.add_post("/v1/embeddings", self._embeddings)
        routes.add_post("/tokenize", self._tokenize)
        routes.add_post("/detokenize", self._detokenize)
        routes.add_post("/ping", self._ping)
        for path, handler in (
            ("/v1/models", self._models),
            ("/health", self._health),
            ("/ping", self._ping),
            ("/load", self._load),
            ("/version", self._version),
            ("/metrics", self._metrics),
        ):
            routes.add_get(path, handler, allow_head=False)
        return app

    def refuse_new_requests(self) -> None:
        """What is under way goes on, and the small endpoints answer as before."""
        self._drains = True

    @web.middleware
    async def _error_bodies(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The bodies of the server that is played, for what its handlers refuse and for what has no handler."""
        try:
            return await handler(request)
        except ApiError as error:
            fields = error_body(
                self._http.dialect, status=error.status, message=str(error), kind=error.kind, param=error.param
            )
            return _json(fields, status=error.status)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
            if self._http.dialect == "llamacpp":
                missing = {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}
                return _json(missing, status=404)
            allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return _json({"detail": error.reason}, status=error.status, headers=allowed)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._complete("chat", request)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._complete("completions", request)

    async def _complete(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        number, faults = self._take_number()
        refused = _refused(faults)
        if refused is not None:
            return refused
        completion = parse_completion(
            kind,
            await self._body(request),
            model_name=self._model_asked,
            max_model_len=self._options.max_model_len,
            adapters=self._options.lora_modules,
            prefix_block_size=self._config.block_size if self._config.prefix_caching else None,
        )
        self._check_priority(completion.priority)
        self._check_admission()
        received_ns = clock.now_ns()
        head = AnswerHead(
            request_id=self._request_id(request, number),
            model_name=completion.lora or self._options.served_model_name,
            created_s=received_ns // NS_PER_S,
            kind=kind,
            dialect=self._http.dialect,
            tells_cached=self._options.prompt_tokens_details,
        )
        stop_after = self._stop_after(completion, number)
        if completion.stream:
            return await self._stream(request, completion, head, stop_after, faults, received_ns)
        return await self._collect(request, completion, head, stop_after, received_ns)

    async def _stream(
        self,
        request: web.Request,
        completion: CompletionRequest,
        head: AnswerHead,
        stop_after: int | None,
        faults: tuple[RequestFault, ...],
        received_ns: int,
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "X-Request-Id": head.request_id}
        response = web.StreamResponse(headers=headers)
        chunked = request.version >= (1, 1)
        if chunked:
            response.enable_chunked_encoding()
        if head.dialect == "llamacpp":
            response.force_close()
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client hung up before its answer began")
        told, silent = _has(faults, StreamError), _has(faults, Truncate)
        output_tokens = min(completion.max_tokens, stop_after or completion.max_tokens)
        answer = StreamedAnswer(
            transport,
            head,
            completion,
            chunked=chunked,
            interval_tokens=self._http.stream_interval_tokens,
            ends_properly=not _has(faults, NoDone),
            broken_after=output_tokens // 2 if told or silent else None,
            tells_of_break=told,
        )
        live = self._submit(answer, completion, head, stop_after, received_ns)
        try:
            await self._ended(live, answer)
        except AbortedError:
            if not answer.told_of_break:
                transport.abort()
        finally:
            self._engine.abort(live)
        return response

    async def _ended(self, live: Live, answer: StreamedAnswer) -> None:
        """Returns when the answer has its last token, and keeps the stream alive until then. Raises AbortedError."""
        keep_alive_s = self._http.keep_alive_s
        while keep_alive_s and not live.done.done():
            silent_s = s_from_ns(clock.now_ns() - answer.last_write_ns)
            if silent_s >= keep_alive_s:
                try:
                    answer.keep_alive()
                except SlowClientError:
                    self._engine.abort(live)
                silent_s = 0.0
            await asyncio.wait([live.done], timeout=keep_alive_s - silent_s)
        await live.done

    async def _collect(
        self,
        request: web.Request,
        completion: CompletionRequest,
        head: AnswerHead,
        stop_after: int | None,
        received_ns: int,
    ) -> web.StreamResponse:
        answer = CollectedAnswer()
        live = self._submit(answer, completion, head, stop_after, received_ns)
        if not await self._all_done(request, [live]):
            return web.Response()
        response = _json(answer.body(head, completion), headers={"X-Request-Id": head.request_id})
        self._note_written([live], [answer])
        return response

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        """One pass of the scheduler for each text: its prompt, and no token of output."""
        number, faults = self._take_number()
        refused = _refused(faults)
        if refused is not None:
            return refused
        options = self._options
        embedding = parse_embedding(
            await self._body(request),
            model_name=self._model_asked,
            max_model_len=options.max_model_len,
            hidden=options.model.hidden,
        )
        self._check_admission(len(embedding.inputs))
        received_ns = clock.now_ns()
        request_id = self._request_id(request, number)
        answers = [CollectedAnswer() for _ in embedding.inputs]
        lives = [
            self._engine.submit(
                answer,
                request_id=request_id,
                received_ns=received_ns,
                prompt_tokens=max(1, len(words)),
                max_tokens=1,
                stop_after=None,
                pooling=True,
            )
            for answer, words in zip(answers, embedding.inputs, strict=True)
        ]
        if not await self._all_done(request, lives):
            return web.Response()
        created_s = received_ns // NS_PER_S
        body = embeddings_body(
            embedding, request_id=request_id, model_name=options.served_model_name, created_s=created_s
        )
        response = _json(body, headers={"X-Request-Id": request_id})
        self._note_written(lives, answers)
        return response

    async def _all_done(self, request: web.Request, lives: list[Live]) -> bool:
        """False, and the connection cut, if one of them was aborted."""
        try:
            for live in lives:
                await live.done
        except AbortedError:
            if request.transport is not None:
                request.transport.abort()
            return False
        finally:
            for live in lives:
                self._engine.abort(live)
        return True

    def _note_written(self, lives: list[Live], answers: list[CollectedAnswer]) -> None:
        written_ns = clock.now_ns()
        for live, answer in zip(lives, answers, strict=True):
            answer.write_ns.append(written_ns)
            self._engine.note(live, live.sequence.request.finish)

    def _submit(
        self,
        answer: StreamedAnswer | CollectedAnswer,
        completion: CompletionRequest,
        head: AnswerHead,
        stop_after: int | None,
        received_ns: int,
    ) -> Live:
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

    def _check_priority(self, priority: int) -> None:
        """Raises ApiError for one that would mean nothing."""
        if priority and self._config.policy != "priority":
            raise refusal(f"Got priority {priority} but Priority scheduling is not enabled.", param="priority")

    def _check_admission(self, requests: int = 1) -> None:
        """Before an answer has begun, so that its status can still say so. Raises ApiError."""
        if self._drains:
            raise ApiError(500, "cannot schedule new futures after shutdown", kind="InternalServerError")
        try:
            self._engine.scheduler.check_admission(requests)
        except Overloaded as error:
            raise ApiError(503, TOO_BUSY, kind="Service Unavailable") from error

    def _stop_after(self, completion: CompletionRequest, number: int) -> int | None:
        """The output token that ends the answer before its limit: the model's own end or a stop string's."""
        ends = [] if completion.stop is None else [completion.stop.after_tokens]
        if not completion.ignore_eos:
            ends.append(draw_stop_after(seed=self._options.seed, number=number, min_tokens=completion.min_tokens))
        return min(ends, default=None)

    def _take_number(self) -> tuple[int, tuple[RequestFault, ...]]:
        """The number of the request that has just come, and the faults that befall it."""
        number = self._requests
        self._requests += 1
        since_start_s = s_from_ns(clock.monotonic_ns() - self._start_ns)
        faults = request_faults(self._http.faults, seed=self._options.seed, number=number, since_start_s=since_start_s)
        return number, faults

    async def _body(self, request: web.Request) -> bytes:
        kind = request.content_type if "Content-Type" in request.headers else "application/json"
        if self._http.dialect == "vllm" and kind != "application/json":
            message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
            raise ApiError(400, message, kind="Bad Request")
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise ApiError(413, f"The body is longer than {BODY_BYTES_MAX} bytes") from error

    def _request_id(self, request: web.Request, number: int) -> str:
        given = request.headers.get("X-Request-Id", "")
        return given if REQUEST_ID.fullmatch(given) else f"sim-{self._options.seed}-{number}"

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        fields = tokenize(
            body,
            self._vocabulary,
            model_name=self._model_asked,
            adapters=self._options.lora_modules,
            max_model_len=self._options.max_model_len,
        )
        return _json(fields)

    async def _detokenize(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        adapters = self._options.lora_modules
        return _json(detokenize(body, self._vocabulary, model_name=self._model_asked, adapters=adapters))

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
        return _json({"object": "list", "data": [model, *adapters]})

    async def _health(self, _: web.Request) -> web.Response:
        if _has(self._http.faults, NeverReady):
            return web.Response(status=503)
        return _json({"status": "ok"}) if self._http.dialect == "llamacpp" else web.Response()

    async def _ping(self, request: web.Request) -> web.Response:
        return await self._health(request)

    async def _load(self, _: web.Request) -> web.Response:
        scheduler = self._engine.scheduler
        return _json({"server_load": scheduler.running + scheduler.waiting})

    async def _version(self, _: web.Request) -> web.Response:
        return _json({"version": f"loadstair-simserver {__version__}"})

    async def _metrics(self, _: web.Request) -> web.Response:
        scheduler, options = self._engine.scheduler, self._options
        config = scheduler.config
        state = EngineState(
            model_name=options.served_model_name,
            running=scheduler.running,
            waiting=scheduler.waiting,
            blocks=config.blocks,
            blocks_used=scheduler.blocks_used,
            block_size=config.block_size,
            counters=scheduler.counters,
            cache_config={
                "block_size": str(config.block_size),
                "num_gpu_blocks": str(config.blocks),
                "gpu_memory_utilization": str(options.gpu_memory_utilization),
                "cache_dtype": "auto",
                "enable_prefix_caching": str(config.prefix_caching),
            },
            lora=self._lora_state(),
        )
        page = metrics_page(self._http.dialect, state, self._engine.metrics)
        return web.Response(body=page.encode(), headers={"Content-Type": CONTENT_TYPE})

    def _lora_state(self) -> LoraState | None:
        scheduler, loras = self._engine.scheduler, self._config.loras
        if loras is None:
            return None
        return LoraState(
            max_loras=loras.max_loras,
            running=scheduler.running_adapters,
            waiting=scheduler.waiting_adapters,
            read_s=s_from_ns(clock.now_ns()),
        )


def _refused(faults: tuple[RequestFault, ...]) -> web.Response | None:
    """The answer to a request that a fault keeps from the engine. Raises ApiError where that is an error body."""
    for fault in faults:
        match fault:
            case Status(429):
                raise ApiError(429, "The server is overloaded. Please try again later.", kind="TooManyRequestsError")
            case Status(code):
                raise ApiError(code, "EngineCore encountered an issue.", kind="InternalServerError")
            case Html():
                return web.Response(text=HTML_PAGE, content_type="text/html")
            case NoDone() | Truncate() | StreamError():
                continue
    return None


def _has(faults: tuple[object, ...], kind: type) -> bool:
    return any(isinstance(fault, kind) for fault in faults)


def _json(fields: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    body = json.dumps(fields, separators=(",", ":")).encode()
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


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
