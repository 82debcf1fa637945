"""`loadstair size` for the terminal: memory, speed, cost, shares of one GPU, rules of thumb; the CLI prints it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadstair.report import view
from loadstair.units import GIB

ROWS_MAX = 10
"""Of candidates: the cheapest; --json has all."""
MS_PER_S = 1e3
KV_USE_MAX = 0.9
"""Up to which the closed form was held against the discrete-event model."""
SPEED_FIELDS = {"memory_mib", "bandwidth_gb_per_s", "bf16_tflop_per_s", "fp8_tflop_per_s", "nvlink_gb_per_s"}
"""Of the catalogue, that the tables rest upon."""
TOO_SMALL_MAX = 6
PARTITIONS_MAX = 4
LIMIT_STYLES = {"meets": "green", "near": "yellow", "misses": "red", None: ""}
SPEED_NOTE = (
    "Closed form, for that many requests under way all the time, below the limits of KV cache and sequences. Over 116 "
    "loads of one model the discrete-event model had 0.93 to 1.01 times its tok/s, 0.95 to 1.05 its mean ITL, 0.86 to "
    "1.45 its mean TTFT. p99 is its estimate, in brackets where that model put it: ITL × 0.61 to 1.37, TTFT × 0.57 to "
    "1.97. meets, misses: the whole bracket does; near: the limit lies in it, and a simulation or a run decides."
)

Values = Mapping[str, Any]


def sizing_text(sizing: Values, *, chosen: bool) -> RenderableType:
    """`sizing`: as `loadstair size --json` prints it. `chosen`: the user named the GPUs, so those that are too small
    are shown as well."""
    case, candidates = sizing["case"], sizing["candidates"]
    shown = candidates if chosen else candidates[:ROWS_MAX]
    parts: list[RenderableType] = [Text(_asked(case), style="bold"), Text()]
    parts.append(_memory(shown, _too_small(sizing) if chosen else (), case))
    if len(candidates) > len(shown):
        more = f"… {len(candidates) - len(shown)} that are dearer, or miss a limit: --gpu TYPE, or --json"
        parts += [Text(more, style="dim"), Text()]
    parts += [_speed(shown, case), Text(SPEED_NOTE, style="dim"), *_fitted(case), *_doubts(shown)]
    parts += [Text(), _cost(shown, case), *_prices(shown)]
    parts += _break_even(shown)
    for one in sizing["partitions"][:PARTITIONS_MAX]:
        parts += [Text(), *_partition(one)]
    parts += [*_claims(sizing["claims"])]
    return Group(*parts)


def _too_small(sizing: Values) -> Sequence[Values]:
    rows: Sequence[Values] = sizing["too_small"]
    return rows[:TOO_SMALL_MAX]


def _asked(case: Values) -> str:
    formats = f"{case['weights_format']} weights, {case['kv_format']} keys and values"
    return (
        f"{case['concurrent']:,} × {case['context_tokens']:,} tokens of {case['model']}, {formats}: "
        f"{_gib(case['weights_bytes'])} GiB of weights, {case['kv_bytes_per_sequence'] / 2**20:,.0f} MiB a sequence; "
        f"speed and cost for {case['input_tokens']:,} tokens in, {case['output_tokens']:,} out"
    )


def _memory(candidates: Sequence[Values], too_small: Sequence[Values], case: Values) -> Table:
    share = case["gpu_memory_utilization"]
    table = _table(f"1 Does it fit? GiB on each GPU, budget {share:g} of the whole memory; cheapest first")
    for name in ("weights", "KV asked", "activ.", "other", "needed", "budget", "sequences"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in (*candidates, *too_small):
        held, asked = one["sequences"], case["concurrent"]
        table.add_row(
            *_name(one),
            *(_gib(one[f"{key}_bytes"]) for key in ("weights", "kv_asked", "activations", "overhead", "needed")),
            _gib(one["budget_bytes"]),
            Text(f"{held:,}" if one["carries"] else f"{held:,} < {asked:,}"),
            style="" if one["carries"] else "dim",
        )
    return table


def _speed(candidates: Sequence[Values], case: Values) -> Table:
    limited = case["ttft_s_p99_max"] is not None or case["itl_s_p99_max"] is not None
    table = _table(f"2 How fast, with {case['concurrent']:,} under way?")
    for name in ("tok/s", "TTFT s", "p99", "ITL ms", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    if limited:
        table.add_column("TTFT/ITL", no_wrap=True)
    for one in candidates:
        speed = one["speed"]
        cells = [
            view.digits(speed["output_tokens_per_s"]["value"]),
            view.two_digits(speed["ttft_s_mean"]["value"]),
            _band(speed["ttft_s_p99"], 1),
            view.digits(speed["itl_s_mean"]["value"] * MS_PER_S),
            _band(speed["itl_s_p99"], MS_PER_S),
        ]
        table.add_row(*_name(one), *map(Text, cells), *([_limits(one)] if limited else []))
    return table


def _limits(one: Values) -> Text:
    """`meets/near`; a dash where there is no limit."""
    words = [(met or view.ABSENT, LIMIT_STYLES[met]) for met in (one["ttft_limit"], one["itl_limit"])]
    return Text.assemble(words[0], "/", words[1])


def _fitted(case: Values) -> Iterator[Text]:
    source = case["efficiencies_from"]
    if source is not None:
        yield Text(f"Step times are {source}; elsewhere that is an assumption.", style="yellow")


def _doubts(candidates: Sequence[Values]) -> Iterator[Text]:
    """Where the tables promise too much."""
    full = [f"{one['topology']} {one['gpu']}" for one in candidates if one["kv_use"] > KV_USE_MAX]
    if full:
        yield Text(
            f"KV cache more than {KV_USE_MAX:.0%} full, where requests begin to wait and TTFT is longer than shown: "
            f"{', '.join(full)}.",
            style="yellow",
        )
    no_peer = {one["gpu"]: None for one in candidates if one["tp"] > 1 and not one["peer_to_peer"]}
    if no_peer:
        yield Text(f"TP is slower than shown on {', '.join(no_peer)}: no peer-to-peer transfers.", style="yellow")
    unverified = {one["gpu"]: None for one in candidates if SPEED_FIELDS & set(one["unverified"])}
    if unverified:
        yield Text(f"From data sheets that nobody checked: {', '.join(unverified)}.", style="dim")


def _cost(candidates: Sequence[Values], case: Values) -> Table:
    table = _table("3 What does it cost? USD; with those requests under way all the time, and part of it")
    busy = f"{case['busy_share']:.0%} busy"
    for name in ("an hour", "1M output", "1M in+out", "1M requests", f"1M output, {busy}"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in candidates:
        full = one["full_use"]
        table.add_row(
            *_name(one),
            _usd(one["usd_per_hour"]),
            _usd(full["usd_per_million_output_tokens"]),
            _usd(full["usd_per_million_tokens"]),
            _usd(full["usd_per_million_requests"]),
            _usd(one["part_use"]["usd_per_million_output_tokens"]),
        )
    return table


def _prices(candidates: Sequence[Values]) -> Iterator[Text]:
    by_gpu = {one["gpu"]: one for one in candidates}
    told = [f"{gpu} {_usd(one['usd_per_gpu_hour'])} ({one['price_source']})" for gpu, one in by_gpu.items()]
    yield Text(f"Price of a GPU for an hour: {'; '.join(told)}. Offers differ: --usd-per-hour GPU=USD.", style="dim")


def _break_even(candidates: Sequence[Values]) -> Iterator[Text]:
    told = [one for one in candidates if one["break_even"] is not None]
    if told:
        api = view.digits(told[0]["break_even"]["api_usd_per_million_requests"])
        yield Text(f"Against the API ({api} USD per 1M such requests), cheaper from, in requests a day:", style="bold")
    for one in told:
        even = one["break_even"]
        words = {True: "", False: ", which it cannot serve: the API is cheaper", None: ", at the low price alone"}
        name = f"{one['gpu']} {one['topology']}"
        most = view.digits(even["requests_per_day_max"])
        yield Text(f"  {name}: {_usd(even['requests_per_day'])} of at most {most}{words[even['reached']]}")


def _partition(one: Values) -> Iterator[RenderableType]:
    table = _table(f"4 On one {one['gpu']}, in starting order: GiB", gpu=False)
    for name in ("model", "share", "budget", "weights", "left for KV", "sequences", "if “of the rest”"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for instance in one["instances"]:
        length = f"{instance['sequences']:,} × {instance['context_tokens']:,}"
        table.add_row(
            Text(instance["model"].rpartition("/")[2]),
            f"{instance['gpu_memory_utilization']:g}",
            _gib(instance["budget_bytes"]),
            _gib(instance["weights_bytes"]),
            _gib(instance["kv_room_bytes"]),
            Text(length if instance["sequences"] else "does not fit", style="" if instance["sequences"] else "red"),
            _gib(instance["budget_if_share_of_the_rest_bytes"]),
        )
    yield table
    yield Text(
        f"A share is gpu-memory-utilization, of the whole memory; together {one['share']:g}. Whoever reads it as one "
        "of what earlier engines left reckons with the last column. The speed above is that of the first model alone: "
        "the others take their part of the same GPU.",
        style="dim",
    )


def _claims(claims: Sequence[Values]) -> Iterator[Text]:
    if claims:
        yield Text()
        yield Text("Rules of thumb that are wrong here", style="bold")
    for one in claims:
        yield Text(f"  Said: {one['said']}.", style="dim")
        yield Text(f"  True: {one['true']}.")


def _table(title: str, *, gpu: bool = True) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    if gpu:
        table.add_column("GPU", no_wrap=True)
        table.add_column("topology", no_wrap=True)
    return table


def _name(one: Values) -> tuple[Text, Text]:
    return Text(one["gpu"]), Text(one["topology"])


def _band(expected: Values, factor: float) -> str:
    """`0.25 [0.14, 0.49]`."""
    value, low, high = (view.two_digits(expected[key] * factor) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _usd(values: Values) -> str:
    """`1.30–5.00`, or the one price."""
    low, high = view.digits(values["low"]), view.digits(values["high"])
    return low if low == high else f"{low}–{high}"


def _gib(value: float) -> str:
    return f"{value / GIB:.1f}"
