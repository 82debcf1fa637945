"""What is off by default, asked for on the engine's command line and seen from outside."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from loadstair.simserver.options import parse_options
from tests.simserver.engine_process import MODEL, RunningEngine, chat_body, events, running_engine

WORDS = " ".join(f"w{number}" for number in range(100))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """One place, one more may wait; with a prefix cache, priorities and all that `usage` can tell."""
    arguments = ["--max-num-seqs", "1", "--max-num-queued-reqs", "2", "--scheduling-policy", "priority", "--speed", "2"]
    arguments += ["--enable-prefix-caching", "--enable-prompt-tokens-details"]
    with running_engine(tmp_path_factory.mktemp("crowded"), *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """With two adapters, and drafts that are always accepted."""
    arguments = ["--lora-modules", "sql=/adapters/sql", "chat", "--num-speculative-tokens", "3"]
    arguments += ["--acceptance-rate", "1", "--max-loras", "1"]
    with running_engine(tmp_path_factory.mktemp("adapted"), *arguments) as running:
        yield running


def test_usage_tells_what_the_cache_held_of_a_prompt_and_the_page_counts_it(crowded):
    asked = [crowded.post("/v1/completions", {"prompt": WORDS, "max_tokens": 1}).json() for _ in range(2)]
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in asked]
    assert cached == [0, 96]  # six full blocks of 16 in 100 words
    assert crowded.metric("vllm:prefix_cache_queries_total") == 200
    assert crowded.metric("vllm:prefix_cache_hits_total") == 96
    assert 'enable_prefix_caching="True"' in crowded.get("/metrics").text()


def test_a_salt_at_the_beginning_of_a_prompt_misses_the_cache(crowded):
    answer = crowded.post("/v1/completions", {"prompt": f"salt {WORDS}", "max_tokens": 1}).json()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_a_stream_tells_the_cached_tokens_with_its_usage(crowded):
    fields = {"prompt": WORDS, "max_tokens": 1, "stream": True, "stream_options": {"include_usage": True}}
    crowded.post("/v1/completions", fields)
    *_, usage, _ = events(crowded.post("/v1/completions", fields))
    assert usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 96}


def test_one_request_too_many_gets_503_with_an_error_body_and_is_counted(crowded):
    before = crowded.metric("vllm:admission_rejections_total")
    with ThreadPoolExecutor(2) as pool:
        under_way = [pool.submit(crowded.chat, max_tokens=150) for _ in range(2)]
        crowded.wait_for_metric("vllm:num_requests_running", 1)
        crowded.wait_for_metric("vllm:num_requests_waiting", 1)
        refused = crowded.chat(max_tokens=1, stream=True)
        assert [one.result().status for one in under_way] == [200, 200]
    assert refused.status == 503
    assert (refused.json()["error"]["code"], refused.json()["error"]["type"]) == (503, "Service Unavailable")
    assert "currently busy" in refused.json()["error"]["message"]
    assert crowded.metric("vllm:admission_rejections_total") - before == 1


def test_each_text_of_an_embedding_is_a_request_to_the_limit(crowded):
    assert crowded.post("/v1/embeddings", {"input": ["one", "two"], "dimensions": 4}).status == 200
    assert crowded.post("/v1/embeddings", {"input": ["one", "two", "three"], "dimensions": 4}).status == 503


def test_of_a_burst_of_streams_each_is_answered_in_full_or_refused(crowded):
    with ThreadPoolExecutor(12) as pool:
        answers = [one.result() for one in [pool.submit(crowded.chat, max_tokens=5, stream=True) for _ in range(12)]]
    statuses = {answer.status for answer in answers}
    assert statuses == {200, 503}
    assert all(events(answer)[-1] == "[DONE]" for answer in answers if answer.status == 200)


def test_a_more_urgent_request_overtakes_one_that_waits(tmp_path):
    arguments = ["--max-num-seqs", "1", "--scheduling-policy", "priority", "--speed", "2"]
    with running_engine(tmp_path, *arguments) as engine, ThreadPoolExecutor(3) as pool:
        first = pool.submit(engine.chat, max_tokens=150, headers={"X-Request-Id": "first"})
        engine.wait_for_metric("vllm:num_requests_running", 1)
        patient = pool.submit(engine.chat, max_tokens=1, priority=5, headers={"X-Request-Id": "patient"})
        engine.wait_for_metric("vllm:num_requests_waiting", 1)
        urgent = pool.submit(engine.chat, max_tokens=1, priority=-5, headers={"X-Request-Id": "urgent"})
        assert [one.result().status for one in (first, patient, urgent)] == [200, 200, 200]
        assert [entry.request_id for entry in engine.ledger()] == ["first", "urgent", "patient"]


def test_a_priority_is_refused_where_there_are_none(adapted):
    answer = adapted.chat(max_tokens=1, priority=1)
    assert (answer.status, answer.json()["error"]["param"]) == (400, "priority")


def test_accepted_drafts_leave_in_one_event_and_are_counted(adapted):
    before = adapted.metric("vllm:spec_decode_num_accepted_tokens_total")
    assert 'position="2"' in adapted.get("/metrics").text()
    _role, *chunks, _done = events(adapted.chat(max_tokens=9, stream=True))
    assert [len(chunk["choices"][0]["delta"]["content"].split()) for chunk in chunks] == [1, 4, 4]
    assert adapted.metric("vllm:spec_decode_num_accepted_tokens_total") - before == 6
    assert adapted.chat(max_tokens=9).json()["usage"]["completion_tokens"] == 9


def test_adapters_are_listed_beside_the_model_and_answer_by_their_name(adapted):
    models = {model["id"]: model["parent"] for model in adapted.get("/v1/models").json()["data"]}
    assert models == {MODEL: None, "sql": MODEL, "chat": MODEL}
    answer = adapted.post("/v1/chat/completions", chat_body(max_tokens=1) | {"model": "sql"})
    assert answer.json()["model"] == "sql"
    assert adapted.post("/v1/chat/completions", chat_body() | {"model": "other"}).status == 404
    assert adapted.post("/tokenize", {"model": "sql", "prompt": "one two"}).json()["count"] == 2
    assert adapted.post("/detokenize", {"model": "other", "tokens": [1]}).status == 404


def test_the_page_tells_which_adapters_run_and_wait(adapted):
    told = [line for line in adapted.get("/metrics").text().splitlines() if line.startswith("vllm:lora_requests_info")]
    assert [line.split("}")[0] for line in told] == [
        'vllm:lora_requests_info{max_lora="1",running_lora_adapters="",waiting_lora_adapters=""'
    ]


def test_an_engine_without_features_tells_nothing_of_them(tmp_path):
    with running_engine(tmp_path) as engine:
        usage = engine.chat(max_tokens=1).json()["usage"]
        page = engine.get("/metrics").text()
    assert "prompt_tokens_details" not in usage
    assert 'enable_prefix_caching="False"' in page
    assert "spec_decode" not in page
    assert "lora" not in page


def test_the_names_of_adapters_may_come_in_one_word_as_a_plan_gives_them():
    engine = ["--model", MODEL, "--gpu", "h100-nvl", "--tp", "2", "--lora-modules", "sql chat sql"]
    options = parse_options(engine)
    assert options.lora_modules == ("sql", "chat")
    assert options.scheduler.loras.max_loras == 1
