"""What the arms of a comparison should share is told with what it may do to the answer; what is compared is not."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from loadstair.analysis.comparison.alike import differences, unequal
from loadstair.analysis.comparison.arm import Arm, Difference
from loadstair.analysis.comparison.settings import command_flags, engine_settings
from loadstair.plan.model import Plan
from tests.analysis.synthetic import TP2X2, TP4, SyntheticRun, plan_of, simulate

GPUS = {"type": "h100-sxm", "count": 4}
SERVERS = {"tp4": TP4, "tp2x2": TP2X2}


def topology(name: str, *flags: Mapping[str, Any], **changes: object) -> dict[str, object]:
    """Simulated, with an engine for each of `flags`."""
    engines = [{"tp": 4 // len(flags), "flags": dict(one)} for one in flags]
    kind = {"kind": "simulated", "engines": engines} if flags else {"kind": "external", "url": "http://127.0.0.1:1"}
    return {"name": name, "gpus": GPUS, **kind, **changes}


def processes(name: str, *commands: str, **changes: object) -> dict[str, object]:
    started = [{"command": command, "ready_url": "http://127.0.0.1:{port}/health"} for command in commands]
    return {"name": name, "gpus": GPUS, "kind": "processes", "processes": started, **changes}


def plan_with(first: Mapping[str, object], other: Mapping[str, object], **changes: object) -> Plan:
    return plan_of(SERVERS, topologies=[first, other], **changes)


def arms(first: Mapping[str, object], other: Mapping[str, object], seen: object = None) -> tuple[Arm, Arm]:
    """Never measured."""
    plan = plan_with(first, other)
    seen_by = seen if isinstance(seen, tuple) else ({}, {})
    one, two = (
        Arm(topology=topology, fingerprint={"seen": its}, steps=())
        for topology, its in zip(plan.topologies, seen_by, strict=True)
    )
    return one, two


def told(first: Mapping[str, object], other: Mapping[str, object], seen: object = None) -> tuple[Difference, ...]:
    return differences(*arms(first, other, seen), plan_with(first, other))


def ids(found: tuple[Difference, ...]) -> list[str]:
    return [one.finding.id for one in found]


def measured(run: SyntheticRun) -> tuple[Difference, ...]:
    """Of a run of two topologies."""
    summary = run.summary()
    first, other = (
        Arm(topology=plan, fingerprint=run.run.topologies[plan.name], steps=summary.topologies[plan.name].steps)
        for plan in run.plan.topologies
    )
    return differences(first, other, run.plan)


EIGHT = {"max_num_seqs": 8}
TWO_AGAINST_ONE = simulate(
    SERVERS, plan_with(topology("tp4", EIGHT), topology("tp2x2", EIGHT, EIGHT), load={"steps": [4, 12], "hold_s": 4})
)


def test_parallelism_the_number_of_engines_and_the_balancer_are_what_is_compared() -> None:
    half = {"max_num_seqs": 128}
    other = topology("tp2x2", half, half, balancer={"kind": "nginx", "policy": "least_conn"})
    assert told(topology("tp4", {}), other) == ()  # 2 × 128 = 256, the default


def test_two_engines_of_the_same_limit_admit_twice_as_many_and_it_is_said_what_to_set() -> None:
    (found,) = measured(TWO_AGAINST_ONE)
    assert found.finding.message == (
        "tp2x2 admits 2 × 8 = 16 sequences at once, tp4 8: above 8 users tp4 queues where tp2x2 does not; "
        "set max_num_seqs: 16 on tp4 to compare like with like"
    )
    assert found.brief == "tp2x2 admits 16 sequences at once and tp4 8"


def test_the_answers_sentence_ends_with_the_gravest_difference() -> None:
    summary = TWO_AGAINST_ONE.summary()
    assert summary.advice.endswith(" Mind that tp2x2 admits 16 sequences at once and tp4 8.")
    assert summary.comparisons[0].findings[0].id == "compare.max_num_seqs"


def test_a_limit_that_no_step_reaches_is_no_warning() -> None:
    run = simulate(SERVERS, plan_with(topology("tp4", {}), topology("tp2x2", {}, {}), load={"steps": [4], "hold_s": 3}))
    (found,) = measured(run)
    assert (found.finding.severity, found.brief) == ("info", None)
    assert "no step had more than 4 requests under way" in found.finding.message


def test_where_the_plan_is_silent_on_the_limit_the_engines_own_queues_tell_it() -> None:
    engines = {"tp4": [{"tp": 4}], "tp2x2": [{"tp": 2}, {"tp": 2}]}
    topologies = [topology(name, engines=its) for name, its in engines.items()]
    run = simulate(SERVERS, plan_with(*topologies, load={"steps": [4, 32], "hold_s": 3}))
    assert ids(measured(run)) == ["compare.max_num_seqs"]  # nothing was read of them: it is asked for
    waiting = {("tp4", 32): 9.0}
    rows = tuple(
        (at_ns, f"{v.topology}/engine0", "engine.requests.waiting", "", waiting.get((v.topology, step.load), 0.0))
        for v in run.run.visits
        for step in v.steps
        for at_ns in range(step.hold_start_ns, step.hold_end_ns, 10**9)
    )
    (found,) = measured(replace(run, telemetry_rows=rows))
    assert found.finding.id == "compare.queue"
    assert "from 32 users on requests wait to be admitted at tp4 only (9 on average)" in found.finding.message
    silent = tuple((*row[:4], 0.0) for row in rows)
    assert measured(replace(run, telemetry_rows=silent)) == ()


def test_a_flag_that_differs_is_told_with_its_effect() -> None:
    half = {"max_num_seqs": 128}
    first = topology("tp4", {"gpu_memory_utilization": 0.8})
    (found,) = told(first, topology("tp2x2", half, half))
    assert found.finding.severity == "warning"
    assert "gpu_memory_utilization is 0.9 on tp2x2 and 0.8 on tp4 (more memory" in found.finding.message
    assert found.brief == "their engines differ in gpu_memory_utilization"


def test_pools_for_prefill_and_decode_are_what_is_compared() -> None:
    prefill, decode = {"kv_role": "kv_producer", "kv_transfer_gb_per_s": 50}, {"kv_role": "kv_consumer"}
    assert told(topology("tp4", {}), topology("p1d1", prefill, decode)) == ()  # 256 sequences, in the decode engine
    slower = topology("slow", prefill | {"kv_transfer_gb_per_s": 25}, decode)
    (found,) = told(topology("p1d1", prefill, decode), slower)
    assert found.finding.severity == "info"  # both have the same pools: their link is the subject


def test_the_same_flag_in_other_digits_is_the_same() -> None:
    assert told(topology("a", {"block_size": 16.0}), topology("b", {})) == ()


def test_where_both_are_arranged_alike_the_flags_are_what_is_compared() -> None:
    found = told(topology("a", {"max_num_batched_tokens": 2048}), topology("b", {}))
    assert [(one.finding.severity, one.brief) for one in found] == [("info", None)]


def test_flags_are_read_from_command_lines_and_ports_are_none() -> None:
    command = "python -m vllm.entrypoints --port {port} --max-num-seqs=64 --no-enable-prefix-caching --model m/x -tp 2"
    assert command_flags(command) == {
        "port": "{port}",
        "max_num_seqs": "64",
        "enable_prefix_caching": False,
        "model": "m/x",
        "tp": "2",
    }
    plan = plan_with(processes("a", command), processes("b", "vllm serve m/x --parallel 8 {port}"))
    (a,), (b,) = (engine_settings(one) for one in plan.topologies)
    assert a.flags == {"max_num_seqs": "64", "enable_prefix_caching": "false", "model": "m/x"}
    assert b.flags == {"max_num_seqs": "8", "model": "m/x"}


def test_a_variable_that_differs_is_named_and_its_value_is_not() -> None:
    def of(name: str, value: str) -> dict[str, object]:
        one = processes(name, "serve {port}")
        env = {"VLLM_ATTENTION_BACKEND": value, "CUDA_VISIBLE_DEVICES": name}
        return {**one, "processes": [{**entry, "env": env} for entry in one["processes"]]}  # type: ignore[attr-defined]

    (found,) = told(of("a", "secret1"), of("b", "secret2"))
    assert "VLLM_ATTENTION_BACKEND" in found.finding.message
    assert "secret" not in found.finding.message


@pytest.mark.parametrize(
    ("first", "other", "why"),
    [
        ("serve m/x", "serve m/y", ["b (m/y) and a (m/x) differ in the model"]),
        ("serve m/x --dtype half", "serve m/x --dtype bfloat16", ["b (bfloat16) and a (float16) differ in dtype"]),
        ("serve m/x", "serve m/x --quantization fp8", ["b (fp8) and a (the default) differ in quantization"]),
        ("serve m/x --kv-cache-dtype auto", "serve m/x", []),
        ("serve m/x --dtype fp16", "serve m/x --dtype half", []),
    ],
)
def test_another_model_or_precision_is_no_alternative(first: str, other: str, why: list[str]) -> None:
    assert list(unequal(*arms(processes("a", first), processes("b", other)))) == why


def test_gpus_are_told_apart_by_what_the_catalogue_calls_them() -> None:
    shouted = {"gpus": {"type": "H100-SXM", "count": 4}}
    assert unequal(*arms(topology("a"), topology("b", **shouted))) == ()
    assert unequal(*arms(topology("a"), topology("b", gpus={"type": "h100-nvl", "count": 4}))) != ()


def test_what_is_compared_although_unequal_says_so_and_what_it_comes_to_for_each_gpu() -> None:
    half = topology("tp2x2", gpus={"type": "h100-sxm", "count": 2, "usd_per_hour": 3.0})
    first = topology("tp4", gpus={"type": "h100-sxm", "count": 4, "usd_per_hour": 2.0})
    load = {"steps": [4, 32], "hold_s": 3}
    summary = simulate(SERVERS, plan_with(first, half, load=load, compare_unequal=True)).summary()
    (one,) = summary.comparisons
    assert one.unequal
    assert one.findings[0].id == "compare.unequal"
    assert "] per GPU, " in summary.advice
    assert summary.advice.endswith("Mind that tp2x2 (2 × h100-sxm) and tp4 (4 × h100-sxm) have different GPUs.")
    refused = simulate(SERVERS, plan_with(first, half, load=load)).summary()
    assert refused.comparisons == ()


def test_engines_of_two_versions_are_told_and_unknown_ones_are_not() -> None:
    a, b = topology("a"), topology("b")
    (found,) = told(a, b, ({"version": "0.11.0"}, {"version": "0.12.1"}))
    assert found.brief == "their engines' versions differ (0.12.1, 0.11.0)"
    assert told(a, b, ({"version": "0.11.0"}, {"version": None})) == ()


def test_a_forecast_held_against_a_measurement_is_the_gravest_difference() -> None:
    found = told(topology("sim", {}), topology("real"), ({"version": "1"}, {"version": "2"}))
    assert ids(found)[:2] == ["compare.kind", "compare.engine_version"]


def test_engines_that_run_on_while_the_others_restart_are_told() -> None:
    found = told(topology("a", {}), topology("b", {}, restart="never"))
    assert found[0].brief == "only a is started anew for every visit"


def test_the_way_to_each_is_told_where_it_differs() -> None:
    far = topology("far", url="https://gateway.example.com")
    assert ids(told(topology("near"), far)) == ["compare.tls", "compare.distance"]


def test_gpus_that_the_plan_does_not_name_are_taken_for_granted_and_said_so() -> None:
    assert ids(told(topology("a"), topology("b", gpus=None))) == ["compare.gpus_unknown"]


RUN = simulate(SERVERS, plan_of(SERVERS, load={"steps": [4, 16], "hold_s": 4, "repeats": 2}))


def test_arms_that_were_measured_alike_have_nothing_to_tell() -> None:
    assert measured(RUN) == ()


def test_prompts_that_came_out_longer_on_one_side_are_told_with_their_lengths() -> None:
    longer = RUN.with_rows(lambda row: replace(row, input_tokens=141) if row.topology == "tp2x2" else row)
    (found,) = measured(longer)
    assert "the prompts of tp2x2 were 10% longer than those of tp4 (141 and 128 tokens" in found.finding.message


def test_answers_whose_mean_differs_by_chance_are_not_told() -> None:
    # A coefficient of variation of 0.2 over some 150 requests each: three errors are 0.2 × 3 × sqrt(2 / 150), 7 %.
    assert "compare.output_tokens" not in ids(measured(RUN))


def test_unequal_repeats_and_workers_are_told() -> None:
    run = RUN.with_steps(
        lambda visit, step: replace(
            step,
            tail_complete=(visit.topology, visit.repeat, step.load) != ("tp4", 1, 16),
            workers=step.workers[:1] if visit.topology == "tp2x2" else step.workers,
        )
    )
    found = {one.finding.id: one.finding.message for one in measured(run)}
    assert "(at 16 users repeats 0, 1 of tp2x2, repeat 0 of tp4)" in found["compare.repeats"]
    assert "tp2x2 was loaded by 1 workers, tp4 by 2" in found["compare.workers"]
