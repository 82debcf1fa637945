"""Whether a balancer may keep its connections to an engine open.

Some servers (llama.cpp's among them) close the connection after each stream without saying so in the response's
headers. A balancer that keeps such connections sends the next request into one that is just being closed: 8 % of
requests failed with 502 when measured with nginx 1.22 and 16 users.
"""

import contextlib
import http.client
import select
from urllib.parse import urlsplit

from loadstair.clock import Deadline
from loadstair.fetch import PIECE_BYTES
from loadstair.plan.model import Workload
from loadstair.topology.access import request_headers
from loadstair.topology.endpoint import Endpoint
from loadstair.topology.preflight import STREAM_BYTES_MAX, small_request

CLOSING_WAIT_S = 0.25


def keeps_connections(engine: Endpoint, workload: Workload, *, deadline: Deadline) -> bool:
    """Sends one small streamed request straight to the engine and looks whether it then closes the connection unasked.

    True also where the answer tells nothing; what is wrong with it is for the preflight to say.
    """
    asked = small_request(workload)
    parts = urlsplit(engine.url)
    if asked is None or parts.scheme != "http" or parts.hostname is None:
        return True
    path, body = asked
    headers = {**request_headers(engine), "Content-Type": "application/json", "X-Request-Id": "keepalive-probe"}
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=max(1.0, deadline.left_s()))
    with contextlib.closing(connection):
        try:
            connection.request("POST", parts.path + path, body=body, headers=headers)
            response = connection.getresponse()
            received = 0
            while piece := response.read1(PIECE_BYTES):
                received += len(piece)
                if received > STREAM_BYTES_MAX or deadline.passed():
                    return True
        except (OSError, http.client.HTTPException):
            return True
        if connection.sock is None:
            return True  # it announced the close, which a balancer heeds
        readable, _, _ = select.select([connection.sock], [], [], CLOSING_WAIT_S)
        return not readable
