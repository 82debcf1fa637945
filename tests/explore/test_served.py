import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadstair.errors import LoadError
from loadstair.explore.served import only_model


class Models(BaseHTTPRequestHandler):
    """Answers /<status>/<text>/models with that text, and asks for the key `right` where the status is 401."""

    def do_GET(self) -> None:
        _, status, body, path = self.path.split("/", 3)
        assert path == "models"
        if status == "401" and self.headers["Authorization"] == "Bearer right":
            status = "200"
        data = bytes.fromhex(body)
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Models) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def url(origin: str, answer: object, status: int = 200) -> str:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return f"{origin}/{status}/{body.hex()}"


def listed(*names: str) -> dict[str, object]:
    return {"object": "list", "data": [{"id": name} for name in names]}


def test_the_only_model_is_taken(origin: str) -> None:
    assert only_model(url(origin, listed("a/b")), key=None) == "a/b"


def test_the_key_goes_along(origin: str) -> None:
    assert only_model(url(origin, listed("a"), 401), key="right") == "a"
    with pytest.raises(LoadError, match=r"answers with status 401$") as error:
        only_model(url(origin, listed("a"), 401), key="wr0ng")
    assert "wr0ng" not in str(error.value)


def test_of_several_the_user_must_choose(origin: str) -> None:
    with pytest.raises(LoadError, match=r"^--model was not given, and the server has several: a, b$"):
        only_model(url(origin, listed("a", "b")), key=None)
    with pytest.raises(LoadError, match=r"h and 2 more$"):
        only_model(url(origin, listed(*"abcdefghij")), key=None)


@pytest.mark.parametrize("answer", [{}, [], {"data": None}, {"data": [7, {"id": 8}]}, b"<html>", b"[" * 10_000])
def test_an_answer_that_names_none_is_said_in_a_line(origin: str, answer: object) -> None:
    with pytest.raises(LoadError, match=r"^--model was not given, and .* names none$"):
        only_model(url(origin, answer), key=None)


def test_a_server_that_is_not_there_is_said_in_a_line() -> None:
    with pytest.raises(LoadError, match=r"could not be asked: .*connection refused$") as error:
        only_model("http://127.0.0.1:9/v1", key=None)
    assert "\n" not in str(error.value)
