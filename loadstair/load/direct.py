"""The httpx2 client between the openai SDK and our transport, without what a load generator has no use for.

Cookies, redirects, environment proxies, authentication flows and event hooks cost a third of what the SDK needs for a
request; it has already set every header. Source: httpx2's Client, `build_request` and `send`.
"""

from typing import Any, Final

import httpx2

_PLAIN: Final = {"method", "url", "headers", "content", "timeout", "params", "files"}
"""What the SDK gives for a request with a JSON body; the last three are None, or for the transport to know."""


class DirectClient(httpx2.Client):
    def __init__(self, transport: httpx2.BaseTransport) -> None:
        super().__init__(transport=transport, trust_env=False, follow_redirects=False)
        self._direct = transport
        self._urls: dict[str, httpx2.URL] = {}

    def build_request(self, method: str, url: httpx2.URL | str, **options: Any) -> httpx2.Request:
        if options.get("params") or options.get("files") or not options.keys() <= _PLAIN:
            return super().build_request(method, url, **options)
        return httpx2.Request(method, self._url(str(url)), headers=options.get("headers"), content=options["content"])

    def _url(self, text: str) -> httpx2.URL:
        """Of few: they are all of one server."""
        known = self._urls.get(text)
        if known is None:
            known = self._urls[text] = httpx2.URL(text)
        return known

    def send(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        """The body is left to be read, whatever `stream` says."""
        return self._direct.handle_request(request)
