"""The openai SDK as the front door: base URL, key, headers and error classes are those of the user's application.

Underneath is our transport, and the response is handed over undrained: the SDK's own stream objects cost more CPU
for a token than everything else together. `OpenAI.post` is the SDK's documented way to call any endpoint.
"""

import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import openai
from openai import OpenAI, Stream

from loadstair.errors import LoadError
from loadstair.load.config import LoadConfig
from loadstair.load.direct import DirectClient
from loadstair.load.exchange import Exchange
from loadstair.load.transport import StampedTransport, TimeLimits
from loadstair.plain import one_line
from loadstair.plan.model import EndpointKind, Workload
from loadstair.samples.record import Outcome
from loadstair.tls import ca_line, client_context

logger = logging.getLogger(__name__)

PATHS: Final = {EndpointKind.CHAT: "/chat/completions", EndpointKind.COMPLETIONS: "/completions"}
NO_KEY: Final = "none"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request did not end with a complete 200 response."""

    outcome: Outcome
    error: str


class LoadClient:
    """One for a process: making an `OpenAI` costs as much as a hundred requests."""

    def __init__(self, config: LoadConfig) -> None:
        """Raises LoadError when the key's variable is not set, or the CA file cannot be read."""
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        path = PATHS.get(config.workload.endpoint)
        if path is None:
            raise LoadError(f"workload.endpoint: {config.workload.endpoint}: this version drives chat and completions")
        # Whole, because the SDK parses three URLs a request to put one together.
        self._url = config.base_url.rstrip("/") + path
        limits = TimeLimits(
            connect_s=config.connect_timeout_s,
            first_byte_s=config.first_byte_timeout_s,
            idle_s=config.idle_timeout_s,
            request_s=config.request_timeout_s,
        )
        self._transport = StampedTransport(
            limits=limits, keep_alive=config.connections == "keep_alive", tls=_tls_context(config)
        )
        self._openai = OpenAI(
            base_url=config.base_url,
            api_key=_api_key(config.api_key_env),
            max_retries=0,  # a retry would hide shedding and restart TTFT
            default_headers={"Accept-Encoding": "identity", **config.headers},
            http_client=DirectClient(self._transport),
        )

    def send(self, exchange: Exchange, body: Mapping[str, Any]) -> Failure | None:
        """Runs one request to the end of its response; what was seen is in `exchange`, whatever happens."""
        transport = self._transport
        transport.expect(exchange)
        try:
            self._openai.post(
                self._url,
                body=body,
                options={"headers": {"X-Request-Id": exchange.request_id}},
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=Stream[object],
            )
            transport.drain(exchange)
        except openai.APIStatusError as error:
            exchange.status = error.status_code
            return Failure(Outcome.HTTP_ERROR, _status_text(error))
        except openai.APIConnectionError as error:
            return _failure(error.__cause__ or error)
        except Exception as error:  # noqa: BLE001  what nobody foresaw ends a request, never a user
            return _failure(error)
        finally:
            transport.forget(exchange)
        return None

    def close(self) -> None:
        self._openai.close()


def request_body(workload: Workload, *, system: str | None, prompt: str, output_tokens: int) -> dict[str, Any]:
    """`system` is the shared prefix; a completions prompt begins with it."""
    body: dict[str, Any] = {
        "model": workload.model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": output_tokens,
        "temperature": workload.temperature,
    }
    if workload.ignore_eos:
        body["ignore_eos"] = True
    if workload.endpoint is EndpointKind.COMPLETIONS:
        body["prompt"] = prompt if system is None else f"{system} {prompt}"
        return body
    body["messages"] = [{"role": "user", "content": prompt}]
    if system is not None:
        body["messages"].insert(0, {"role": "system", "content": system})
    return body


def _failure(error: BaseException) -> Failure:
    match error:
        case httpx2.TimeoutException():
            outcome = Outcome.TIMEOUT
        case httpx2.ConnectError():
            outcome = Outcome.REFUSED
        case httpx2.NetworkError():
            outcome = Outcome.DISCONNECTED
        case httpx2.HTTPError() | openai.OpenAIError():
            outcome = Outcome.MALFORMED
        case _:
            logger.error("a mistake of the client", exc_info=error)
            return Failure(Outcome.MALFORMED, f"the client failed: {type(error).__name__}")
    return Failure(outcome, one_line(str(error) or type(error).__name__))


def _status_text(error: openai.APIStatusError) -> str:
    """The server's kind and code of error. Its message stays out: servers quote the request in it."""
    body = error.body if isinstance(error.body, dict) else {}
    details = [str(body[key]) for key in ("type", "code") if isinstance(body.get(key), str | int)]
    if error.response.has_redirect_location:
        details = [f"to {_target(error.response)}: redirects are not followed"]
    return one_line(": ".join([f"HTTP {error.status_code}", *details]))


def _target(response: httpx2.Response) -> str:
    """The host that a redirect names; not the rest, which can hold anything."""
    try:
        url = response.url.join(response.headers["location"])
    except httpx2.InvalidURL:
        return "an invalid URL"
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"


def _api_key(variable: str | None) -> str:
    """No variable, no key: one that stands in the environment is not sent to whom it was not meant for."""
    if variable is None:
        return NO_KEY
    key = os.environ.get(variable)
    if not key:
        raise LoadError(f"api_key_env: the environment variable {variable} is not set on this worker")
    return key


def _tls_context(config: LoadConfig) -> ssl.SSLContext | None:
    if not config.base_url.startswith("https:"):
        return None
    try:
        return client_context(ca=config.tls_ca, verify=config.tls_verify)
    except OSError as error:
        raise LoadError(ca_line(config.tls_ca, error)) from error
