"""Requests as the engine reads them: a word is a token."""

import json
from typing import Any

import pytest

from loadstair.simserver.api import ApiError, CompletionRequest, parse_completion


def chat(**fields: Any) -> CompletionRequest:
    body = {"messages": [{"role": "user", "content": "one two three"}]} | fields
    return parse_completion("chat", json.dumps(body).encode(), model_name="m", max_model_len=100)


def completions(**fields: Any) -> CompletionRequest:
    return parse_completion("completions", json.dumps(fields).encode(), model_name="m", max_model_len=100)


def test_the_words_of_all_messages_count():
    parts = [{"type": "text", "text": "four five"}, {"type": "image_url", "image_url": {"url": "x"}}]
    messages = [
        {"role": "system", "content": "one  two\nthree"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None},
    ]
    assert chat(messages=messages).prompt_tokens == 5


def test_a_prompt_may_be_text_or_token_ids():
    assert completions(prompt="one two").prompt_tokens == 2
    assert completions(prompt=["one two"]).prompt_tokens == 2
    assert completions(prompt=[5, 6, 7]).prompt_tokens == 3


def test_without_a_limit_chat_fills_the_context_and_completions_give_16():
    assert chat().max_tokens == 97  # 100 - 3
    assert completions(prompt="one two three").max_tokens == 16


def test_the_newer_name_of_the_limit_wins():
    assert chat(max_tokens=5, max_completion_tokens=9).max_tokens == 9


def test_stream_options_of_null_are_as_good_as_none():
    assert not chat(stream=True, stream_options=None).include_usage


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "messages must be a list"),
        ({"messages": "hello"}, "messages must be a list"),
        ({"messages": [{"role": "user", "content": 5}]}, "content must be a string"),
        ({"max_tokens": 0}, "must be at least 1"),
        ({"max_tokens": "5"}, "must be an integer"),
        ({"max_tokens": True}, "must be an integer"),
        ({"max_tokens": 98}, "too large: 98"),  # 100 - 3 = 97
        ({"max_tokens": 5, "min_tokens": 6}, "min_tokens must lie between 0 and max_tokens=5"),
        ({"n": 2}, "n must be 1"),
        ({"stream_options": 3}, "stream_options must be an object"),
        ({"messages": [{"content": "word " * 100}]}, "maximum context length is 100 tokens"),
    ],
)
def test_what_is_wrong_is_refused_with_400(fields, message):
    with pytest.raises(ApiError) as error:
        chat(**fields)
    assert error.value.status == 400
    assert message in str(error.value)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(ApiError, match="The body"):
        parse_completion("chat", body, model_name="m", max_model_len=100)
