"""Requests as the engine reads them: a word is a token."""

import json
from typing import Any

import pytest

from loadstair.simserver.api import CompletionRequest, parse_completion
from loadstair.simserver.fields import ApiError


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


def test_an_adapters_name_may_stand_where_the_models_would():
    def lora(model: str, model_name: str | None) -> str | None:
        body = json.dumps({"prompt": "one", "model": model}).encode()
        asked = parse_completion("completions", body, model_name=model_name, max_model_len=100, adapters=("sql",))
        return asked.lora

    assert (lora("sql", "m"), lora("m", "m")) == ("sql", None)
    assert (lora("sql", None), lora("any", None)) == ("sql", None)  # where every model name will do
    with pytest.raises(ApiError, match="Valid aliases: m"):
        lora("other", "m")


def test_the_newer_name_of_the_limit_wins():
    assert chat(max_tokens=5, max_completion_tokens=9).max_tokens == 9


def test_stream_options_of_null_are_as_good_as_none():
    assert not chat(stream=True, stream_options=None).include_usage


def test_a_string_of_digits_is_a_number_as_it_is_for_vllm():
    assert chat(max_tokens="5").max_tokens == 5
    assert chat(max_tokens=5.0).max_tokens == 5


def test_usage_in_every_chunk_needs_usage_at_all():
    both = {"include_usage": True, "continuous_usage_stats": True}
    assert chat(stream=True, stream_options=both).continuous_usage
    assert not chat(stream=True, stream_options=both | {"include_usage": False}).continuous_usage


def test_logprobs_are_asked_for_in_two_ways():
    assert chat().logprobs is None
    assert chat(logprobs=True).logprobs == 0
    assert chat(logprobs=True, top_logprobs=3).logprobs == 3
    assert completions(prompt="one", logprobs=2).logprobs == 2


# What vLLM 0.32.0 answered to the same mistakes: the message's beginning, type and param.
REFUSALS = [
    ({"messages": []}, "Cannot apply chat template to an empty conversation.", "BadRequestError", None),
    ({"messages": "hello"}, "1 validation error:\n  {'type': 'list_type'", "Bad Request", "body.messages"),
    ({"messages": [{"role": "user", "content": 5}]}, "1 validation error:", "Bad Request", "body.messages"),
    ({"max_tokens": 0}, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", "BadRequestError",
     "max_tokens"),
    ({"max_tokens": -1}, "max_tokens must be at least 1, got -1.", "BadRequestError", "max_tokens"),
    ({"max_tokens": "x"}, "1 validation error:\n  {'type': 'int_parsing', 'loc': 'body.max_tokens'", "Bad Request",
     "body.max_tokens"),
    ({"max_tokens": 5.5}, "1 validation error:\n  {'type': 'int_from_float'", "Bad Request", "body.max_tokens"),
    ({"max_tokens": 101}, "max_tokens=101 cannot be greater than max_model_len=100.", "BadRequestError", "max_tokens"),
    ({"max_tokens": 98}, "This model's maximum context length is 100 tokens.", "BadRequestError", "input_tokens"),
    ({"max_tokens": 2, "min_tokens": 5}, "min_tokens must be less than or equal to max_tokens=2, got 5.",
     "BadRequestError", None),
    ({"n": 0}, "n must be at least 1, got 0.", "BadRequestError", None),
    ({"temperature": -1}, "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
     "BadRequestError", "temperature"),
    ({"top_p": 3}, "top_p must be in (0, 1], got 3.0. (parameter=top_p, value=3.0)", "BadRequestError", "top_p"),
    ({"top_logprobs": 5}, "when using `top_logprobs`, `logprobs` must be set to true.", "BadRequestError",
     "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 50}, "Requested sample logprobs of 50, which is greater than max allowed: 20",
     "BadRequestError", "logprobs"),
    ({"stop": 5}, "1 validation error:", "Bad Request", "body.stop"),
    ({"stream": True, "stream_options": 3}, "1 validation error:\n  {'type': 'model_attributes_type'", "Bad Request",
     "body.stream_options"),
    ({"stream_options": {"include_usage": True}}, "Stream options can only be defined when `stream=True`.",
     "BadRequestError", "stream_options"),
    ({"messages": [{"content": "word " * 100}]}, "This model's maximum context length is 100 tokens.",
     "BadRequestError", "input_tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message", "kind", "param"), REFUSALS)
def test_what_is_wrong_is_refused_with_400_in_vllms_words(fields, message, kind, param):
    with pytest.raises(ApiError) as error:
        chat(**fields)
    assert str(error.value).startswith(message)
    assert (error.value.status, error.value.kind, error.value.param) == (400, kind, param)


def test_several_choices_are_refused_though_vllm_gives_them():
    with pytest.raises(ApiError, match="this engine gives one choice"):
        chat(n=2)


def test_another_model_is_refused_with_404_and_the_right_name():
    with pytest.raises(ApiError, match=r"The model `other` does not exist. Valid aliases: m.") as error:
        chat(model="other")
    assert (error.value.status, error.value.kind) == (404, "NotFoundError")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(ApiError, match="1 validation error:") as error:
        parse_completion("chat", body, model_name="m", max_model_len=100)
    assert error.value.status == 400
