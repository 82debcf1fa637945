"""What would carry a load that nothing carries."""

from collections.abc import Sequence
from dataclasses import replace

from loadstair.serving.catalogue import Gpu, find_gpu, gpu_names
from loadstair.serving.formats import Formats
from loadstair.sizing.case import Case
from loadstair.sizing.fit import Fit, carrying, placements


def nothing_carries(case: Case, gpus: Sequence[Gpu], too_small: Sequence[Fit], gpus_max: int) -> str:
    """One line: how much the best of them holds, and the first change of formats or GPUs that would do."""
    asked = f"{case.concurrent:,} × {case.context_tokens:,} tokens of {case.model.name} ({case.formats.weights})"
    best = max(too_small, key=lambda one: one.sequences * one.engines, default=None)
    held = 0 if best is None else best.sequences * best.engines
    most = (
        "no room is left beside the weights"
        if best is None or not held
        else f"{best.name} {best.gpu.name} holds {held:,}"
    )
    return f"nothing carries {asked}: {most}; {_change(case, gpus, held, gpus_max)}"


def _change(case: Case, gpus: Sequence[Gpu], held: int, gpus_max: int) -> str:
    everything = [gpu for name in gpu_names() if (gpu := find_gpu(name)) is not None]
    tried: tuple[tuple[str, Formats, Sequence[Gpu]], ...] = (
        ("--kv-dtype fp8 on ", Formats(weights=case.formats.weights, kv="fp8"), gpus),
        ("--dtype fp8 --kv-dtype fp8 on ", Formats(weights="fp8", kv="fp8"), gpus),
        ("--dtype int4 --kv-dtype fp8 on ", Formats(weights="int4", kv="fp8"), gpus),
        ("", case.formats, everything),
    )
    for words, formats, allowed in tried:
        found = _smallest(replace(case, formats=formats), able(allowed, formats), gpus_max)
        if found is not None:
            return f"{words}{found.name} {found.gpu.name} would"
    return f"{held:,} at once do, or a shorter --context" if held else "it takes more GPUs than one machine has"


def able(gpus: Sequence[Gpu], formats: Formats) -> list[Gpu]:
    """Those that compute in the format of the weights. FP8 weights alone can be unpacked on older ones; that is left
    to INT4, which is smaller."""
    return [gpu for gpu in gpus if formats.weights != "fp8" or gpu.fp8_tflop_per_s is not None]


def _smallest(case: Case, gpus: Sequence[Gpu], gpus_max: int) -> Fit | None:
    fits = (carrying(case, gpu, tp, gpus_max) for gpu, tp in placements(case.model, gpus, gpus_max))
    return min((found[0] for found in fits if found), key=lambda one: one.gpus, default=None)
