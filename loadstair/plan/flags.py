"""The flags that a simulated engine has, and which values they take. Named as vLLM names them; its own are marked."""

from collections.abc import Callable, Iterator, Mapping

from loadstair.errors import Problem
from loadstair.plan.model import FlagValue
from loadstair.serving.formats import Formats, WeightFormat, asked_formats, kv_format, weight_format

WHOLE_NUMBERS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "block_size",
    "max_model_len",
    "max_num_queued_reqs",
    "num_speculative_tokens",
    "max_loras",
)
SHARES = ("gpu_memory_utilization", "gpu_share")
"""Above 0, at most 1. `gpu_share` is our own."""
SWITCHES = ("enable_prefix_caching", "enable_prompt_tokens_details")
CHOICES = {"scheduling_policy": ("fcfs", "priority")}
FORMATS: Mapping[str, Callable[[str], str]] = {"quantization": weight_format, "kv_cache_dtype": kv_format}
OWN_NUMBERS = ("speed", "acceptance_rate", "draft_cost")
KV_ROLE = "kv_role"
KV_TRANSFER = "kv_transfer_gb_per_s"
POOL_FLAGS = (KV_ROLE, KV_TRANSFER)
"""They arrange engines in pools, so `loadstair.plan.pools` judges them. `kv_transfer_gb_per_s` is our own."""

SIMULATED_FLAGS = (*WHOLE_NUMBERS, *SHARES, *SWITCHES, *CHOICES, *FORMATS, *OWN_NUMBERS, "lora_modules", *POOL_FLAGS)
"""Engine flags that a simulated engine may have in a plan."""

NEEDS = {
    "num_speculative_tokens": "acceptance_rate",
    "acceptance_rate": "num_speculative_tokens",
    "draft_cost": "num_speculative_tokens",
    "max_loras": "lora_modules",
    KV_TRANSFER: KV_ROLE,
}
"""A flag of no meaning without another."""


def flag_problems(flags: Mapping[str, FlagValue], path: str) -> Iterator[Problem]:
    """`path`: of the engine that has them."""
    for flag, value in flags.items():
        wrong = _wrong(flag, value)
        needed = NEEDS.get(flag)
        if wrong is None and needed is not None and needed not in flags:
            wrong = f"needs {needed} beside it"
        if wrong is not None:
            yield Problem(path=f"{path}.flags.{flag}", message=wrong)


def _wrong(flag: str, value: FlagValue) -> str | None:
    if flag not in SIMULATED_FLAGS:
        return f"a simulated engine has no such flag; it has {', '.join(SIMULATED_FLAGS)}"
    if flag in POOL_FLAGS:
        return None
    if flag in SWITCHES:
        return None if isinstance(value, bool) else f"must be true or false, not {value!r}"
    if flag in CHOICES:
        return None if value in CHOICES[flag] else f"must be {' or '.join(CHOICES[flag])}, not {value!r}"
    if flag in FORMATS:
        return _wrong_format(flag, str(value))
    if flag == "lora_modules":
        named = isinstance(value, str) and value.split()
        return None if named else f"must be names with spaces between them, not {value!r}"
    return _wrong_number(flag, value)


def _wrong_format(flag: str, value: str) -> str | None:
    try:
        FORMATS[flag](value)
    except ValueError as error:
        return str(error)
    return None


def _wrong_number(flag: str, value: FlagValue) -> str | None:
    if flag in ("acceptance_rate", "draft_cost"):
        if isinstance(value, bool | str) or value < 0:
            return f"must be a number of at least 0, not {value!r}"
        return f"is a probability, at most 1, not {value:g}" if flag == "acceptance_rate" and value > 1 else None
    if isinstance(value, bool | str) or value <= 0:
        return f"must be a number above 0, not {value!r}"
    if flag in SHARES:
        of = "memory" if flag == "gpu_memory_utilization" else "GPU's time"
        return f"is a share of the {of}, at most 1, not {value:g}" if value > 1 else None
    if flag in WHOLE_NUMBERS and value != int(value):
        return f"must be a whole number, not {value:g}"
    return None


def formats_of(flags: Mapping[str, FlagValue], *, stored_as: WeightFormat) -> Formats:
    """Of flags that `flag_problems` has nothing to say about; `stored_as`: of the checkpoint itself."""
    given = {flag: str(flags[flag]) for flag in FORMATS if flag in flags}
    return asked_formats(given.get("quantization"), given.get("kv_cache_dtype"), stored_as=stored_as)


def option_words(flags: Mapping[str, FlagValue]) -> tuple[str, ...]:
    """As the simulated engine's command line takes them: `max_num_seqs: 8` becomes `--max-num-seqs 8`. Without those of
    pools, which no engine by itself has."""
    known = {flag: value for flag, value in flags.items() if flag not in POOL_FLAGS}
    return tuple(word for flag, value in known.items() for word in _option(flag.replace("_", "-"), value))


def _option(name: str, value: FlagValue) -> tuple[str, ...]:
    if isinstance(value, bool):
        return (f"--{name}",) if value else (f"--no-{name}",)
    return f"--{name}", str(value)


def number(flags: Mapping[str, FlagValue], flag: str, default: float) -> float:
    """The default too where the value is no number, which `flag_problems` tells."""
    value = flags.get(flag, default)
    return default if isinstance(value, bool | str) else float(value)
