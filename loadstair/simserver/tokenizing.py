"""`/tokenize` and `/detokenize`, as vLLM has them: a word is a token."""

from typing import Any

from loadstair.simserver.api import chat_words
from loadstair.simserver.fields import ApiError, asked_adapter, invalid, json_object, required
from loadstair.simserver.words import Vocabulary


def tokenize(
    body: bytes, vocabulary: Vocabulary, *, model_name: str | None, adapters: tuple[str, ...], max_model_len: int
) -> dict[str, Any]:
    """Raises ApiError."""
    fields = json_object(body)
    asked_adapter(fields, model_name, adapters)
    if "messages" in fields:
        words = chat_words(fields)
    else:
        prompt = required(fields, "prompt")
        if not isinstance(prompt, str):
            raise invalid("string_type", "prompt", "Input should be a valid string", prompt)
        words = prompt.split()
    return {
        "count": len(words),
        "max_model_len": max_model_len,
        "tokens": vocabulary.encode(words),
        "token_strs": words if fields.get("return_token_strs") else None,
    }


def detokenize(
    body: bytes, vocabulary: Vocabulary, *, model_name: str | None, adapters: tuple[str, ...]
) -> dict[str, Any]:
    """Raises ApiError."""
    fields = json_object(body)
    asked_adapter(fields, model_name, adapters)
    tokens = required(fields, "tokens")
    if not isinstance(tokens, list):
        raise invalid("list_type", "tokens", "Input should be a valid list", tokens)
    if not all(isinstance(token, int) and token >= 0 for token in tokens):
        raise ApiError(400, "tokens must be a list of token ids", param="tokens")
    return {"prompt": vocabulary.decode(tokens)}
