"""How the orchestrator gets in: the endpoint's headers, key and TLS settings, for its own small requests."""

import os
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from loadstair.errors import TopologyError
from loadstair.fetch import Answer, fetch
from loadstair.tls import ca_line, client_context
from loadstair.topology.endpoint import Endpoint

ANSWER_BYTES_MAX = 4 * 1024 * 1024


def request_headers(endpoint: Endpoint, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The plan's headers, and the key as a bearer token where the plan names a variable that holds one.

    Raises TopologyError if that variable is not set, or holds what is no key.
    """
    headers = dict(endpoint.headers)
    if endpoint.api_key_env is not None:
        key = environ.get(endpoint.api_key_env)
        if not key:
            raise TopologyError(missing_key_line(endpoint.api_key_env))
        if not (key.isascii() and key.isprintable()):
            raise TopologyError(
                f"api_key_env: the environment variable {endpoint.api_key_env} holds characters that no HTTP header "
                "can carry (a line end, perhaps); expected the bare key"
            )
        headers["Authorization"] = f"Bearer {key}"
    return headers


def missing_key_line(api_key_env: str) -> str:
    return f"api_key_env: the environment variable {api_key_env} is not set; export {api_key_env}=… and start again"


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """None for plain HTTP. Raises TopologyError if the plan's CA file cannot be used."""
    if not endpoint.url.startswith("https://"):
        return None
    try:
        return client_context(ca=endpoint.tls_ca, verify=endpoint.tls_verify)
    except OSError as error:
        raise TopologyError(ca_line(endpoint.tls_ca, error)) from error


def origin(url: str) -> str:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def host_and_port(url: str) -> tuple[str, int]:
    """Raises TopologyError if the URL has no host, or a port that is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise TopologyError(f"{url}: {error}; expected http://HOST:PORT") from error
    if not host:
        raise TopologyError(f"{url}: has no host; expected http://HOST:PORT")
    return host, port or (443 if parts.scheme == "https" else 80)


def ask(
    endpoint: Endpoint,
    url: str,
    *,
    timeout_s: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    body_bytes_max: int = ANSWER_BYTES_MAX,
) -> Answer:
    """One request to the endpoint or to something behind it; FetchError when no usable answer came.

    Headers and key go to the endpoint's own origin only: a metrics page elsewhere must not learn them.
    """
    own = request_headers(endpoint) if origin(url) == origin(endpoint.url) else {}
    return fetch(
        url,
        body=body,
        headers={**own, **(headers or {})},
        timeout_s=timeout_s,
        tls=tls_context(endpoint) if url.startswith("https://") else None,
        body_bytes_max=body_bytes_max,
    )
