#!/usr/bin/env python3
"""llama.cpp's own HTTP server on loopback, until SIGTERM or SIGINT. Needs the extra `llamacpp` (the wheel xllamacpp).

The default model is `tiny.gguf` beside this file: random weights that say nothing, made by
`make_tiny_gguf.py`. Any GGUF file can take its place.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

import xllamacpp


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--model", type=Path, default=Path(__file__).with_name("tiny.gguf"), help="a GGUF file")
    parser.add_argument("--alias", default="tiny", help="the model's name in the API")
    parser.add_argument("--parallel", type=int, default=8, help="slots: requests that are served at once")
    parser.add_argument("--ctx", type=int, default=4096, help="tokens of KV cache, shared by all slots")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--nice", type=int, default=15, help="gives way to the load generator, where both share the processor"
    )
    return parser.parse_args()


def server_parameters(given: argparse.Namespace) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(given.model)
    parameters.model_alias = {given.alias}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = given.port
    parameters.n_ctx = given.ctx
    parameters.n_parallel = given.parallel
    parameters.cont_batching = True
    parameters.cpuparams.n_threads = given.threads
    parameters.cpuparams_batch.n_threads = given.threads
    parameters.endpoint_metrics = True
    parameters.use_jinja = True
    return parameters


def main() -> None:
    given = arguments()
    if not given.model.is_file():
        sys.exit(f"--model: {given.model} is not a file; make_tiny_gguf.py writes the default one")
    os.nice(given.nice)
    ends = {signal.SIGTERM, signal.SIGINT}
    # Blocked before the server's threads start, which inherit it: the signal waits for sigwait below.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server = xllamacpp.Server(server_parameters(given))
    print("serving", given.model.name, "as", given.alias, "on", server.listening_address, flush=True)
    signal.sigwait(ends)
    # The server's threads would be joined on an orderly exit, which waits for the streams under way.
    os._exit(0)


if __name__ == "__main__":
    main()
