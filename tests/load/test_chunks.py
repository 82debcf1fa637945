import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstair.load.chunks import (
    CALLS_MAX,
    CHOICES_MAX,
    LENIENT_BYTES_MAX,
    PARTS_MAX,
    Choice,
    ChunkError,
    carries_output,
    decode_chunk,
    listed_tokens,
)
from tests.load.streams import UNTIMED


def choice(**fields: object) -> Choice:
    chunk, _ = decode_chunk(json.dumps({"choices": [fields]}).encode())
    assert chunk.choices is not None
    return chunk.choices[0]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"content": None, "reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"content": None, "refusal": "no"},
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": ""}}]},
        {"content": None, "tool_calls": [{"index": 0, "function": {"arguments": '{"'}}]},
        {"tool_calls": [{"function": {"arguments": {"city": "Oslo"}}}]},
        {"function_call": {"arguments": "}"}},
        {"content": ["a"]},
        {"content": [{"type": "text", "text": ""}, {"type": "text", "text": "a"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ],
)
def test_what_the_model_wrote_is_output(delta: dict[str, object]) -> None:
    assert carries_output(choice(delta=delta))


@pytest.mark.parametrize(
    "delta",
    [
        {"role": "assistant", "content": ""},
        {"content": None, "reasoning_content": None, "reasoning": "", "refusal": None},
        {"tool_calls": []},
        {"tool_calls": None, "function_call": None},
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": None, "arguments": ""}}]},
        {"tool_calls": [{"index": 0}, 3]},
        {"content": []},
        {"content": [{"type": "text", "text": ""}, {"type": "image"}, 3]},
        {"content": 3},
        {},
    ],
)
def test_what_only_frames_it_is_none(delta: dict[str, object]) -> None:
    assert not carries_output(choice(delta=delta))


def test_only_so_many_parts_and_calls_are_looked_at() -> None:
    assert carries_output(choice(delta={"content": [""] * (PARTS_MAX - 1) + ["a"]}))
    assert not carries_output(choice(delta={"content": [""] * PARTS_MAX + ["a"]}))
    call = {"function": {"name": "look"}}
    assert carries_output(choice(delta={"tool_calls": [{}] * (CALLS_MAX - 1) + [call]}))
    assert not carries_output(choice(delta={"tool_calls": [{}] * CALLS_MAX + [call]}))


def test_completions_have_their_text_in_the_choice() -> None:
    assert carries_output(choice(text="a"))
    assert not carries_output(choice(text=""))
    assert not carries_output(choice(text=None, delta=None))


def test_token_ids_or_log_probabilities_tell_how_many_tokens_there_are() -> None:
    assert listed_tokens(choice(token_ids=[5, 6, 7])) == 3
    assert listed_tokens(choice(logprobs={"content": [{"token": "a", "logprob": -1, "top_logprobs": []}] * 2})) == 2
    assert listed_tokens(choice(token_ids=None, logprobs=None)) is None
    assert listed_tokens(choice(logprobs={"content": None})) is None
    assert listed_tokens(choice(logprobs={"tokens": ["a"]})) is None  # with echo, these include the prompt's


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('{"error": {"message": "secret", "type": "server_error", "code": 500}}', "server_error: 500"),
        ('{"error": {"message": "secret"}}', ""),
        ('{"error": "secret", "error_type": "generation"}', "generation"),
        ('{"error": "secret"}', ""),
        ('{"object": "error", "message": "secret", "type": "BadRequestError", "code": 400}', "BadRequestError: 400"),
        ('{"error": {"message": "secret", "http_status_code": 422}}', "422"),
        ('{"error": {"type": ["odd"], "code": "overloaded"}}', "overloaded"),
        ('{"error": {}}', ""),
        ('{"error": true}', ""),
        ('{"choices": [{"delta": {"content": ""}, "finish_reason": "error"}], "error": {"code": 502}}', "502"),
    ],
)
def test_every_servers_way_to_say_error_is_understood_without_its_message(said: str, kind: str) -> None:
    chunk, _ = decode_chunk(said.encode())
    assert chunk.failed()
    assert chunk.fault().kind() == kind


@pytest.mark.parametrize("said", ['{"error": null}', '{"error": ""}', '{"error": false}', '{"error": 0}', "{}"])
def test_an_error_that_says_nothing_is_none(said: str) -> None:
    assert not decode_chunk(said.encode())[0].failed()


@pytest.mark.parametrize(
    ("said", "prompt_tokens"),
    [
        *[("5", 5), ("5.0", 5), ("2147483647", 2147483647), ("2147483648", None), ("1" * 4000, None), ("5.5", None)],
        *[("-1", None), ("true", None), ('"5"', None), ("1e400", None), ("null", None)],
    ],
)
def test_a_count_is_a_whole_number_or_unknown(said: str, prompt_tokens: int | None) -> None:
    usage = decode_chunk(f'{{"usage": {{"prompt_tokens": {said}, "completion_tokens": 2}}}}'.encode())[0].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (prompt_tokens, 2)


@pytest.mark.parametrize(
    "said",
    [
        b'{"choices": [{"text": "\xff"}]}',
        b'{"choices": [{"text": "\\ud800"}]}',
        b'{"choices": [{"text": "a", "logprobs": {"top_logprobs": [-Infinity, NaN]}}]}',
        b'{"choices": 3, "choices": [{"text": "a"}]}',
        b'{"choices": [{"index": 0.0, "text": "a", "finish_reason": 3}], "usage": "none", "object": 3}',
        b'{"choices": [{"index": null, "text": "a"}], "x": ' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)
def test_oddities_that_the_openai_sdk_lets_pass_pass(said: bytes) -> None:
    choices = decode_chunk(said)[0].choices
    assert choices is not None
    assert [carries_output(choice) for choice in choices] == [True]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"3",
        b"null",
        b"[DONE]",
        b"{",
        b'{"choices": 3}',
        b'{"choices": [3]}',
        b'{"choices": [{"index": 1000000}]}',
        b'{"choices": [' + b"{}," * CHOICES_MAX + b"{}]}",
        b'{"a": NaN, "b": "' + b"x" * LENIENT_BYTES_MAX + b'"}',
        b'{"a": ' + b"[" * 60_000,
        b'{"usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}",
    ],
)
def test_what_is_none_of_the_apis_is_refused(said: bytes) -> None:
    with pytest.raises(ChunkError):
        decode_chunk(said)


text = st.none() | st.text(max_size=3)
count = st.none() | st.integers(0, 9)
function = st.fixed_dictionaries({}, optional={"name": text, "arguments": text})
call = st.fixed_dictionaries({}, optional={"function": st.none() | function, "id": text})
part = st.text(max_size=2) | st.fixed_dictionaries({"type": st.just("text")}, optional={"text": st.text(max_size=2)})
delta = st.fixed_dictionaries(
    {},
    optional={
        "content": text | st.lists(part, max_size=3),
        "reasoning_content": text,
        "reasoning": text,
        "refusal": text,
        "tool_calls": st.none() | st.lists(call, max_size=3),
        "function_call": st.none() | function,
        "role": text,
    },
)
logprobs = st.fixed_dictionaries({}, optional={"content": st.none() | st.lists(st.just({"token": "a"}), max_size=3)})
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 9),
        "delta": st.none() | delta,
        "text": text,
        "finish_reason": text,
        "token_ids": st.none() | st.lists(st.integers(), max_size=3),
        "logprobs": st.none() | logprobs,
    },
)
details = st.fixed_dictionaries({}, optional={"cached_tokens": count})
usages = st.fixed_dictionaries({}, optional={"prompt_tokens": count, "prompt_tokens_details": st.none() | details})
faults = st.fixed_dictionaries({}, optional={"type": text | st.integers(0, 9), "code": text | st.integers(0, 9)})
chunks = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.none() | st.lists(choices, max_size=3),
        "usage": st.none() | usages,
        "error": text | faults,
        "object": text,
        "type": text,
        "code": count,
    },
)


@UNTIMED
@given(chunks)
def test_reading_leniently_gives_what_reading_strictly_gives(said: dict[str, object]) -> None:
    strict, strictly = decode_chunk(json.dumps(said).encode())
    lenient, leniently = decode_chunk(json.dumps({**said, "odd": float("nan")}).encode())
    assert (strictly, leniently) == (True, False)
    assert lenient == strict
