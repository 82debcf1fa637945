"""Real processes, real nginx: what comes up, what is said when it does not, and that nothing is left."""

from pathlib import Path

import psutil
import pytest

from loadstair.errors import Interrupted, TopologyError
from loadstair.fetch import fetch
from tests.topology.conftest import BringUp, has_ended, kill_child, listens, wait_until_ended
from tests.topology.plans import SIMULATED_MODEL, plan_of, process, processes, simulated


def test_one_process_is_its_own_endpoint(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("good"))) as running:
        running.check()
        (replica,) = running.endpoint.replicas
        assert running.endpoint.url == f"{replica.url}/v1"
        assert replica.metrics_url == f"{replica.url}/metrics"
        assert replica.pid is not None
        assert psutil.pid_exists(replica.pid)
        assert running.endpoint.fingerprint["seen"]["models"] == ("tiny",)
    assert not listens(running.endpoint.url)
    assert not psutil.pid_exists(replica.pid)


def test_a_server_without_metrics_has_no_metrics_url(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("no_metrics"))) as running:
        assert running.endpoint.replicas[0].metrics_url is None


def test_several_processes_stand_behind_nginx_which_alternates(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("good", "good"))) as running:
        endpoint = running.endpoint
        answers = [fetch(f"{endpoint.url}/models", timeout_s=5) for _ in range(4)]
        served_by = [endpoint.upstreams[answer.headers["x-upstream-addr"]] for answer in answers]
        assert sorted(served_by) == ["engine0", "engine0", "engine1", "engine1"]
        assert served_by[0] != served_by[1]
        assert endpoint.fingerprint["balancer"]["policy"] == "round_robin"
        balancer = psutil.Process(endpoint.balancer_pid)
        workers = balancer.children()
        assert workers
    assert not listens(endpoint.url)
    assert all(has_ended(process) for process in [balancer, *workers])


def test_the_clients_request_id_reaches_the_engine(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("good", "good"))) as running:
        answer = fetch(f"{running.endpoint.url}/models", headers={"X-Request-Id": "ours-17"}, timeout_s=5)
    assert answer.headers["x-seen-request-id"] == "ours-17"


def test_a_failed_request_is_answered_by_the_engine_that_got_it(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("good", "good"))) as running:
        kill_child(running, "engine0")
        statuses = [fetch(f"{running.endpoint.url}/models", timeout_s=5).status for _ in range(4)]
    assert sorted(statuses) == [200, 200, 502, 502]  # no second attempt elsewhere, and no ejection


def test_simulated_engines_write_ledgers_and_know_the_plans_model(bring_up_first: BringUp, tmp_path: Path) -> None:
    with bring_up_first(plan_of(simulated(2), model=SIMULATED_MODEL), visit=3) as running:
        replicas = running.endpoint.replicas
        assert running.endpoint.fingerprint["seen"]["models"] == (SIMULATED_MODEL,)
        assert [replica.ledger for replica in replicas] == [
            tmp_path / "log" / "3-sim-engine0.ledger.jsonl",
            tmp_path / "log" / "3-sim-engine1.ledger.jsonl",
        ]
    written = "".join(replica.ledger.read_text() for replica in replicas if replica.ledger)
    assert written.count("\n") == 1  # the preflight's one request, by one of the two
    assert "preflight-3-sim" in written


def test_a_flag_reaches_the_simulated_engine(bring_up_first: BringUp) -> None:
    topology = simulated(1, engines=[{"tp": 2, "flags": {"max_num_seqs": 17}}])
    with bring_up_first(plan_of(topology, model=SIMULATED_MODEL)) as running:
        command = psutil.Process(running.endpoint.replicas[0].pid).cmdline()
    assert command[command.index("--max-num-seqs") + 1] == "17"


def test_a_switch_reaches_the_simulated_engine_on_or_off(bring_up_first: BringUp) -> None:
    flags = {"enable_prefix_caching": True, "enable_prompt_tokens_details": False, "lora_modules": "sql chat"}
    topology = simulated(1, engines=[{"tp": 2, "flags": flags}])
    with bring_up_first(plan_of(topology, model=SIMULATED_MODEL)) as running:
        command = psutil.Process(running.endpoint.replicas[0].pid).cmdline()
    words = ["--enable-prefix-caching", "--no-enable-prompt-tokens-details", "--lora-modules", "sql chat"]
    assert command[-len(words) :] == words


def test_an_unknown_flag_is_refused_with_the_known_ones(bring_up_first: BringUp) -> None:
    topology = simulated(1, engines=[{"flags": {"max_seqs": 17}}])
    with pytest.raises(TopologyError, match=r"engines\[0\]\.flags\.max_seqs: .* it has max_num_seqs"):
        bring_up_first(plan_of(topology, model=SIMULATED_MODEL)).__enter__()


def test_placeholders_are_filled_in_command_and_environment(bring_up_first: BringUp, tmp_path: Path) -> None:
    given = process(env={"WHERE": "{plan_dir}:{port}", "JSON": '{"a": 1}'})
    with bring_up_first(plan_of(processes(processes=[given]))) as running:
        engine = psutil.Process(running.endpoint.replicas[0].pid)
        port = running.endpoint.url.split(":")[2].removesuffix("/v1")
        assert engine.environ()["WHERE"] == f"{tmp_path.resolve()}:{port}"
        assert engine.environ()["JSON"] == '{"a": 1}'
        assert "PATH" in engine.environ()


def test_a_command_may_be_one_line(bring_up_first: BringUp) -> None:
    given = process()
    line = " ".join(f"'{word}'" for word in given["command"])
    with bring_up_first(plan_of(processes(processes=[{**given, "command": line}]))) as running:
        running.check()


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        ("http_500", "HTTP 500 to one small request: CUDA is out of memory"),
        ("http_429", "HTTP 429 to one small request: it is rate limited"),
        ("html", "answered text/html, not text/event-stream"),
        ("cut", r"ended without a finish_reason or \[DONE\]"),
        ("error_in_stream", 'an error inside the stream: {"message": "out of memory"}'),
        ("not_json", "an event that is not JSON: 'oops'"),
        ("endless", "the answer is longer than 1048576 bytes"),
        ("other_models", "serves stranger, guest; the plan wants tiny"),
        ("locked", "HTTP 401: access refused; set api_key_env in the topology"),
    ],
)
def test_a_server_that_cannot_be_measured_is_refused_in_one_line(
    bring_up_first: BringUp, behaviour: str, line: str
) -> None:
    with pytest.raises(TopologyError, match=line) as caught:
        bring_up_first(plan_of(processes(behaviour))).__enter__()
    assert str(caught.value).startswith("topology arm: ")
    assert "\n" not in str(caught.value)


def test_a_server_without_a_model_list_is_measured(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("no_model_list"))) as running:
        assert running.endpoint.fingerprint["seen"]["models"] is None


def test_an_engine_that_exits_at_start_is_told_at_once_with_its_log(bring_up_first: BringUp) -> None:
    with pytest.raises(TopologyError, match="engine1 did not start: it exited with status 7") as caught:
        bring_up_first(plan_of(processes("never_ready", "exit_at_start", ready_timeout_s=500))).__enter__()
    assert caught.value.log_tail == "no such weights: /models/none"


def test_an_engine_that_never_gets_ready_is_given_up_at_the_deadline(bring_up_first: BringUp) -> None:
    with pytest.raises(TopologyError, match=r"engine0 was not ready within 1\.5 s .*answered HTTP 503") as caught:
        bring_up_first(plan_of(processes("never_ready", ready_timeout_s=1.5))).__enter__()
    assert "GET /health" in (caught.value.log_tail or "")


def test_a_fixed_port_that_is_taken_is_named(bring_up_first: BringUp, foreign_port: int) -> None:
    given = process(ready_url=f"http://127.0.0.1:{foreign_port}/health")
    with pytest.raises(TopologyError, match=f"port {foreign_port} is taken"):
        bring_up_first(plan_of(processes(processes=[given]))).__enter__()


def test_a_missing_program_is_named(bring_up_first: BringUp) -> None:
    given = process(command=["no-such-engine", "{port}"])
    with pytest.raises(TopologyError, match="engine0: cannot start 'no-such-engine': no such program"):
        bring_up_first(plan_of(processes(processes=[given]))).__enter__()


def test_an_engine_that_dies_under_load_is_found_with_its_signal_and_log(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("good", "good"))) as running:
        kill_child(running, "engine1")
        with pytest.raises(TopologyError, match="topology arm: engine1 died: it was ended by SIGKILL") as caught:
            running.check()
    assert "GET /health" in (caught.value.log_tail or "")


def test_no_worker_of_a_killed_nginx_survives(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("good", "good"))) as running:
        workers = psutil.Process(running.endpoint.balancer_pid).children()
        assert workers
        kill_child(running, "nginx")
        with pytest.raises(TopologyError, match="nginx died: it was ended by SIGKILL"):
            running.check()
    wait_until_ended(workers)
    assert not listens(running.endpoint.url)


def test_what_an_engine_forked_ends_with_it(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("forks"))) as running:
        engine = psutil.Process(running.endpoint.replicas[0].pid)
        forked = engine.children()
        assert len(forked) == 1
    wait_until_ended(forked)


@pytest.mark.slow
def test_an_engine_that_ignores_sigterm_is_killed(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("stubborn"))) as running:
        pid = running.endpoint.replicas[0].pid
        assert pid is not None
    assert not psutil.pid_exists(pid)


def test_an_error_in_the_block_stops_everything_and_stays_the_first_cause(bring_up_first: BringUp) -> None:
    with pytest.raises(Interrupted, match="stopped by hand"):  # noqa: SIM117  the block is what raises
        with bring_up_first(plan_of(processes("good", "good"))) as running:
            raise Interrupted("stopped by hand")
    assert not listens(running.endpoint.url)
    assert not any(listens(replica.url) for replica in running.endpoint.replicas)


def test_a_topology_serves_several_visits(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("good", "good"))) as running:
        for _ in range(2):
            running.check()
            assert fetch(f"{running.endpoint.url}/models", timeout_s=5).status == 200


def test_connections_are_reused_only_to_engines_that_keep_them(bring_up_first: BringUp) -> None:
    with bring_up_first(plan_of(processes("good", "good"))) as keeps:
        pass
    with bring_up_first(plan_of(processes("closes_silently", "closes_silently")), visit=2) as closes:
        pass
    assert keeps.endpoint.fingerprint["balancer"]["upstream_keep_alive"] is True
    assert closes.endpoint.fingerprint["balancer"]["upstream_keep_alive"] is False


def test_several_engines_need_a_balancer(bring_up_first: BringUp) -> None:
    with pytest.raises(TopologyError, match="2 engines need a balancer"):
        bring_up_first(plan_of(processes("good", "good", balancer=None))).__enter__()


@pytest.mark.parametrize("kind", [{"kind": "compose", "file": "a.yml", "profile": "b"}, {"kind": "kubernetes"}])
def test_a_kind_that_this_version_lacks_is_refused(bring_up_first: BringUp, kind: dict[str, str]) -> None:
    with pytest.raises(TopologyError, match=f"kind {kind['kind']} is not supported by this version"):
        bring_up_first(plan_of({"name": "arm", **kind})).__enter__()


def test_a_server_that_is_not_told_its_port_is_refused_before_it_starts(bring_up_first: BringUp) -> None:
    given = process(command=["{python}", "-c", "pass"])
    with pytest.raises(TopologyError, match=r"processes\[0\]: ready_url has \{port\}, but neither"):
        bring_up_first(plan_of(processes(processes=[given]))).__enter__()


def test_an_endless_stream_behind_nginx_is_refused(bring_up_first: BringUp) -> None:
    with pytest.raises(TopologyError, match="the answer is longer than 1048576 bytes"):
        bring_up_first(plan_of(processes("endless", "endless"))).__enter__()


def test_a_prompt_that_nginx_must_keep_in_a_file_gets_through(bring_up_first: BringUp) -> None:
    prompt = b"x" * 2_000_000  # above client_body_buffer_size
    with bring_up_first(plan_of(processes("good", "good"))) as running:
        answer = fetch(f"{running.endpoint.url}/chat/completions", body=prompt, timeout_s=10)
    assert answer.status == 200
