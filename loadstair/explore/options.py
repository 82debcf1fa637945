"""The options of a locustfile that is used by itself: on the command line, in the environment and in the web form.

They travel to the workers with Locust's spawn message. The form's fields come back as text and are turned into the
type that the option had before; an option that may be empty is therefore text here, checked but not converted.
"""

import argparse
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from loadstair.explore.host import KEY_VARIABLE, host_mistake, origin
from loadstair.explore.numbers import Limits
from loadstair.load.config import LoadConfig
from loadstair.plan.mistakes import problems_of
from loadstair.plan.model import EndpointKind, Workload

URL_VARIABLE: Final = "OPENAI_BASE_URL"
"""As every program on the openai SDK reads it."""

FOUND_MODEL: Final = "loadstair_model"
"""The model that is asked for, given or found: set at the start of each test, so that the workers get it."""
FOUND_TEST: Final = "loadstair_test"
"""Id and epoch of the test, for the same reason."""
KEY_ORIGIN: Final = "loadstair_key_origin"
"""Origin of the server that was given when Locust was started, None if none was: the only one that gets the key. The
form can name any server; whoever reaches it must not get the key by it."""
WORDS_PER_TOKEN: Final = 0.75
"""To begin with; corrected by what the server counts."""
IDLE_TIMEOUT_S: Final = 120.0
TIMEOUT_S_MAX: Final = 7 * 24 * 3600.0
TOKENS_MAX: Final = 2_000_000
"""More than any model's context: each user holds its prompt in memory."""

_OF_PATH: Final = {
    "endpoint": "endpoint",
    "model": "model",
    "input_tokens.mean": "input_tokens",
    "input_tokens.cv": "input_tokens_cv",
    "output_tokens.mean": "output_tokens",
    "output_tokens.cv": "output_tokens_cv",
    "temperature": "temperature",
    "ignore_eos": "ignore_eos",
    "prefix.tokens": "prefix_tokens",
    "prefix.share": "prefix_share",
}
"""The option that sets a key of the workload."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """For Locust's own parser. Not in a group: grouped arguments never reach the web form."""

    def add(name: str, help_text: str, **more: Any) -> None:
        variable = "LOCUST_" + name.removeprefix("--").replace("-", "_").upper()
        parser.add_argument(name, help=help_text, env_var=variable, **more)

    add("--model", "Name of the model; empty: the only one that the server has", default="")
    add(
        "--endpoint",
        "Which of OpenAI's endpoints",
        choices=[str(EndpointKind.CHAT), str(EndpointKind.COMPLETIONS)],
        default=str(EndpointKind.CHAT),
    )
    add("--input-tokens", "Mean length of a prompt, in tokens", type=int, default=128)
    add("--input-tokens-cv", "Its coefficient of variation; 0: all equally long", type=float, default=0.15)
    add("--output-tokens", "Mean length of an answer, in tokens", type=int, default=64)
    add("--output-tokens-cv", "Its coefficient of variation; 0: all equally long", type=float, default=0.3)
    add("--prefix-tokens", "Length of a system prompt that requests share", type=int, default=0)
    add("--prefix-share", "Share of the requests that have it, 0 to 1", type=float, default=0.0)
    add("--temperature", "Sampling temperature", type=float, default=0.7)
    add(
        "--ignore-eos",
        "Ask for exactly the output tokens wanted (an extension of vLLM and llama.cpp)",
        action=argparse.BooleanOptionalAction,
        default=True,
    )
    add("--slo-ttft-ms", "Goodput: longest time to first token, in ms; empty: none", default="")
    add("--slo-tpot-ms", "Goodput: longest time per output token, in ms; empty: none", default="")
    add("--slo-e2e-s", "Goodput: longest time to the last token, in s; empty: none", default="")
    add("--request-timeout-s", "When a request is given up, in s", type=float, default=600.0)
    # Of the command line alone: a path that a form could set would let the form write files.
    add("--records", "Keep the raw records in this CSV file", metavar="FILE", default=None, include_in_web_ui=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the options say, checked."""

    workload: Workload
    limits: Limits
    request_timeout_s: float
    base_url: str
    """Ending in /v1."""
    key_origin: str | None
    """The only origin that gets the key."""

    def key(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """The key, if there is one and it may go to this server."""
        key = environ.get(KEY_VARIABLE)
        return key if key and self.key_origin == origin(self.base_url) else None

    def load_config(self, *, seed: int, environ: Mapping[str, str] = os.environ) -> LoadConfig:
        return LoadConfig(
            base_url=self.base_url,
            workload=self.workload,
            headers={},
            seed=seed,
            api_key_env=KEY_VARIABLE if self.key(environ) else None,
            words_per_token=WORDS_PER_TOKEN,
            request_timeout_s=self.request_timeout_s,
            idle_timeout_s=min(IDLE_TIMEOUT_S, self.request_timeout_s),
        )


def mistakes(options: Mapping[str, Any], *, host_needed: bool = True) -> list[str]:
    """What is wrong with these options, each in a line that names its option; none: the test can start.

    `options` by name (`input_tokens`, and `host`); values as the parser made them, or as text, as a form sends them.
    """
    return _read(options, host_needed=host_needed)[1]


def asked(options: Mapping[str, Any]) -> Asked:
    """Raises ValueError with all mistakes, a line each."""
    found, wrong = _read(options, host_needed=True)
    if found is None:
        raise ValueError("\n".join(wrong))
    return found


def key_withheld(options: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> str | None:
    """Why the key that there is does not go to this server, in one line. None if it goes, or there is none."""
    asked_for = origin(str(options.get("host") or ""))
    if not environ.get(KEY_VARIABLE) or asked_for is None or asked_for == options.get(KEY_ORIGIN):
        return None
    return (
        f"{KEY_VARIABLE} is not sent to {asked_for}: it is only for the server given when Locust was started; "
        f"to use it there, start with --host {asked_for}"
    )


def _read(options: Mapping[str, Any], *, host_needed: bool) -> tuple[Asked | None, list[str]]:
    wrong: list[str] = []

    def number(name: str, kind: Callable[[Any], float]) -> float:
        """NaN, with a mistake noted, where it is none; so nothing is complained of twice."""
        try:
            return kind(options[name])
        except (ValueError, TypeError, OverflowError):
            what = "a whole number" if kind is int else "a number"
            wrong.append(f"{_flag(name)}: should be {what}, not {_shown(options[name])}")
            return math.nan

    values: dict[str, Any] = {
        "endpoint": options["endpoint"],
        # Found out later where it is empty: everything else can be checked without it.
        "model": options.get(FOUND_MODEL) or options["model"] or "-",
        "input_tokens": {"mean": number("input_tokens", int), "cv": number("input_tokens_cv", float)},
        "output_tokens": {"mean": number("output_tokens", int), "cv": number("output_tokens_cv", float)},
        "temperature": number("temperature", float),
        "ignore_eos": options["ignore_eos"],
        "prefix": {"tokens": number("prefix_tokens", int), "share": number("prefix_share", float)},
    }
    not_numbers = {line.split(":")[0] for line in wrong}
    workload = None
    try:
        workload = Workload.model_validate(values)
    except ValidationError as error:
        for problem in problems_of(error.errors(), values):
            flag = _flag(_OF_PATH.get(problem.path, problem.path))
            if flag not in not_numbers:
                wrong.append(f"{flag}: {problem.message}")
    wrong += [
        f"{_flag(name)}: should be at most {TOKENS_MAX}, not {_shown(options[name])}"
        for name in ("input_tokens", "output_tokens", "prefix_tokens")
        if _flag(name) not in not_numbers and int(options[name]) > TOKENS_MAX
    ]
    if workload is not None and workload.endpoint is EndpointKind.EMBEDDINGS:
        wrong.append("--endpoint: should be chat or completions, not 'embeddings'")
    limits = Limits(
        ttft_ms=_limit(options, "slo_ttft_ms", wrong),
        tpot_ms=_limit(options, "slo_tpot_ms", wrong),
        e2e_ms=None if (e2e_s := _limit(options, "slo_e2e_s", wrong)) is None else 1000 * e2e_s,
    )
    timeout_s = number("request_timeout_s", float)
    if not math.isnan(timeout_s) and not 0 < timeout_s <= TIMEOUT_S_MAX:
        wrong.append(f"--request-timeout-s: should be above 0 and at most {TIMEOUT_S_MAX:g}, not {timeout_s:g}")
    base_url = _base_url(str(options.get("host") or ""), wrong, needed=host_needed)
    if wrong or workload is None:
        return None, wrong
    return Asked(
        workload=workload,
        limits=limits,
        request_timeout_s=timeout_s,
        base_url=base_url,
        key_origin=options.get(KEY_ORIGIN),
    ), []


def _limit(options: Mapping[str, Any], name: str, wrong: list[str]) -> float | None:
    text = str(options[name] if options[name] is not None else "").strip()
    if not text:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not (limit > 0 and math.isfinite(limit)):
        wrong.append(f"{_flag(name)}: should be a number above 0, or empty for no limit, not {_shown(text)}")
        return None
    return limit


def _base_url(host: str, wrong: list[str], *, needed: bool) -> str:
    if not host:
        if needed:
            wrong.append(f"--host: is missing: the server's URL, such as http://127.0.0.1:8000 (or set {URL_VARIABLE})")
        return ""
    if (mistake := host_mistake(host)) is not None:
        wrong.append(f"--host: {mistake}")
    root = host.rstrip("/")
    return root if root.endswith("/v1") else f"{root}/v1"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
