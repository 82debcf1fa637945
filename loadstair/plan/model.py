"""The plan's keys, as frozen values. The keys are a contract: `plans/schema.json` is generated from this module.

Durations are seconds, latencies name their unit. A key that this version cannot carry out is refused by
`loadstair.plan.parse`, never ignored.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]
WEEK_S = 7 * 24 * 3600.0
PositiveSeconds = Annotated[float, Field(gt=0, le=WEEK_S, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=WEEK_S, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class PlanValue(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Lengths(PlanValue):
    """Token counts of one side of a request: lognormal with this mean and coefficient of variation, then clipped."""

    mean: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    cv: NotNegative = 0.0
    """Coefficient of variation; 0 means every request has the same length."""
    min: PositiveInt = 1
    max: PositiveInt | None = None

    @model_validator(mode="after")
    def _mean_lies_inside(self) -> Self:
        if self.max is not None and not self.min <= self.mean <= self.max:
            raise ValueError(f"mean {self.mean:g} must lie between min {self.min} and max {self.max}")
        if self.mean < self.min:
            raise ValueError(f"mean {self.mean:g} must not be below min {self.min}")
        return self


def _number_means_fixed(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"mean": value}
    return value


LengthsOrNumber = Annotated[
    Lengths,
    BeforeValidator(_number_means_fixed, json_schema_input_type=Lengths | Annotated[float, Field(ge=1)]),
]


class Prefix(PlanValue):
    """A system prompt that a share of the requests have in common."""

    share: Share = 0.0
    tokens: Annotated[int, Field(ge=0)] = 0


def _not_required(*names: str) -> Callable[[dict[str, Any]], None]:
    """A key that a matrix gives is required by the plan's own schema, of a plan without one."""

    def change(schema: dict[str, Any]) -> None:
        schema["required"] = [name for name in schema["required"] if name not in names]

    return change


class EndpointKind(StrEnum):
    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


class Workload(PlanValue):
    model_config = ConfigDict(json_schema_extra=_not_required("input_tokens", "output_tokens"))

    endpoint: EndpointKind = EndpointKind.CHAT
    model: Annotated[str, Field(min_length=1)]
    input_tokens: LengthsOrNumber
    output_tokens: LengthsOrNumber
    temperature: NotNegative = 0.7
    ignore_eos: bool = True
    """Ask the server to generate exactly the tokens asked for (vLLM's and llama.cpp's extension)."""
    prefix: Prefix = Prefix()
    salt: bool = True
    """Begin each prompt with a unique word, so that a prefix cache cannot answer for the GPU."""


class LoadMode(StrEnum):
    CLOSED = "closed"
    OPEN = "open"


def load_unit(mode: LoadMode) -> str:
    """What the steps count."""
    return "users" if mode is LoadMode.CLOSED else "requests/s"


def load_words(load: float, mode: LoadMode) -> str:
    """`64 users`, `1 user`, `0.5 requests/s`."""
    return "1 user" if load == 1 and mode is LoadMode.CLOSED else f"{load:g} {load_unit(mode)}"


class ArrivalKind(StrEnum):
    CONSTANT = "constant"
    POISSON = "poisson"
    GAMMA = "gamma"
    TRACE = "trace"


class LoadShape(StrEnum):
    STAIRCASE = "staircase"
    SOAK = "soak"
    SPIKE = "spike"


class Load(PlanValue):
    model_config = ConfigDict(json_schema_extra=_not_required("steps"))

    shape: LoadShape = LoadShape.STAIRCASE
    """staircase: rising loads; soak: one load for a long hold; spike: the usual load, a surge, the usual load again."""
    mode: LoadMode = LoadMode.CLOSED
    """closed: steps are concurrent users; open: steps are requests per second."""
    steps: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=1000)]
    warmup_s: Seconds = 5.0
    """The least: warm-up goes on until TTFT and the requests in flight no longer drift."""
    warmup_s_max: Seconds | None = None
    """When warm-up ends all the same; by default four times `warmup_s`."""
    hold_s: PositiveSeconds = 20.0
    """With `precision` the least: the hold then goes on until the throughput is known so well."""
    hold_s_max: PositiveSeconds | None = None
    """When a hold for `precision` ends all the same; by default four times `hold_s`."""
    precision: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Half the width of the throughput's 95 % interval that a hold aims at, as a share of the throughput: 0.03."""
    surge_s: PositiveSeconds | None = None
    """spike: how long the surge lasts; by default `hold_s`."""
    recovery_s: PositiveSeconds | None = None
    """spike: how long the usual load is watched after it; by default three times `hold_s`."""
    cooldown_s: Seconds = 3.0
    """Idle time after a visit's drain."""
    tail_s_max: PositiveSeconds = 120.0
    """How long the step's load may stay after the hold, until the requests started in it have ended."""
    repeats: Annotated[int, Field(gt=0, le=1000)] = 1
    refine: Annotated[int, Field(ge=0, le=100)] = 0
    """Extra steps that the first repeat places around the knee, and as many that bisect where the SLO is violated;
    later repeats climb over them too."""
    stop_early: bool = True
    """Leave out the higher steps where the topology fails its requests, or is deep in saturation."""
    connect_timeout_s: PositiveSeconds = 10.0
    """For the name's look-up, TCP and TLS together."""
    first_byte_timeout_s: PositiveSeconds | None = None
    """From the send to the first byte of the response's body; by default the request timeout alone bounds it."""
    request_timeout_s: PositiveSeconds = 600.0
    """From the send to the last byte."""
    idle_timeout_s: PositiveSeconds = 120.0
    """The longest gap between two reads of one response, from the first byte of its body on."""
    connections: Literal["keep_alive", "per_request"] = "keep_alive"
    abort_share: Share = 0.0
    arrivals: ArrivalKind | None = None
    """Open loop: how the times between two requests vary; by default poisson, as those of many independent users."""
    burstiness: Positive | None = None
    """gamma: 1 is poisson, less comes in bursts, more is more even (vLLM's option of that name)."""
    trace: Annotated[str, Field(min_length=1)] | None = None
    """trace: the file of recorded arrivals, CSV or JSON lines; a step replays it at its rate."""
    max_in_flight: PositiveInt | None = None
    """Open loop: requests beyond wait until others have ended, and have waited since they were due."""
    on_worker_lost: Literal["go_on", "replace"] = "go_on"
    """Who takes the step again in which a worker was lost, and those after it. go_on: the workers that are left;
    replace: all of them, with local ones started anew and remote ones waited for (`workers.wait_s`)."""
    on_server_lost: Literal["stop", "next"] = "stop"
    """When a topology cannot be brought up, or dies. stop: the run ends; next: it goes on with the next visit."""


class Slo(PlanValue):
    """Limits. `*_p50/_p90/_p99` bind the step's percentile; for goodput every request is held to the ttft, tpot and
    e2e limits itself; where tpot has none, to that of the itl."""

    ttft_ms_p50: Positive | None = None
    ttft_ms_p90: Positive | None = None
    ttft_ms_p99: Positive | None = None
    itl_ms_p50: Positive | None = None
    itl_ms_p90: Positive | None = None
    itl_ms_p99: Positive | None = None
    tpot_ms_p50: Positive | None = None
    tpot_ms_p90: Positive | None = None
    tpot_ms_p99: Positive | None = None
    e2e_s_p50: Positive | None = None
    e2e_s_p90: Positive | None = None
    e2e_s_p99: Positive | None = None
    e2e_s_max: Positive | None = None
    error_rate_max: Share | None = None


class Gpus(PlanValue):
    type: Annotated[str, Field(min_length=1)]
    count: PositiveInt
    usd_per_hour: NotNegative | None = None
    """Price of one GPU for one hour."""
    link: Literal["nvswitch", "nvlink_pairs", "pcie5", "pcie4"] | None = None
    """How the GPUs reach each other; by default what the catalogue says of this type."""


FlagValue = bool | int | float | str


class Engine(PlanValue):
    tp: PositiveInt = 1
    flags: dict[str, FlagValue] = {}
    """Engine options by vLLM's names: max_num_seqs, max_num_batched_tokens, gpu_memory_utilization, block_size …"""


class Balancer(PlanValue):
    kind: Literal["nginx"] = "nginx"
    policy: Literal["round_robin", "least_conn", "random_two", "hash"] = "round_robin"


def _http_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    try:
        parts = urlsplit(url.replace("{port}", "1"))
        complete = parts.hostname and parts.port != 0 and not any(character.isspace() for character in url)
    except ValueError:
        complete = False
    if not complete:
        raise ValueError("must be a URL such as http://127.0.0.1:8000")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user and password: name the key's environment variable in api_key_env")
    return url.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class Process(PlanValue):
    """One server process. `{port}` (a free port, the same within one process), `{python}` and `{plan_dir}` are
    filled in, in command, ready_url and env."""

    command: tuple[str, ...] | str
    """A list of arguments, or a line split as a shell splits words; no shell runs it."""
    ready_url: HttpUrl
    """Answers 200 when the server can take requests; its origin is where the requests go."""
    env: dict[str, str] = {}
    metrics_url: HttpUrl | None = None


class Tls(PlanValue):
    verify: bool = True
    ca: str | None = None


class TopologyPlanBase(PlanValue):
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    gpus: Gpus | None = None
    restart: Literal["always", "never"] = "always"
    """Whether engines are started anew for every visit."""
    ready_timeout_s: PositiveSeconds = 600.0
    """How long its servers may take to be ready. An `external` topology is waited for only if the plan has this."""
    headers: dict[str, str] = {}
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; the key itself never stands in a plan."""


class SimulatedTopology(TopologyPlanBase):
    kind: Literal["simulated"]
    gpus: Gpus
    engines: Annotated[tuple[Engine, ...], Field(min_length=1)]
    balancer: Balancer | None = None


class ProcessesTopology(TopologyPlanBase):
    kind: Literal["processes"]
    processes: Annotated[tuple[Process, ...], Field(min_length=1)]
    engines: tuple[Engine, ...] = ()
    balancer: Balancer | None = None


def _no_query(url: str) -> str:
    if urlsplit(url).query or urlsplit(url).fragment:
        raise ValueError("must end with the path: the requests' own paths are put behind it")
    return url


class ExternalTopology(TopologyPlanBase):
    kind: Literal["external"]
    url: Annotated[HttpUrl, AfterValidator(_no_query)]
    """The server's root; /v1 is added unless the path already ends in it."""
    metrics: tuple[HttpUrl, ...] = ()
    """One page for each of `replicas`, in order; pages after those may be a DCGM exporter's or nginx's stub_status."""
    replicas: tuple[HttpUrl, ...] = ()
    tls: Tls = Tls()
    engines: tuple[Engine, ...] = ()


class ComposeTopology(TopologyPlanBase):
    kind: Literal["compose"]
    file: str
    profile: str
    engines: tuple[Engine, ...] = ()


class KubernetesTopology(TopologyPlanBase):
    kind: Literal["kubernetes"]
    engines: tuple[Engine, ...] = ()


TopologyPlan = Annotated[
    SimulatedTopology | ProcessesTopology | ExternalTopology | ComposeTopology | KubernetesTopology,
    Field(discriminator="kind"),
]


def _ipv4_address(value: str) -> str:
    try:
        return str(IPv4Address(value))
    except ValueError as error:
        raise ValueError(
            f"{value!r} is no IPv4 address, such as 10.0.0.5, or 0.0.0.0 for all of this machine"
        ) from error


class RemoteWorkers(PlanValue):
    """Worker processes on other hosts, each started there with `scripts/run_worker.sh`."""

    expect: PositiveInt
    """Processes, not hosts: `loadstair worker` starts one for each core."""
    bind: Annotated[str, AfterValidator(_ipv4_address)]
    """The address of this machine that the workers reach, such as 10.0.0.5; 0.0.0.0 for all of its addresses. The
    channel is neither encrypted nor authenticated: a private network or a tunnel."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5557
    """Known to the worker hosts beforehand."""
    wait_s: PositiveSeconds = 120.0
    """How long a visit waits until all have come."""


class MatrixTest(PlanValue):
    id: Annotated[str, Field(pattern=NAME_PATTERN)]
    users: PositiveInt
    """Concurrent requests: all are sent at once."""
    input_tokens: LengthsOrNumber
    output_tokens: LengthsOrNumber

    @property
    def lengths(self) -> tuple[Lengths, Lengths]:
        return self.input_tokens, self.output_tokens


class Matrix(PlanValue):
    """Named tests in place of a staircase, each a few bursts of concurrent requests."""

    tests: Annotated[tuple[MatrixTest, ...], Field(min_length=1, max_length=1000)]
    runs: Annotated[int, Field(gt=0, le=1000)] = 3
    """Bursts of each test, one after the other."""
    requests_per_user: Annotated[int, Field(gt=0, le=1000)] = 1
    """In a burst, one after the other."""
    baseline_requests: Annotated[int, Field(gt=0, le=1000)] = 10
    """Single requests, one after the other, for each pair of lengths among the tests."""
    warmup_requests: Annotated[int, Field(ge=0, le=1000)] = 3
    """Single requests before everything else; nothing is told of them."""
    cooldown_s: Seconds = 30.0
    """Idle time between two tests."""
    growth_s: Seconds = 0.0
    """Spreads the start of a burst's users over so long; 0 sends all at once, as such plans are meant."""
    latency_s_max: PositiveSeconds = 60.0
    """A request that takes as long has failed."""
    warn_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 2.0
    """Times the baseline's mean latency, from which on a test is a warning."""


def with_matrix_loads(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The raw plan with the `load.steps` and the workload's lengths that its matrix gives, where it has none itself.

    Where the matrix is wrong itself they are just some that are right: its own mistakes are then the ones to tell.
    """
    try:
        matrix = Matrix.model_validate(raw["matrix"])
        lengths = {side: getattr(matrix.tests[0], side).model_dump() for side in ("input_tokens", "output_tokens")}
        steps = sorted({test.users for test in matrix.tests})
    except ValidationError:
        lengths, steps = {"input_tokens": 1, "output_tokens": 1}, [1]
    filled: dict[str, Any] = dict(raw)
    for key, given in (("workload", lengths), ("load", {"steps": steps})):
        own = filled.get(key, {})
        if isinstance(own, Mapping):
            filled[key] = {**given, **own}
    return filled


def _schema_with_matrix(schema: dict[str, Any]) -> None:
    """What a matrix gives is required only of a plan without one."""
    schema["required"].remove("load")
    lengths = ["input_tokens", "output_tokens"]
    schema["if"] = {"required": ["matrix"]}
    schema["else"] = {
        "required": ["load"],
        "properties": {"load": {"required": ["steps"]}, "workload": {"required": lengths}},
    }


class Plan(PlanValue):
    model_config = ConfigDict(json_schema_extra=_schema_with_matrix)

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    workload: Workload
    load: Load
    slo: Slo | None = None
    thresholds: tuple[str, ...] = ()
    topologies: Annotated[tuple[TopologyPlan, ...], Field(min_length=1)]
    """The first is the baseline: comparisons are other/first."""
    workers: Literal["auto"] | PositiveInt | RemoteWorkers = "auto"
    variants: dict[str, object] | None = None
    matrix: Matrix | None = None
    """In place of `load.steps` and the workload's lengths, which it then gives."""
    compare_unequal: bool = False

    @model_validator(mode="before")
    @classmethod
    def _matrix_gives_loads_and_lengths(cls, raw: object) -> object:
        return with_matrix_loads(raw) if isinstance(raw, Mapping) and raw.get("matrix") is not None else raw
