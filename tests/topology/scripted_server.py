"""A small inference server that behaves as told: `scripted_server.py PORT BEHAVIOUR`. Started as a real process."""

import http.server
import json
import os
import signal
import sys
import time

GOOD_STREAM = (
    'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\n'
    'data: {"choices": [{"delta": {"content": "b"}, "finish_reason": "length"}]}\n\n'
    "data: [DONE]\n\n"
)
CUT_STREAM = 'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\n'
ERROR_STREAM = 'data: {"error": {"message": "out of memory"}}\n\n'
METRICS = 'vllm:request_success_total{finished_reason="length"} 3\nvllm:generation_tokens_total 40\n'


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour = "good"

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(503 if self.behaviour == "never_ready" else 200, "text/plain", "ok")
        elif self.path == "/v1/models" and self.behaviour == "no_model_list":
            self.answer(404, "text/plain", "not here")
        elif self.path == "/v1/models" and self.behaviour == "locked":
            self.answer(401, "application/json", "{}")
        elif self.path == "/v1/models":
            served = ["stranger", "guest"] if self.behaviour == "other_models" else ["tiny"]
            self.answer(200, "application/json", json.dumps({"data": [{"id": name} for name in served]}))
        elif self.path == "/metrics" and self.behaviour != "no_metrics":
            self.answer(200, "text/plain", METRICS)
        else:
            self.answer(404, "text/plain", "not here")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        match self.behaviour:
            case "http_500":
                self.answer(500, "application/json", json.dumps({"error": {"message": "CUDA is\nout of memory"}}))
            case "http_429":
                self.answer(429, "application/json", "{}")
            case "html":
                self.answer(200, "text/html", "<html>welcome</html>")
            case "cut":
                self.answer(200, "text/event-stream", CUT_STREAM)
            case "error_in_stream":
                self.answer(200, "text/event-stream", ERROR_STREAM)
            case "not_json":
                self.answer(200, "text/event-stream", "data: oops\n\n")
            case "endless":
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                while True:
                    self.wfile.write(CUT_STREAM.encode())
            case _:
                self.answer(200, "text/event-stream", GOOD_STREAM)

    def answer(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Seen-Request-Id", self.headers.get("X-Request-Id", "none"))
        self.send_header("X-Seen-Authorization", self.headers.get("Authorization", "none"))
        self.end_headers()
        self.wfile.write(body)
        if self.behaviour == "closes_silently" and self.command == "POST":
            self.close_connection = True


def main() -> None:
    port, behaviour = int(sys.argv[1]), sys.argv[2]
    if behaviour == "exit_at_start":
        sys.stderr.write("no such weights: /models/none\n")
        sys.exit(7)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == "forks" and os.fork() == 0:
        time.sleep(600)
    Handler.behaviour = behaviour
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
