"""What the engines of a topology are told to be: their flags, from the plan or from their command lines."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadstair.plan.model import Engine, FlagValue, Process, ProcessesTopology, SimulatedTopology, TopologyPlan
from loadstair.plan.rules import (
    GPU_MEMORY_UTILIZATION_DEFAULT,
    MAX_NUM_BATCHED_TOKENS_DEFAULT,
    MAX_NUM_SEQS_DEFAULT,
)
from loadstair.serving.memory import BLOCK_TOKENS

SIMULATED_DEFAULTS: Mapping[str, FlagValue] = {
    "max_num_seqs": MAX_NUM_SEQS_DEFAULT,
    "max_num_batched_tokens": MAX_NUM_BATCHED_TOKENS_DEFAULT,
    "gpu_memory_utilization": GPU_MEMORY_UTILIZATION_DEFAULT,
    "block_size": BLOCK_TOKENS,
}
"""A real engine's depend on its version, the model and the GPU: there they are unknown."""

SAME_AS = {
    "max_running_requests": "max_num_seqs",  # SGLang
    "parallel": "max_num_seqs",  # llama.cpp
    "np": "max_num_seqs",
    "mem_fraction_static": "gpu_memory_utilization",  # SGLang
    "model_path": "model",
    "m": "model",
    "hf_repo": "model",
    "hf": "model",
    "q": "quantization",
}
"""Other names of vLLM's flags."""

OF_THE_ARRANGEMENT = (
    *("tp", "tensor_parallel_size", "pp", "pipeline_parallel_size", "dp", "data_parallel_size"),
    *("port", "host", "base_gpu_id", "seed", "served_model_name", "alias"),
)
"""The subject of a comparison, and what any two engines must have apart."""

ENVIRONMENT_APART = ("_VISIBLE_DEVICES", "PORT", "_HOST", "MASTER_ADDR")
"""Ends of the names of variables that place an engine."""

PYTHON = re.compile(r"python[0-9.]*\}?$")
"""Its -m names a module, not a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    flags: Mapping[str, str]
    """By vLLM's names where it has one; as text, numbers in their shortest form."""
    environment: Mapping[str, str]
    """May hold secrets: to be compared, never shown."""


def engine_settings(topology: TopologyPlan) -> tuple[EngineSettings, ...]:
    """Of each engine; empty where the plan says nothing of them."""
    told = topology.engines
    processes: Sequence[Process | None] = topology.processes if isinstance(topology, ProcessesTopology) else ()
    count = max(len(told), len(processes))
    return tuple(
        _settings(
            told[index] if index < len(told) else None,
            processes[index] if index < len(processes) else None,
            simulated=isinstance(topology, SimulatedTopology),
        )
        for index in range(count)
    )


def _settings(engine: Engine | None, process: Process | None, *, simulated: bool) -> EngineSettings:
    given: dict[str, FlagValue] = dict(SIMULATED_DEFAULTS) if simulated else {}
    if process is not None:
        given |= command_flags(process.command)
    if engine is not None:
        given |= engine.flags
    flags = {SAME_AS.get(name, name): _text(value) for name, value in given.items()}
    environment = {} if process is None else process.env
    return EngineSettings(
        flags={
            name: value
            for name, value in flags.items()
            if name not in OF_THE_ARRANGEMENT and not name.startswith("log") and "{port}" not in value
        },
        environment={name: value for name, value in environment.items() if not name.endswith(ENVIRONMENT_APART)},
    )


def command_flags(command: Sequence[str] | str) -> dict[str, FlagValue]:
    """`--max-num-seqs 64`, `--max-num-seqs=64` and `--no-enable-prefix-caching` of a server's command line."""
    words = _words(command)
    flags: dict[str, FlagValue] = {}
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        following = words[index + 1] if index + 1 < len(words) else "-"
        if before == "serve" and not word.startswith("-"):
            flags["model"] = word
        if not _is_option(word) or (word == "-m" and PYTHON.search(before)):
            continue
        name, has_value, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if has_value:
            flags[name] = value
        elif not _is_option(following):
            flags[name] = following
        else:
            flags[name.removeprefix("no_")] = not name.startswith("no_")
    return flags


def _words(command: Sequence[str] | str) -> Sequence[str]:
    if not isinstance(command, str):
        return command
    try:
        return shlex.split(command)
    except ValueError:  # a run that had such a command never started
        return ()


def _is_option(word: str) -> bool:
    return word.startswith("-") and not word[1:2].isdigit()


def _text(value: FlagValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return f"{float(value):.10g}"
    except ValueError:
        return str(value).strip()
