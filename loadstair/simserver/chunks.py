"""The JSON of answers, as each kind of server words it: whole, in chunks of a stream, and of its errors.

Sources: vLLM 0.32.0's own answers and its serving.py; a llama.cpp server's own answers (xllamacpp, November 2026);
SGLang's serving_chat.py. Fields that are always null and that no client reads are left out.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from loadstair.simserver.words import LOGPROB, TOKEN_TEXTS, text_of

Dialect = Literal["vllm", "sglang", "llamacpp"]
Kind = Literal["chat", "completions"]
FinishWord = Literal["length", "stop", "abort"]


@dataclass(frozen=True, slots=True)
class Timings:
    """What llama.cpp tells of a request at its end."""

    prompt_ms: float
    predicted_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """What every chunk of one answer begins with, and how its server words the rest."""

    request_id: str
    model_name: str
    created_s: int
    kind: Kind
    dialect: Dialect = "vllm"
    tells_cached: bool = False
    """Whether `usage` says how many prompt tokens were in the prefix cache."""

    def usage(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "prompt_tokens": prompt_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "completion_tokens": completion_tokens,
        }
        if self.tells_cached or self.dialect == "llamacpp":
            usage["prompt_tokens_details"] = {"cached_tokens": cached_tokens}
        elif self.dialect == "sglang":
            usage |= {"prompt_tokens_details": None, "reasoning_tokens": 0}
        return usage

    def chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
        fields = self._object("chat.completion.chunk", choices)
        if usage is not None or self.dialect == "sglang":
            fields["usage"] = usage
        return fields

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        return self._object("chat.completion", choices) | {"usage": usage}

    def _object(self, chat_name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        chat = self.kind == "chat"
        return {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self.request_id}",
            "object": chat_name if chat else "text_completion",
            "created": self.created_s,
            "model": self.model_name,
            "choices": choices,
        }


def event(fields: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def role_choice(dialect: Dialect) -> dict[str, Any]:
    """Of the chunk before a chat's first token."""
    content = None if dialect == "llamacpp" else ""
    return {"index": 0, "delta": {"role": "assistant", "content": content}, "logprobs": None, "finish_reason": None}


def token_choice(kind: Kind, text: str, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    content: dict[str, Any] = {"delta": {"content": text}} if kind == "chat" else {"text": text}
    return {"index": 0, **content, "logprobs": logprobs, "finish_reason": None}


def last_choices(
    head: AnswerHead, text: str, finish: FinishWord, stop_reason: str | None, logprobs: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Of the last token's chunk and those that end the choice: vLLM says all in one, the others in one more."""
    token = token_choice(head.kind, text, logprobs)
    empty: dict[str, Any] = {"delta": {}} if head.kind == "chat" else {"text": ""}
    match head.dialect:
        case "vllm":
            return [token | {"finish_reason": finish, "stop_reason": stop_reason}]
        case "sglang":
            end = {"index": 0, **empty, "logprobs": None, "finish_reason": finish, "matched_stop": stop_reason}
            return [token, end]
        case "llamacpp":
            return [token, {"index": 0, **empty, "logprobs": None, "finish_reason": finish}]
        case unknown:
            assert_never(unknown)


def timings_of(timings: Timings, *, prompt_tokens: int, cached_tokens: int, output_tokens: int) -> dict[str, Any]:
    """llama.cpp's field of this name."""
    computed = prompt_tokens - cached_tokens
    return {
        "cache_n": cached_tokens,
        "prompt_n": computed,
        "prompt_ms": timings.prompt_ms,
        "prompt_per_token_ms": timings.prompt_ms / max(1, computed),
        "prompt_per_second": computed * 1e3 / max(1e-3, timings.prompt_ms),
        "predicted_n": output_tokens,
        "predicted_ms": timings.predicted_ms,
        "predicted_per_token_ms": timings.predicted_ms / max(1, output_tokens - 1),
        "predicted_per_second": (output_tokens - 1) * 1e3 / max(1e-3, timings.predicted_ms),
    }


def logprobs_of(kind: Kind, numbers: range, candidates: int) -> dict[str, Any]:
    """Of the tokens with these numbers: every word is as likely, the chosen one stands first."""
    texts = [text_of((number,)) for number in numbers]
    if kind == "chat":
        return {"content": [_chat_logprob(text, candidates) for text in texts]}
    return {
        "text_offset": [len(texts[0]) * number for number in numbers],
        "token_logprobs": [LOGPROB] * len(texts),
        "tokens": texts,
        "top_logprobs": [dict.fromkeys(_candidates(text, max(1, candidates)), LOGPROB) for text in texts],
    }


def _chat_logprob(text: str, candidates: int) -> dict[str, Any]:
    def entry(word: str) -> dict[str, Any]:
        return {"token": word, "logprob": LOGPROB, "bytes": list(word.encode())}

    return entry(text) | {"top_logprobs": [entry(word) for word in _candidates(text, candidates)]}


def _candidates(text: str, count: int) -> list[str]:
    return [text, *(other for other in TOKEN_TEXTS if other != text)][:count]


def error_body(dialect: Dialect, *, status: int, message: str, kind: str, param: str | None) -> dict[str, Any]:
    """Of an answer that is an error, and of the error event in a stream."""
    match dialect:
        case "vllm":
            return {"error": {"message": message, "type": kind, "param": param, "code": status}}
        case "sglang":
            return {"object": "error", "message": message, "type": kind, "param": param, "code": status}
        case "llamacpp":
            name = "invalid_request_error" if status == 400 else "server_error"
            return {"error": {"code": status, "message": message, "type": name}}
        case unknown:
            assert_never(unknown)


def error_events(dialect: Dialect, message: str) -> bytes:
    """What ends a stream that failed after it began."""
    fields = error_body(dialect, status=500, message=message, kind="InternalServerError", param=None)
    match dialect:
        case "vllm":
            return event(fields) + b"data: [DONE]\n\n"
        case "sglang":
            return event({"error": fields}) + b"data: [DONE]\n\n"
        case "llamacpp":
            return b"error: " + json.dumps(fields["error"], separators=(",", ":")).encode() + b"\n\n"
        case unknown:
            assert_never(unknown)
