"""The options as values; what the command line makes of them is in test_headless.py."""

import argparse

import pytest

from loadstair.explore.options import KEY_ORIGIN, add_arguments, asked, key_withheld, mistakes
from loadstair.plan.model import EndpointKind, Lengths, Prefix

GIVEN = {
    "host": "http://127.0.0.1:8000",
    "model": "m",
    "endpoint": "chat",
    "input_tokens": 128,
    "input_tokens_cv": 0.15,
    "output_tokens": 64,
    "output_tokens_cv": 0.3,
    "prefix_tokens": 0,
    "prefix_share": 0.0,
    "temperature": 0.7,
    "ignore_eos": True,
    "slo_ttft_ms": "",
    "slo_tpot_ms": "",
    "slo_e2e_s": "",
    "request_timeout_s": 600.0,
}


STARTED = GIVEN | {KEY_ORIGIN: "http://127.0.0.1:8000"}
KEY = {"OPENAI_API_KEY": "sk-secret"}


def test_options_become_the_workload() -> None:
    given = GIVEN | {"endpoint": "completions", "prefix_tokens": 32, "prefix_share": 0.5, "ignore_eos": False}
    workload = asked(given).workload
    assert workload.endpoint is EndpointKind.COMPLETIONS
    assert workload.input_tokens == Lengths(mean=128, cv=0.15)
    assert workload.output_tokens == Lengths(mean=64, cv=0.3)
    assert workload.prefix == Prefix(share=0.5, tokens=32)
    assert not workload.ignore_eos


def test_a_form_sends_text_and_means_the_same() -> None:
    as_text = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in GIVEN.items()}
    assert mistakes(as_text) == []
    assert asked(as_text) == asked(GIVEN)


def test_an_empty_limit_is_none_and_seconds_become_milliseconds() -> None:
    limits = asked(GIVEN | {"slo_ttft_ms": " ", "slo_tpot_ms": None, "slo_e2e_s": "2.5"}).limits
    assert (limits.ttft_ms, limits.tpot_ms, limits.e2e_ms) == (None, None, 2500.0)


def test_every_mistake_is_told_at_once_each_with_its_option() -> None:
    wrong = {
        "host": "localhost:8000",
        "endpoint": "chats",
        "input_tokens": "many",
        "output_tokens": 0,
        "output_tokens_cv": -1,
        "prefix_share": 1.5,
        "temperature": "nan",
        "slo_ttft_ms": "fast",
        "slo_e2e_s": "0",
        "request_timeout_s": 0,
    }
    found = mistakes(GIVEN | wrong)
    assert sorted(line.split(":")[0] for line in found) == sorted("--" + name.replace("_", "-") for name in wrong)
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("output_tokens", "3000000", "--output-tokens: should be at most 2000000, not '3000000'"),
        ("input_tokens", "12.5", "--input-tokens: should be a whole number, not '12.5'"),
        ("slo_tpot_ms", "-3", "--slo-tpot-ms: should be a number above 0, or empty for no limit, not '-3'"),
        ("host", "ftp://x", "--host: should be a URL such as http://127.0.0.1:8000, not 'ftp://x'"),
        (
            "host",
            "http://me:secret@x",
            "--host: must not hold a user and password: the key is read from OPENAI_API_KEY",
        ),
        ("host", "http://x/v1?a=b", "--host: must end with the path: the requests' own paths are put behind it"),
        ("endpoint", "embeddings", "--endpoint: should be chat or completions, not 'embeddings'"),
    ],
)
def test_a_mistake_says_what_would_be_right(option: str, value: str, message: str) -> None:
    assert mistakes(GIVEN | {option: value}) == [message]


def test_a_host_may_come_later_from_the_form_but_not_at_the_start_of_a_test() -> None:
    hostless = GIVEN | {"host": None}
    assert mistakes(hostless, host_needed=False) == []
    (line,) = mistakes(hostless)
    assert line.startswith("--host: is missing")
    with pytest.raises(ValueError, match="--host: is missing"):
        asked(hostless)


@pytest.mark.parametrize("host", ["http://x:1", "http://x:1/", "http://x:1/v1", "http://x:1/v1/"])
def test_the_base_url_ends_in_v1_once(host: str) -> None:
    assert asked(GIVEN | {"host": host}).base_url == "http://x:1/v1"


def test_the_key_is_named_not_kept_and_only_where_there_is_one() -> None:
    config = asked(STARTED).load_config(seed=3, environ=KEY)
    assert (config.api_key_env, config.seed) == ("OPENAI_API_KEY", 3)
    assert "sk-secret" not in repr(config)
    assert asked(STARTED).load_config(seed=0, environ={}).api_key_env is None


@pytest.mark.parametrize("host", ["http://127.0.0.1:8000/v1", "HTTP://127.0.0.1:8000/", "http://127.0.0.1:8000/other"])
def test_the_key_goes_to_the_origin_that_was_given_at_the_start(host: str) -> None:
    assert asked(STARTED | {"host": host}).key(KEY) == "sk-secret"
    assert key_withheld(STARTED | {"host": host}, KEY) is None


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:8001", "https://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"]
)
def test_another_server_does_not_get_the_key_and_the_user_is_told(host: str) -> None:
    wanted = asked(STARTED | {"host": host})
    assert wanted.key(KEY) is None
    assert wanted.load_config(seed=0, environ=KEY).api_key_env is None
    told = key_withheld(STARTED | {"host": host}, KEY)
    assert told is not None
    assert told.endswith(f"start with --host {host}")
    assert "sk-secret" not in told
    assert key_withheld(STARTED | {"host": host}, {}) is None


def test_where_no_server_was_given_at_the_start_none_gets_the_key() -> None:
    for nothing in ({}, {KEY_ORIGIN: None}):
        assert asked(GIVEN | nothing).key(KEY) is None
        assert key_withheld(GIVEN | nothing, KEY) is not None
    assert key_withheld({"host": None, KEY_ORIGIN: None}, KEY) is None


def test_the_usual_port_need_not_be_written() -> None:
    assert asked(GIVEN | {"host": "https://llm.example", KEY_ORIGIN: "https://llm.example:443"}).key(KEY) == "sk-secret"


def test_no_gap_may_be_longer_than_the_whole_request() -> None:
    config = asked(GIVEN | {"request_timeout_s": 5}).load_config(seed=0, environ={})
    assert (config.request_timeout_s, config.idle_timeout_s) == (5.0, 5.0)


def test_options_are_parsed_as_this_test_gives_them() -> None:
    """The names and types above are those of the parser; `argparse` alone knows nothing of Locust's extras."""

    class Parser(argparse.ArgumentParser):
        def add_argument(self, *flags, env_var=None, include_in_web_ui=True, **more):  # type: ignore[no-untyped-def]
            assert env_var == "LOCUST_" + flags[0].removeprefix("--").replace("-", "_").upper()
            return super().add_argument(*flags, **more)

    parser = Parser(add_help=False)
    add_arguments(parser)
    parsed = vars(parser.parse_args(["--model", "m"]))
    assert parsed | {"host": GIVEN["host"]} == GIVEN | {"records": None}
    assert not vars(parser.parse_args(["--no-ignore-eos"]))["ignore_eos"]
