"""What the load room is told: where to send, what, and within which limits. Never a secret."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadstair.errors import LoadError
from loadstair.plan.arrivals import Arrivals
from loadstair.plan.model import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadConfig:
    base_url: str
    """Ending in /v1."""
    workload: Workload
    visit: int = 0
    topology: str = ""
    repeat: int = 0
    seed: int = 0
    words_per_token: float = 1.0
    calibrate_words: bool = True
    """Correct `words_per_token` from the server's `usage` during warm-up."""
    headers: Mapping[str, str]
    api_key_env: str | None = None
    tls_verify: bool = True
    tls_ca: str | None = None
    connect_timeout_s: float = 10.0
    first_byte_timeout_s: float | None = None
    request_timeout_s: float = 600.0
    idle_timeout_s: float = 120.0
    connections: str = "keep_alive"
    workers: int = 1
    remote: bool = False
    """The workers are on other hosts."""
    nonce: str = ""
    """Makes the request ids unlike those of any other visit; no secret."""
    lease_s: float = 15.0
    arrivals: Arrivals | None = None
    """None: a closed loop."""
    max_in_flight: int | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LoadConfig":
        arrivals = values.get("arrivals")
        read = {
            "workload": Workload.model_validate(values["workload"]),
            "arrivals": None if arrivals is None else Arrivals.from_dict(arrivals),
        }
        return cls(**{**values, **read})


def read_config(path: Path) -> LoadConfig:
    """Raises LoadError."""
    try:
        return LoadConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LoadError(f"{path}: not a load configuration: {error}") from error
