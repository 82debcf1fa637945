"""A page on loopback that answers as the test says, served by a thread of its own."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def served_page(answer: Callable[[int], str | int]) -> Iterator[str]:
    """URL of a page; `answer` gives the text or an error status for each request, counted from 0."""
    count = iter(range(10_000))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = answer(next(count))
            text = given if isinstance(given, str) else ""
            self.send_response(200 if isinstance(given, str) else given)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
