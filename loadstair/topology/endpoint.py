"""A topology that is up, as values: what the load, the telemetry and the report need to know of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One engine."""

    name: str
    url: str
    """Origin, without /v1."""
    metrics_url: str | None
    pid: int | None = None
    """None where the engine is not our child."""
    ledger: Path | None = None
    """Of a simulated engine: what it really wrote, and when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the load goes, and everything behind it that can be asked how it is."""

    url: str
    """The base URL for an OpenAI client, ending in /v1."""
    replicas: tuple[Replica, ...]
    balancer_status_url: str | None = None
    balancer_pid: int | None = None
    other_pages: tuple[str, ...] = ()
    """Telemetry that is no engine's: a DCGM exporter's metrics, a balancer's status page of its own."""
    headers: dict[str, str] = field(default_factory=dict)
    api_key_env: str | None = None
    tls_verify: bool = True
    tls_ca: str | None = None
    upstreams: dict[str, str] = field(default_factory=dict)
    """Replica names by `host:port`, as X-Upstream-Addr gives it."""
    fingerprint: dict[str, Any] = field(default_factory=dict)
    """What was measured: kind, engines, flags, versions seen, balancer and its version."""
