"""The case that the options of `loadstair size` describe. Every mistake is one line."""

import argparse
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loadstair.errors import UsageError
from loadstair.serving.catalogue import Gpu, Model, find_gpu, find_model, gpu_names, model_names
from loadstair.serving.efficiencies import FITTED
from loadstair.serving.formats import Formats, WeightFormat, kv_format, weight_format
from loadstair.serving.memory import GPU_MEMORY_UTILIZATION
from loadstair.sizing.case import Case, Limits
from loadstair.sizing.cost import ApiPrice, Price, given_price
from loadstair.sizing.fit import GPUS_MAX
from loadstair.sizing.otherwise import able, nothing_carries
from loadstair.sizing.partition import SHARES_MAX, Partition, Tenant, partition
from loadstair.sizing.sizing import Money, Sizing, size

if TYPE_CHECKING:
    from loadstair.fitting.kept import KeptFit

FLOAT16: Final = ("float16", "half", "fp16")
OUTPUT_SHARE = 4
"""Without lengths a request fills the context: three quarters prompt, a quarter answer."""
NAMES_SHOWN = 3


def sizing_of(options: argparse.Namespace) -> Sizing:
    """Raises UsageError for options that are wrong, and where nothing carries the load."""
    _check_positive(options)
    model = _model(options.model)
    gpus = _gpus(options.gpu)
    others = [_tenant(text) for text in options.also]
    try:
        case = _case(options, model, others)
    except ValueError as error:
        raise UsageError(f"size: {error}") from error
    usable = _usable(gpus, case.formats, asked=options.gpu is not None)
    own = Tenant(model=model, formats=case.formats, share=case.gpu_memory_utilization, context_tokens=options.context)
    partitions = _partitions(usable, [own, *others]) if others else []
    gpus_max = 1 if others else GPUS_MAX
    sizing = size(case, usable, _money(options), gpus_max=gpus_max, partitions=partitions)
    if not sizing.candidates:
        raise UsageError(f"size: {nothing_carries(case, usable, sizing.too_small, gpus_max)}")
    return sizing


def _case(options: argparse.Namespace, model: Model, others: Sequence[Tenant]) -> Case:
    input_tokens, output_tokens = _lengths(options)
    kept = None if options.efficiencies is None else _kept(options.efficiencies)
    return Case(
        model=model,
        concurrent=options.concurrent,
        context_tokens=options.context,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        formats=Formats(weights=_weights(options.dtype, model), kv=kv_format(options.kv_dtype)),
        gpu_memory_utilization=_utilization(options.gpu_memory_utilization, others),
        max_num_batched_tokens=options.max_num_batched_tokens,
        limits=Limits(ttft_s_p99=options.ttft_p99, itl_s_p99=options.itl_p99),
        efficiencies=FITTED if kept is None else kept.efficiencies,
        efficiencies_from=None if kept is None else kept.source(),
    )


def _kept(path: str) -> "KeptFit":
    from loadstair.fitting.kept import read_kept  # slow, and only needed here

    return read_kept(Path(path))


def _lengths(options: argparse.Namespace) -> tuple[int, int]:
    context = options.context
    if options.input is None:
        output = max(1, context // OUTPUT_SHARE) if options.output is None else options.output
        return context - output, output
    return options.input, context - options.input if options.output is None else options.output


def _utilization(given: float | None, others: Sequence[Tenant]) -> float:
    """What the others leave of what all may take, unless it is said."""
    if given is not None or not others:
        return GPU_MEMORY_UTILIZATION if given is None else given
    left = round(SHARES_MAX - sum(tenant.share for tenant in others), 4)
    if left <= 0:
        raise ValueError(f"--also: the others' shares leave nothing of the {SHARES_MAX:g} that all may take")
    return left


def _weights(dtype: str, model: Model) -> WeightFormat:
    if dtype.casefold() == "auto":
        return model.stored_as
    if dtype.casefold() in FLOAT16:
        if model.float16_refused:
            raise ValueError(f"--dtype {dtype}: vLLM refuses float16 for {model.name}; bf16 takes the same memory")
        return "bf16"
    return weight_format(dtype)


def _check_positive(options: argparse.Namespace) -> None:
    for name in ("ttft_p99", "itl_p99", "max_num_batched_tokens"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: must be above 0")


def _model(name: str) -> Model:
    try:
        model = find_model(name)
    except ValueError as error:
        raise UsageError(f"--model: {error}") from error
    if model is None:
        known = _nearest(name, model_names(), key=lambda one: one.rpartition("/")[2])
        raise UsageError(f"--model {name}: not in the catalogue ({known}); or give the path of its config.json")
    return model


def _gpus(names: Sequence[str] | None) -> list[Gpu]:
    return [_gpu("--gpu", name) for name in dict.fromkeys(gpu_names() if names is None else names)]


def _gpu(option: str, name: str) -> Gpu:
    gpu = find_gpu(name)
    if gpu is None:
        raise UsageError(f"{option} {name}: not in the catalogue; it has {', '.join(gpu_names())}")
    return gpu


def _nearest(name: str, names: Sequence[str], key: Callable[[str], str]) -> str:
    by_key = {key(one).casefold(): one for one in names}
    near = difflib.get_close_matches(key(name).casefold(), by_key, NAMES_SHOWN, cutoff=0.4)
    return f"nearest: {', '.join(by_key[one] for one in near)}" if near else f"it has {', '.join(names)}"


def _usable(gpus: Sequence[Gpu], formats: Formats, *, asked: bool) -> list[Gpu]:
    """The user's own choice is not left out in silence."""
    found = able(gpus, formats)
    if asked and len(found) < len(gpus):
        lacking = ", ".join(gpu.name for gpu in gpus if gpu not in found)
        raise UsageError(f"--dtype fp8: no FP8 arithmetic on {lacking}; bf16 and int4 run there")
    return found


def _tenant(text: str) -> Tenant:
    name, _, share = text.rpartition(":")
    value = _number(share)
    if not name or value is None or not 0 < value < 1:
        raise UsageError(f"--also {text}: give MODEL:SHARE, such as Qwen/Qwen2.5-3B-Instruct:0.2")
    model = _model(name)
    return Tenant(
        model=model, formats=Formats(weights=model.stored_as), share=value, context_tokens=model.context_tokens_max
    )


def _partitions(gpus: Sequence[Gpu], tenants: Sequence[Tenant]) -> list[Partition]:
    context = tenants[0].context_tokens
    alike = [
        Tenant(model=one.model, formats=one.formats, share=one.share, context_tokens=min(context, one.context_tokens))
        for one in tenants
    ]
    try:
        found = [partition(gpu, alike) for gpu in gpus]
    except ValueError as error:
        raise UsageError(f"--also: {error}") from error
    return [one for one in found if one.fits] or found


def _money(options: argparse.Namespace) -> Money:
    if not 0 < options.busy <= 1:
        raise UsageError(f"--busy {options.busy:g}: a share above 0, up to 1")
    prices = (options.api_usd_per_1m_input, options.api_usd_per_1m_output)
    if any(price is not None and not 0 < price < float("inf") for price in prices) or prices.count(None) == 1:
        raise UsageError("--api-usd-per-1m-input and --api-usd-per-1m-output: give both, above 0")
    api = None
    if options.api_usd_per_1m_input is not None:
        api = ApiPrice(
            usd_per_million_input_tokens=options.api_usd_per_1m_input,
            usd_per_million_output_tokens=options.api_usd_per_1m_output,
        )
    given = dict(_given_price(text) for text in options.usd_per_hour)
    return Money(usd_per_hour=given, api=api, busy_share=options.busy)


def _given_price(text: str) -> tuple[str, Price]:
    name, _, price = text.partition("=")
    value = _number(price)
    if value is None or value <= 0:
        raise UsageError(f"--usd-per-hour {text}: give GPU=USD, such as h100-sxm=2.50")
    return _gpu("--usd-per-hour", name).name, given_price(value)


def _number(text: str) -> float | None:
    """None for what is no finite number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
