"""The endpoints beside completions, and what has no endpoint."""

import base64
import math
from array import array

import openai
import pytest

from tests.simserver.engine_process import MODEL, running_engine

HIDDEN = 5120  # Qwen2.5-32B


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with running_engine(tmp_path_factory.mktemp("endpoints")) as running:
        yield running


def test_a_word_is_a_token_there_and_back(engine):
    told = engine.post("/tokenize", {"prompt": "one two  one", "return_token_strs": True}).json()
    assert (told["count"], told["token_strs"]) == (3, ["one", "two", "one"])
    assert told["tokens"][0] == told["tokens"][2] != told["tokens"][1]
    assert engine.post("/detokenize", {"tokens": told["tokens"]}).json() == {"prompt": "one two one"}


def test_a_chat_is_tokenized_too(engine):
    told = engine.post("/tokenize", {"messages": [{"role": "user", "content": "one two"}]}).json()
    assert (told["count"], told["token_strs"]) == (2, None)


@pytest.mark.parametrize(
    ("path", "fields"), [("/tokenize", {}), ("/tokenize", {"prompt": 5}), ("/detokenize", {"tokens": "x"})]
)
def test_what_cannot_be_tokenized_is_refused(engine, path, fields):
    answer = engine.post(path, fields)
    assert (answer.status, answer.json()["error"]["type"]) == (400, "Bad Request")


def test_an_embedding_is_a_unit_vector_that_depends_on_the_words_alone(engine):
    first, again, other = (
        engine.post("/v1/embeddings", {"input": text}).json()["data"][0]["embedding"] for text in ("a b", "a b", "a c")
    )
    assert first == again != other
    assert len(first) == HIDDEN
    assert math.hypot(*first) == pytest.approx(1, abs=1e-5)


def test_several_texts_are_several_passes_whose_prompts_are_counted_and_no_output_is(tmp_path):
    with running_engine(tmp_path) as engine:
        answer = engine.post("/v1/embeddings", {"input": ["one two", "three"], "dimensions": 8}).json()
        assert [len(data["embedding"]) for data in answer["data"]] == [8, 8]
        assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0}
        assert engine.metric("vllm:prompt_tokens_total") == 3
        assert engine.metric("vllm:generation_tokens_total") == 0
        assert engine.metric("vllm:kv_cache_usage_perc") == 0
        entries = engine.ledger()
    assert [(entry.input_tokens, entry.output_tokens, len(entry.write_ns)) for entry in entries] == [
        (2, 0, 1),
        (1, 0, 1),
    ]


def test_base64_is_the_same_vector_as_32_bit_floats(engine):
    fields = {"input": [5, 6, 7], "dimensions": 16}
    floats = engine.post("/v1/embeddings", fields).json()["data"][0]["embedding"]
    packed = engine.post("/v1/embeddings", fields | {"encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert array("f", base64.b64decode(packed)).tolist() == floats


@pytest.mark.parametrize(
    "fields",
    [{}, {"input": ""}, {"input": [1, "a"]}, {"input": "a", "dimensions": HIDDEN + 1}, {"input": "x " * 40_000}],
)
def test_what_cannot_be_embedded_is_refused(engine, fields):
    assert engine.post("/v1/embeddings", fields).status == 400


def test_the_openai_sdk_reads_an_embedding(engine):
    with openai.OpenAI(base_url=f"{engine.url}/v1", api_key="unused", max_retries=0) as client:
        answer = client.embeddings.create(model=MODEL, input="one two", dimensions=4)
    assert len(answer.data[0].embedding) == 4


def test_the_small_endpoints_answer(engine):
    assert engine.get("/ping").status == engine.post("/ping", {}).status == 200
    assert engine.get("/load").json() == {"server_load": 0}


def test_what_has_no_endpoint_is_answered_as_vllm_does(engine):
    unknown, wrong_method = engine.get("/nope"), engine.get("/v1/chat/completions")
    assert (unknown.status, unknown.json()) == (404, {"detail": "Not Found"})
    assert (wrong_method.status, wrong_method.json()) == (405, {"detail": "Method Not Allowed"})
    assert wrong_method.headers["allow"] == "POST"


def test_a_body_that_says_it_is_no_json_is_refused(engine):
    answer = engine.chat(max_tokens=1, headers={"Content-Type": "text/plain"})
    assert answer.status == 400
    assert "Unsupported Media Type" in answer.json()["error"]["message"]
