"""Embedding requests: prompts that are read and answered with a vector each."""

import base64
import hashlib
import math
from array import array
from dataclasses import dataclass
from typing import Any, Literal

from loadstair.simserver.api import check_context
from loadstair.simserver.fields import check_model, integer, invalid, json_object, refusal, required

Encoding = Literal["float", "base64"]
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    inputs: tuple[Words, ...]
    """The words of each text; token ids count as words."""
    encoding: Encoding
    dimensions: int

    @property
    def prompt_tokens(self) -> int:
        return sum(max(1, len(words)) for words in self.inputs)


def parse_embedding(body: bytes, *, model_name: str | None, max_model_len: int, hidden: int) -> EmbeddingRequest:
    """`hidden`: the model's width, which is also the longest vector. Raises ApiError."""
    fields = json_object(body)
    inputs = _inputs(required(fields, "input"))
    check_model(fields, model_name)
    for words in inputs:
        check_context(max(1, len(words)), max_model_len)
    encoding = fields.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise invalid("literal_error", "encoding_format", "Input should be float or base64", encoding)
    dimensions = integer(fields, "dimensions", default=hidden)
    if not 1 <= dimensions <= hidden:
        raise refusal(
            f"dimensions must lie between 1 and {hidden}, got {dimensions}.", param="dimensions", value=dimensions
        )
    return EmbeddingRequest(inputs=inputs, encoding=encoding, dimensions=dimensions)


def _inputs(value: Any) -> tuple[Words, ...]:
    match value:
        case "" | []:
            raise refusal("input must not be empty", param="input")
        case str(text):
            return (tuple(text.split()),)
        case [int(), *_] as ids if all(isinstance(token, int) for token in ids):
            return (tuple(map(str, ids)),)
        case [str(), *_] as texts if all(isinstance(text, str) for text in texts):
            return tuple(tuple(text.split()) for text in texts)
        case [[int(), *_], *_] as lists if all(isinstance(ids, list) for ids in lists):
            return tuple(tuple(map(str, ids)) for ids in lists)
        case _:
            raise invalid("string_type", "input", "Input should be a valid string", value)


def embedding(words: Words, dimensions: int) -> "array[float]":
    """A unit vector of 32-bit floats that depends on the words alone."""
    # Cheap beside the JSON of a few thousand numbers: the step clock shares the thread.
    seed = hashlib.shake_128(" ".join(words).encode()).digest(dimensions * 2)
    raw = array("h", seed)
    length = math.hypot(*raw)
    return array("f", [value / length for value in raw]) if length else array("f", [1.0] + [0.0] * (dimensions - 1))


def embeddings_body(request: EmbeddingRequest, *, request_id: str, model_name: str, created_s: int) -> dict[str, Any]:
    tokens = request.prompt_tokens
    return {
        "id": f"embd-{request_id}",
        "object": "list",
        "created": created_s,
        "model": model_name,
        "data": [
            {"index": index, "object": "embedding", "embedding": _encoded(words, request)}
            for index, words in enumerate(request.inputs)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }


def _encoded(words: Words, request: EmbeddingRequest) -> list[float] | str:
    vector = embedding(words, request.dimensions)
    return vector.tolist() if request.encoding == "float" else base64.b64encode(vector.tobytes()).decode()
