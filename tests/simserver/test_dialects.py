"""The engine as SGLang and as llama.cpp: what telemetry reads from its page, what a client reads from its stream."""

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadstair.load.chunks import carries_output, decode_chunk
from loadstair.telemetry.prometheus import MetricsPage
from loadstair.topology.endpoint import Endpoint
from tests.simserver.engine_process import events, running_engine

LLAMACPP = json.loads((Path(__file__).parent / "data" / "llamacpp_families.json").read_text())


@pytest.fixture(scope="module", params=["vllm", "sglang", "llamacpp"])
def engine(request, tmp_path_factory):
    with running_engine(tmp_path_factory.mktemp(request.param), "--dialect", request.param) as running:
        running.chat(words=7, max_tokens=11)
        running.chat(words=5, max_tokens=1)
        yield request.param, running


def read_by_telemetry(engine) -> dict[str, float]:
    endpoint = Endpoint(url=f"{engine.url}/v1", replicas=())
    page = MetricsPage(name="engine0", endpoint=endpoint, url=f"{engine.url}/metrics")
    return {reading.series: reading.value for reading in page.read()}


def test_telemetry_reads_the_tokens_of_every_dialect(engine):
    _, running = engine
    series = read_by_telemetry(running)
    assert series["engine.tokens.prompt"] == 12  # 7 + 5
    assert series["engine.tokens.generated"] == 12  # 11 + 1
    assert (series["engine.requests.running"], series["engine.requests.waiting"]) == (0, 0)
    assert series["engine.prefix.hits"] == 0


def test_telemetry_reads_latencies_where_the_server_has_them(engine):
    dialect, running = engine
    series = read_by_telemetry(running)
    if dialect == "llamacpp":
        assert not {name for name in series if name.startswith(("engine.ttft", "engine.itl", "engine.kv"))}
    else:
        assert series["engine.ttft.count"] == 2
        assert series["engine.itl.count"] == 10  # the gaps of 11 tokens, and of 1 none
        assert series["engine.requests.finished"] == 2
        assert series["engine.preemptions"] == 0
        assert series["engine.kv.usage"] == 0


def test_the_page_of_llamacpp_has_the_families_of_the_real_one(tmp_path):
    with running_engine(tmp_path, "--dialect", "llamacpp") as running:
        page = text_string_to_metric_families(running.get("/metrics").text())
    types = {f"{family.name}_total" if family.type == "counter" else family.name: family.type for family in page}
    # n_tokens_max says it is a counter, without the name of one; the engine leaves it out
    wanted = LLAMACPP["families"].items() - {("llamacpp:n_tokens_max", "counter")}
    assert dict(wanted) == {name: kind for name, kind in types.items() if name.startswith("llamacpp:")}


def test_the_load_generator_reads_tokens_and_usage_from_every_dialect(engine):
    _, running = engine
    answer = running.chat(words=7, max_tokens=5, stream=True, stream_options={"include_usage": True})
    *chunks, done = [line.removeprefix("data: ") for line in answer.text().splitlines() if line]
    decoded = [decode_chunk(chunk.encode())[0] for chunk in chunks]
    choices = [choice for chunk in decoded for choice in chunk.choices or ()]
    assert sum(carries_output(choice) for choice in choices) == 5
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert (decoded[-1].usage.prompt_tokens, decoded[-1].usage.completion_tokens) == (7, 5)
    assert done == "[DONE]"


def test_llamacpp_tells_its_timings_and_closes_the_connection(tmp_path):
    with running_engine(tmp_path, "--dialect", "llamacpp") as running:
        answer = running.chat(words=7, max_tokens=5, stream=True)
        role, *_, last, _ = events(answer)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert (last["timings"]["prompt_n"], last["timings"]["predicted_n"], last["timings"]["cache_n"]) == (7, 5, 0)
    assert last["choices"][0]["delta"] == {}
    assert answer.headers["connection"] == "close"


def test_sglang_ends_with_a_chunk_of_its_own_and_names_usage_in_each(tmp_path):
    with running_engine(tmp_path, "--dialect", "sglang") as running:
        *chunks, _ = events(running.chat(max_tokens=2, stream=True))
    assert [chunk["usage"] for chunk in chunks] == [None] * 4
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["choices"][0]["matched_stop"] is None


def test_a_failed_stream_ends_as_its_server_would_end_it(tmp_path):
    for dialect, start in (("sglang", 'data: {"error":{"object":"error"'), ("llamacpp", 'error: {"code":500')):
        folder = tmp_path / dialect
        folder.mkdir()
        with running_engine(folder, "--dialect", dialect, "--fault", "stream-error") as running:
            lines = running.chat(max_tokens=4, stream=True).text().splitlines()
        assert any(line.startswith(start) for line in lines)


def test_errors_have_each_servers_shape(engine):
    dialect, running = engine
    body, missing = running.chat(max_tokens=-1).json(), running.get("/nope").json()
    if dialect == "sglang":
        assert (body["object"], body["code"]) == ("error", 400)
    else:
        assert body["error"]["code"] == 400
    assert ("detail" in missing) == (dialect != "llamacpp")


def test_only_vllm_minds_another_models_name(engine):
    dialect, running = engine
    assert running.chat(model="other", max_tokens=1).status == (404 if dialect == "vllm" else 200)
