"""The server's URL, as `--host` and the form give it."""

import re
from typing import Final
from urllib.parse import urlsplit

from loadstair.plain import one_line

KEY_VARIABLE: Final = "OPENAI_API_KEY"
"""As every program on the openai SDK reads it."""

_USUAL_PORT: Final = {"http": 80, "https": 443}


def host_mistake(host: str) -> str | None:
    """What is wrong with it, and what would be right, in one line; None if nothing is."""
    try:
        parts = urlsplit(host)
        usable = parts.scheme in _USUAL_PORT and parts.hostname and parts.port != 0 and host.isprintable()
    except ValueError:
        parts, usable = None, False
    if parts is None or not usable or re.search(r"[\s<>]", host):
        return f"should be a URL such as http://127.0.0.1:8000, not {one_line(repr(host), 60)}"
    if "@" in parts.netloc:
        return f"must not hold a user and password: the key is read from {KEY_VARIABLE}"
    if parts.query or parts.fragment:
        return "must end with the path: the requests' own paths are put behind it"
    return None


def origin(host: str) -> str | None:
    """Scheme, name and port, always written the same way; None of what is no URL of a server."""
    if host_mistake(host) is not None:
        return None
    parts = urlsplit(host)
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{name}:{parts.port or _USUAL_PORT[parts.scheme]}"
