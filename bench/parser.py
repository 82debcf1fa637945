"""What parsing an event costs: our parser, and the openai SDK's decoder with json.loads behind it, in turn.

    python bench/parser.py [--rounds 25]

Microseconds of CPU an event, median of the rounds; each stream is 256 chunks with one arrival each. "as it comes" is
the dearest way: one call of the parser for each arrival. Filling the exchange (0.5 µs) is in ours.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Final

from openai._streaming import SSEDecoder

from loadstair.load.exchange import Exchange
from loadstair.load.timeline import StreamParser

TOKENS: Final = 256
WORK_MAX: Final = 3000
_HEAD: Final = '"id":"chatcmpl-9f3a1c5be2d04c0fb0a5f6c7d2b1e3a4","object":"chat.completion.chunk","created":1763721385'
_TOP: Final = [{"token": f" t{rank}", "logprob": -1.5 - rank, "bytes": [32, 116]} for rank in range(20)]
_LOGPROBS: Final = {"content": [{"token": " t", "logprob": -0.25, "bytes": [32, 116], "top_logprobs": _TOP}]}


def chunk(delta: str, logprobs: str = "null") -> str:
    choice = f'{{"index":0,"delta":{delta},"logprobs":{logprobs},"finish_reason":null}}'
    return f'{{{_HEAD},"model":"Qwen/Qwen2.5-32B-Instruct","choices":[{choice}]}}'


SHAPES: Final = {
    "vLLM chat": (chunk('{"content":" token"}'), "\n"),
    "with CRLF (sse-starlette)": (chunk('{"content":" token"}'), "\r\n"),
    "20 log probabilities": (chunk('{"content":" token"}', json.dumps(_LOGPROBS)), "\n"),
    "tool call": (chunk('{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}'), "\n"),
    "a count as 0.0: lenient": (chunk('{"content":" token"}').replace('"index":0', '"index":0.0'), "\n"),
}


def cpu_ns(parse: Callable[[list[bytes]], int], events: list[bytes]) -> int:
    began = time.process_time_ns()
    tokens = parse(events)
    spent = time.process_time_ns() - began
    assert tokens == TOKENS
    return spent


def ours(events: list[bytes], *, as_it_comes: bool) -> int:
    exchange = Exchange("bench")
    parser = StreamParser(exchange)
    for number, event in enumerate(events, start=1):
        exchange.body += event
        exchange.note_arrival(number, number, 0)
        if as_it_comes:
            parser.advance(WORK_MAX, complete=False)
    while not parser.advance(WORK_MAX):
        pass
    return len(parser.timeline().arrivals)


def sdk(events: list[bytes]) -> int:
    decoded = [event.data for event in SSEDecoder().iter_bytes(iter(events))]
    return sum("choices" in json.loads(data) for data in decoded if data != "[DONE]")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=25)
    rounds = options.parse_args().rounds
    parsers: dict[str, Callable[[list[bytes]], int]] = {
        "at the end": lambda events: ours(events, as_it_comes=False),
        "as it comes": lambda events: ours(events, as_it_comes=True),
        "openai SDK": sdk,
    }
    print(f"| µs an event | bytes | {' | '.join(parsers)} |\n|---|---|{'---|' * len(parsers)}")
    for shape, (text, newline) in SHAPES.items():
        events = [f"data: {data}{newline * 2}".encode() for data in [text] * TOKENS + ["[DONE]"]]
        spent: dict[str, list[int]] = {name: [] for name in parsers}
        for _ in range(rounds):
            for name, parse in parsers.items():
                spent[name].append(cpu_ns(parse, events))
        figures = [f"{median(each) / TOKENS / 1000:.1f}" for each in spent.values()]
        print(f"| {shape} | {len(text)} | {' | '.join(figures)} |")


if __name__ == "__main__":
    main()
