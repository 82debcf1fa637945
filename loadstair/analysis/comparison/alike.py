"""What the arms of a comparison should share, and do not: each difference with what it may do to the answer.

The number of engines, their parallelism, their pools and the balancer are what is compared, and no differences. Where
two topologies are arranged alike, their engines' flags are the subject too: they are told, but as no warning.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from loadstair.analysis.comparison.arm import Arm, Difference
from loadstair.analysis.comparison.measured_alike import measured_differences
from loadstair.analysis.comparison.sequences import sequence_differences
from loadstair.analysis.statistics.estimate import Finding
from loadstair.plan.flags import KV_ROLE, POOL_FLAGS
from loadstair.plan.model import ExternalTopology, Gpus, Plan, SimulatedTopology
from loadstair.plan.pools import is_pooled
from loadstair.serving.catalogue import find_gpu

PRECISION = ("quantization", "kv_cache_dtype")
"""Flags that decide how many bytes a weight or a key has; without one it is as the model's files say."""
UNEQUAL = {"model": "the model", "dtype": "dtype", **{flag: flag for flag in PRECISION}}
HANDLED = frozenset({"max_num_seqs", *UNEQUAL})
SAME_DTYPE = {"half": "float16", "bf16": "bfloat16", "fp16": "float16", "float": "float32", "fp32": "float32"}
AS_THE_MODEL = frozenset({"auto", "none", ""})
VALUE_SHOWN_MAX = 40

EFFECTS = {
    "max_num_batched_tokens": "a larger budget for each step prefills sooner and holds up tokens of those under way",
    "gpu_memory_utilization": "more memory for the KV cache lets more requests run at once",
    "enable_prefix_caching": "a prefix cache saves the prefill of prompts that begin alike",
    "enable_chunked_prefill": "prefill in chunks lowers the ITL of those under way and delays the TTFT",
    "max_model_len": "a shorter context leaves more of the KV cache to each request",
    "enforce_eager": "without CUDA graphs each step costs more of the CPU's time",
    "speculative_config": "drafted tokens change the time of each",
}


def unequal(first: Arm, other: Arm) -> tuple[str, ...]:
    """In words, what makes the two no alternatives: GPUs, model or precision. Only what is known of both."""
    return (*_unequal_gpus(first, other), *_unequal_flags(first, other))


def differences(first: Arm, other: Arm, plan: Plan) -> tuple[Difference, ...]:
    """The gravest first."""
    return (
        *_unequal_all_the_same(first, other),
        *_kind(first, other),
        *_version(first, other),
        *_hardware(first, other),
        *sequence_differences(first, other, plan.load.mode, arranged_alike=arranged_alike(first, other)),
        *_flags(first, other),
        *_environment(first, other),
        *_restart(first, other),
        *measured_differences(first, other, plan),
        *_models(first, other),
        *_way(first, other),
    )


def arranged_alike(first: Arm, other: Arm) -> bool:
    """As many engines of the same parallelism behind the same balancer: then their flags are what is compared."""

    def arrangement(arm: Arm) -> tuple[object, ...]:
        parallelism = sorted((engine.tp, str(engine.flags.get(KV_ROLE, ""))) for engine in arm.topology.engines)
        return arm.engine_count, parallelism, getattr(arm.topology, "balancer", None)

    return first.engine_count is not None and arrangement(first) == arrangement(other)


def _unequal_gpus(first: Arm, other: Arm) -> Iterator[str]:
    mine, theirs = first.topology.gpus, other.topology.gpus
    if mine is not None and theirs is not None and (_type(mine), mine.count) != (_type(theirs), theirs.count):
        yield (
            f"{other.name} ({theirs.count} × {theirs.type}) and {first.name} ({mine.count} × {mine.type}) "
            "have different GPUs"
        )


def _type(gpus: Gpus) -> str:
    known = find_gpu(gpus.type)
    return gpus.type.casefold() if known is None else known.name


def _unequal_flags(first: Arm, other: Arm) -> Iterator[str]:
    if not first.engines or not other.engines:
        return
    for flag, what in UNEQUAL.items():
        mine, theirs = _values(first, flag), _values(other, flag)
        # Where only one side names its model or dtype it may well name what the other has.
        if mine != theirs and (flag in PRECISION or None not in mine | theirs):
            yield f"{other.name} ({_shown(theirs)}) and {first.name} ({_shown(mine)}) differ in {what}"


def _unequal_all_the_same(first: Arm, other: Arm) -> Iterator[Difference]:
    for reason in unequal(first, other):
        message = (
            f"{reason}, and are compared because the plan says compare_unequal: true: the ratios are of both "
            "together, the arrangement and this; read those per GPU and per dollar"
        )
        yield Difference(finding=Finding.warning("compare.unequal", message), brief=reason)


def _kind(first: Arm, other: Arm) -> Iterator[Difference]:
    simulated = [arm.name for arm in (first, other) if isinstance(arm.topology, SimulatedTopology)]
    if len(simulated) == 1:
        message = f"{simulated[0]} is simulated and the other one real: a forecast is held against a measurement"
        yield Difference(
            finding=Finding.warning("compare.kind", message), brief=f"{simulated[0]} is simulated and the other is not"
        )


def _version(first: Arm, other: Arm) -> Iterator[Difference]:
    mine, theirs = first.seen("version"), other.seen("version")
    if mine is not None and theirs is not None and mine != theirs:
        message = (
            f"{other.name} runs version {theirs} of its engine, {first.name} {mine}: releases differ in speed by as "
            "much as topologies do; measure both with one version"
        )
        brief = f"their engines' versions differ ({theirs}, {mine})"
        yield Difference(finding=Finding.warning("compare.engine_version", message), brief=brief)


def _hardware(first: Arm, other: Arm) -> Iterator[Difference]:
    mine, theirs = first.topology.gpus, other.topology.gpus
    if mine is not None and theirs is not None:
        if mine.link != theirs.link and not unequal(first, other):
            message = (
                f"the GPUs of {other.name} are linked by {theirs.link or 'what is usual for them'}, those of "
                f"{first.name} by {mine.link or 'what is usual for them'}: tensor parallelism lives on that link"
            )
            brief = "their GPUs are linked in different ways"
            yield Difference(finding=Finding.warning("compare.link", message), brief=brief)
        return
    unknown = [arm.name for arm in (first, other) if arm.topology.gpus is None]
    if len(unknown) == 1 or all(isinstance(arm.topology, ExternalTopology) for arm in (first, other)):
        message = (
            f"the plan does not say what GPUs {' and '.join(unknown)} has: that both have the same is taken for "
            "granted; add gpus"
        )
        yield Difference(finding=Finding.info("compare.gpus_unknown", message))


def _flags(first: Arm, other: Arm) -> Iterator[Difference]:
    if not first.engines or not other.engines:
        return
    pooled = is_pooled(first.topology.engines), is_pooled(other.topology.engines)
    arranging = {KV_ROLE} if all(pooled) else set(POOL_FLAGS)
    given = {name for arm in (first, other) for engine in arm.engines for name in engine.flags}
    names = sorted(given - HANDLED - arranging)
    differing = [name for name in names if _values(first, name) != _values(other, name)]
    dtypes = (_values(first, "dtype"), _values(other, "dtype"))
    if dtypes[0] != dtypes[1] and None in dtypes[0] | dtypes[1]:  # one that both name makes them unequal
        differing.append("dtype")
    if not differing:
        return
    told = "; ".join(
        f"{name} is {_shown(_values(other, name))} on {other.name} and {_shown(_values(first, name))} on {first.name}"
        + (f" ({EFFECTS[name]})" if name in EFFECTS else "")
        for name in differing
    )
    if arranged_alike(first, other):
        yield Difference(finding=Finding.info("compare.flags", f"{told}: both are arranged alike, so this is compared"))
        return
    message = f"{told}: the answer is of this too; give both the same, unless it belongs to the arrangement"
    brief = f"their engines differ in {_listed(differing)}"
    yield Difference(finding=Finding.warning("compare.flags", message), brief=brief)


def _environment(first: Arm, other: Arm) -> Iterator[Difference]:
    def values(arm: Arm, name: str) -> set[str | None]:
        return {engine.environment.get(name) for engine in arm.engines}

    names = sorted({name for arm in (first, other) for engine in arm.engines for name in engine.environment})
    differing = [name for name in names if values(first, name) != values(other, name)]
    if differing and first.engines and other.engines:
        message = f"the engines differ in the environment variables {', '.join(differing)}: give both the same"
        yield Difference(finding=Finding.info("compare.environment", message))


def _restart(first: Arm, other: Arm) -> Iterator[Difference]:
    started = {arm.name: _starts_anew(arm) for arm in (first, other)}
    if len(set(started.values())) == 1:
        return
    anew = next(name for name, does in started.items() if does)
    kept = next(name for name, does in started.items() if not does)
    message = (
        f"{anew} is started anew for every visit, {kept} runs on: warm caches and compiled kernels favour {kept}, and "
        f"its repeats do not show what a restart changes; give both the same restart"
    )
    yield Difference(
        finding=Finding.warning("compare.restart", message), brief=f"only {anew} is started anew for every visit"
    )


def _starts_anew(arm: Arm) -> bool:
    return arm.topology.restart == "always" and not isinstance(arm.topology, ExternalTopology)


def _models(first: Arm, other: Arm) -> Iterator[Difference]:
    mine, theirs = first.seen("models"), other.seen("models")
    if mine is not None and theirs is not None and len(mine) != len(theirs):
        more = other if len(theirs) > len(mine) else first
        message = f"{more.name} serves further models: if they share its GPUs, they share its memory and its time"
        yield Difference(finding=Finding.info("compare.models", message))


def _way(first: Arm, other: Arm) -> Iterator[Difference]:
    """How the requests get there."""
    urls = [urlsplit(arm.topology.url) for arm in (first, other) if isinstance(arm.topology, ExternalTopology)]
    schemes = {url.scheme for url in urls}
    hosts = {url.hostname in ("127.0.0.1", "localhost", "::1") for url in urls}
    if len(urls) < 2:
        hosts |= {True}  # what we start listens on this machine
    if len(schemes) > 1:
        message = "one is asked over TLS and the other is not: decrypting costs the load generator time on one side"
        yield Difference(finding=Finding.info("compare.tls", message))
    if urls and len(hosts) > 1:
        message = "one is on this machine and the other behind a network, whose round trip is part of its TTFT"
        yield Difference(finding=Finding.info("compare.distance", message))
    kept = [(arm.fingerprint.get("balancer") or {}).get("upstream_keep_alive") for arm in (first, other)]
    if None not in kept and kept[0] != kept[1]:
        message = (
            "behind one balancer connections to the engines are kept, behind the other each request opens its own: "
            "that adds to its TTFT"
        )
        yield Difference(finding=Finding.info("compare.keep_alive", message))


def _values(arm: Arm, flag: str) -> set[str | None]:
    """Over the engines; None for one that leaves it to the engine or to the model's files."""
    values = {engine.flags.get(flag) for engine in arm.engines}
    if flag in (*PRECISION, "dtype"):
        return {None if value in AS_THE_MODEL else SAME_DTYPE.get(value or "", value) for value in values}
    return values


def _shown(values: set[str | None]) -> str:
    words = sorted("the default" if value is None else value for value in values)
    return " and ".join(word if len(word) <= VALUE_SHOWN_MAX else f"{word[:VALUE_SHOWN_MAX]}…" for word in words)


def _listed(names: list[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:2])} and {len(names) - 2} more flags"
