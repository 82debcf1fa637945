"""Streams in the shapes that real servers send them, to begin fuzzing with. The words are ours."""

import json

from tests.fuzz.invariants import encode

_ID = '"id":"chatcmpl-1","object":"chat.completion.chunk","created":1763721385,"model":"m"'


def _stream(*chunks: str, done: bool = True, newline: str = "\n") -> bytes:
    events = [f"data: {chunk}{newline}{newline}" for chunk in (*chunks, *(["[DONE]"] if done else []))]
    return "".join(events).encode()


def _choice(delta: str, finish: str = "null", more: str = "") -> str:
    return f'{{{_ID},"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}{more}}}]}}'


def _tool(call: str) -> str:
    return _choice(f'{{"tool_calls":[{{"index":0,{call}}}]}}')


_USAGE = (
    '"usage":{"prompt_tokens":9,"total_tokens":11,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}'
)
_TOP = [{"token": f"t{number}", "logprob": -1.5, "bytes": [116]} for number in range(3)]
_LOGPROBS = json.dumps({"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": _TOP}] * 2})

STREAMS = {
    "vllm_chat": _stream(
        _choice('{"role":"assistant","content":""}'),
        _choice('{"content":"He"}'),
        _choice('{"content":"llo"}', '"stop"', ',"stop_reason":null,"token_ids":null'),
        f'{{{_ID},"choices":[],{_USAGE}}}',
    ),
    "vllm_running_usage": _stream(
        _choice('{"content":"a"}')[:-1] + "," + _USAGE + "}", _choice("{}", '"length"')[:-1] + "," + _USAGE + "}"
    ),
    "vllm_token_ids": _stream(_choice('{"content":"ab"}', more=',"token_ids":[5,6]'), _choice("{}", '"stop"')),
    "vllm_reasoning": _stream(_choice('{"reasoning":"hm"}'), _choice('{"content":"so"}'), _choice("{}", '"stop"')),
    "vllm_engine_dead": _stream(
        _choice('{"content":"a"}'), '{"error":{"message":"EngineCore","type":"InternalServerError","code":500}}'
    ),
    "vllm_old_error": _stream('{"object":"error","message":"no","type":"BadRequestError","param":null,"code":400}'),
    "vllm_tools": _stream(
        _tool('"id":"call_1","type":"function","function":{"name":"look","arguments":""}'),
        _tool('"function":{"arguments":"{}"}'),
        _choice('{"content":""}', '"tool_calls"'),
    ),
    "completions": _stream(
        '{"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":null}]}',
        '{"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":"","finish_reason":"length"}],"usage":null}',
    ),
    "sglang_logprobs": _stream(
        _choice(
            '{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null}', more=',"matched_stop":null'
        ),
        _choice('{"content":"aa"}').replace('"logprobs":null', f'"logprobs":{_LOGPROBS}'),
        _choice('{"content":null}', '"stop"', ',"matched_stop":151645'),
    ),
    "llamacpp": _stream(
        '{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"a"}}],"created":1,"id":"c","model":"m.gguf"}',
        '{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"timings":{"predicted_n":1,"predicted_ms":3.5}}',
        '{"choices":[],"usage":{"completion_tokens":1,"prompt_tokens":3,"total_tokens":4}}',
    ),
    "llamacpp_error_field": b'error: {"code":400,"message":"long","type":"exceed_context_size_error"}\n\n' + _stream(),
    "llamacpp_python": b": ping - 2026-01-01\r\n\r\n" + _stream(_choice('{"content":"a"}'), newline="\r\n"),
    "tgi": _stream(
        _choice('{"role":"assistant","content":"a"}'), _choice('{"content":""}', '"length"'), done=False
    ).replace(b"data: ", b"data:"),
    "tgi_error": _stream('{"error":"Request failed during generation","error_type":"generation"}', done=False),
    "transformers": _stream(_choice('{"content":"a"}'), _choice("{}", '"stop"'), done=False),
    "error_event": b'event: error\nid: 3\nretry: 10\ndata: {"message":"busy","code":503}\n\n',
    "two_choices": _stream(
        _choice('{"content":"a"}'),
        _choice('{"content":"b"}').replace('"index":0', '"index":1'),
        _choice("{}", '"stop"'),
        _choice("{}", '"stop"').replace('"index":0', '"index":1'),
    ),
    "azure": _stream(
        '{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}',
        _choice('{"content":"a","refusal":null}'),
        _choice('{"refusal":"no"}', '"content_filter"'),
    ),
    "mistral_parts": _stream(
        _choice('{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"}]}')
    ),
    "function_call": _stream(
        _choice('{"content":null,"function_call":{"name":"f","arguments":"{"}}', '"function_call"')
    ),
    "odd": b"\xef\xbb\xbfdata\ndata:\n\ndata: {\rdata:}\n\r\ndata: {}\n\ndata: NaN\n\n",
    "odd_values": _stream(
        '{"choices":[{"index":0.0,"delta":{"content":["a",{"text":""}],"tool_calls":[3]},"finish_reason":1}]}',
        '{"usage":{"prompt_tokens":5.0,"completion_tokens":1e999},"choices":[{"text":"\\ud800"}],"error":false}',
        '{"choices":[{"text":3,"text":"a","index":7}]}',
    ),
    "html": b"<html>\n<body>busy</body>\n</html>\n",
}


def seeds() -> dict[str, bytes]:
    """Each stream in one piece, and behind a long comment, cut twice, in the smallest slices."""
    whole = {name: encode(stream) for name, stream in STREAMS.items()}
    cut = {
        f"{name}_cut": encode(stream, [len(stream) // 3, len(stream) // 2], 0, long=True)
        for name, stream in STREAMS.items()
    }
    return whole | cut
