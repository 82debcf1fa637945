"""Rules of thumb that go round, where they are wrong for the case at hand, with the numbers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadstair.serving.formats import bytes_per_kv_value
from loadstair.serving.memory import MIB, kv_bytes_per_sequence, kv_bytes_per_token, kv_copies, weights_bytes
from loadstair.sizing.case import Case
from loadstair.sizing.fit import Fit
from loadstair.sizing.speed import Speed
from loadstair.units import GIB

GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    id: str
    said: str
    true: str


def claims(case: Case, candidates: Sequence[tuple[Fit, Speed]], *, shared: bool) -> tuple[Claim, ...]:
    """`candidates`: cheapest first; `shared`: several models are to share a GPU."""
    found = [
        *_sliding_window(case, candidates),
        *_weights(case),
        *_float16(case),
        *_kv_heads(case),
        *_copies(case, candidates),
        *_share_of_the_rest(shared),
        *_gpu_utilization(case, candidates),
    ]
    return tuple(found)


def _sliding_window(case: Case, candidates: Sequence[tuple[Fit, Speed]]) -> Iterator[Claim]:
    model, window = case.model, case.model.sliding_window
    if not model.local_layers or window is None or case.context_tokens <= window:
        return
    every_layer = case.context_tokens * kv_bytes_per_token(model, case.formats)
    kept = kv_bytes_per_sequence(model, case.context_tokens, case.formats)
    said = f"every layer keeps every token: {case.concurrent * every_layer / GIB:.1f} GiB for {case.concurrent:,}"
    true = (
        f"{model.local_layers} of {model.layers} layers keep their last {window:,} tokens: {kept / MIB:,.0f} MiB a "
        f"sequence, not {every_layer / MIB:,.0f}; {case.concurrent * kept / GIB:.1f} GiB for all"
    )
    alone = next((one for one, _ in candidates if one.gpus == 1), None)
    if alone is not None:
        by_claim = alone.budget.kv_bytes // every_layer
        engines = math.ceil(case.concurrent / by_claim) if by_claim else None
        if engines is None or engines > 1:
            said += f", more than one {alone.gpu.name}" if engines is None else f", so {engines} {alone.gpu.name}"
        true += f"; one {alone.gpu.name} holds {alone.sequences:,}"
    yield Claim(id="kv.sliding_window", said=said, true=true)


def _weights(case: Case) -> Iterator[Claim]:
    model, weights = case.model, weights_bytes(case.model, case.formats)
    billions = model.parameters / 1e9
    if case.formats.weights == "bf16":
        yield Claim(
            id="weights.bytes",
            said=f"{billions:.3g}B parameters are about {billions:.0f} GB",
            true=f"that is one byte each; BF16 has two: {weights / GB:.1f} GB = {weights / GIB:.1f} GiB",
        )
        return
    bits = 8 if case.formats.weights == "fp8" else 4
    naive = model.parameters * bits / 8
    yield Claim(
        id="weights.quantised",
        said=f"{bits} bits a parameter: {billions:.3g}B are {naive / GB:.1f} GB",
        true=f"{weights / GB:.1f} GB: embeddings and output matrix stay BF16"
        + (", and every group of 128 weights has its scale" if bits == 4 else ""),
    )


def _float16(case: Case) -> Iterator[Claim]:
    if case.model.float16_refused:
        yield Claim(
            id="dtype.float16",
            said="serve it with `--dtype half`",
            true=f"vLLM refuses float16 for {case.model.name}, it would overflow: bfloat16, of the same size",
        )


def _kv_heads(case: Case) -> Iterator[Claim]:
    model = case.model
    if model.kv_heads == model.heads:
        return
    by_hidden = 2 * model.layers * model.hidden * bytes_per_kv_value(case.formats.kv)
    by_heads = kv_bytes_per_token(model, case.formats)
    yield Claim(
        id="kv.heads",
        said=f"a token's keys and values are 2 × layers × hidden size: {by_hidden / 1024:,.0f} KiB",
        true=f"{model.kv_heads} KV heads of {model.head_dim}, not {model.heads}: {by_heads / 1024:,.0f} KiB"
        + (f", {by_hidden / by_heads:.2g} times less" if by_hidden > 1.05 * by_heads else ""),
    )


def _copies(case: Case, candidates: Sequence[tuple[Fit, Speed]]) -> Iterator[Claim]:
    model = case.model
    wide = [one.tp for one, _ in candidates if one.tp > model.kv_heads]
    if wide:
        tp = max(wide)
        yield Claim(
            id="kv.copies",
            said=f"TP{tp} splits keys and values over {tp} GPUs",
            true=f"{model.kv_heads} KV heads can be split over {model.kv_heads}: each is held "
            f"{kv_copies(model, tp):g} times, and a sequence takes as much of each GPU as with TP{model.kv_heads}",
        )


def _share_of_the_rest(shared: bool) -> Iterator[Claim]:
    if shared:
        yield Claim(
            id="partition.share",
            said="gpu-memory-utilization is a share of what earlier engines left",
            true="it is one of the GPU's whole memory, for weights, activations, graphs and KV cache of that engine",
        )


def _gpu_utilization(case: Case, candidates: Sequence[tuple[Fit, Speed]]) -> Iterator[Claim]:
    if not candidates:
        return
    fit, speed = candidates[0]
    yield Claim(
        id="gpu.utilization",
        said="aim at a GPU utilisation of 80 % or more",
        true="nvidia-smi shows about 100 % whenever any kernel runs, and at "
        f"{case.concurrent:,} requests {fit.name} {fit.gpu.name} does {speed.peak_share:.0%} of its BF16 arithmetic: "
        "look at requests waiting and KV use",
    )
