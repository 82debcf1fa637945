"""A server that behaves for its first requests and then in one odd way. Run as a process: odd_server.py PORT MODE GOOD.

The good answers are OpenAI event streams of as many tokens as were asked for, 2 ms apart. Modes: 500, 429, html,
no-done, error-in-stream, hang-up, exit.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count


def chunk(**choice: object) -> bytes:
    choices = [{"index": 0, **choice}]
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": choices}).encode() + b"\n\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mode = "500"
    good = 1
    served = count()
    lock = threading.Lock()

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        status = 200 if self.path in ("/health", "/v1/models") else 404
        body = json.dumps({"object": "list", "data": [{"id": "odd", "object": "model"}]}).encode()
        self.answer(status, "application/json", body)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.lock:
            behaves = next(self.served) < self.good
        tokens = asked.get("max_completion_tokens") or asked.get("max_tokens") or 1
        match "good" if behaves else self.mode:
            case "500" | "429" as status:
                body = json.dumps({"error": {"message": "out of sorts", "type": "odd"}}).encode()
                self.answer(int(status), "application/json", body)
            case "html":
                self.answer(200, "text/html", b"<html><body>Please sign in</body></html>")
            case "exit":
                print("CUDA error: an illegal memory access was encountered", flush=True)
                os._exit(9)
            case mode:
                self.stream(mode, tokens)

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, mode: str, tokens: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(chunk(delta={"role": "assistant", "content": ""}, finish_reason=None))
        for number in range(tokens):
            time.sleep(0.002)
            if number == tokens // 2 and mode == "hang-up":
                return
            self.wfile.write(chunk(delta={"content": " word"}, finish_reason=None))
        if mode == "no-done":
            return
        if mode == "error-in-stream":
            self.wfile.write(b'data: {"error": {"message": "engine died", "code": 500}}\n\n')
        else:
            self.wfile.write(chunk(delta={}, finish_reason="length"))
            usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": tokens + 3}
            self.wfile.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")


if __name__ == "__main__":
    port, Handler.mode, Handler.good = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
