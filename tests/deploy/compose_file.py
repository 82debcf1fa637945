"""docker-compose.yml as Compose sees it: variables filled in, anchors and merge keys resolved."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
PROFILES_OF_ENGINES = ("tp4", "tp2x2")

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Z0-9_]+):-(?P<default>[^{}$]*)\}|(?P<other>.))")


def read_compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The whole file. Raises ValueError for a variable that is not written `${NAME:-default}`."""
    parsed: dict[str, Any] = _filled(yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8")), variables or {})
    return parsed


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    """As Compose does it: after parsing, in values only."""
    if isinstance(value, dict):
        return {key: _filled(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, variables) for inner in value]
    return interpolated(value, variables) if isinstance(value, str) else value


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        if match["other"] is not None:
            raise ValueError(f"{text!r}: write ${{NAME:-default}}, or $$ for a dollar")
        return "$" if match["escaped"] else variables.get(match["name"]) or match["default"]

    return _VARIABLE.sub(fill, text)


def read_env_file(path: Path) -> dict[str, str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@dataclass(frozen=True)
class Service:
    name: str
    keys: Mapping[str, Any]

    @property
    def profiles(self) -> set[str]:
        return set(self.keys["profiles"])

    @property
    def words(self) -> list[str]:
        command = self.keys.get("command", "")
        return shlex.split(command) if isinstance(command, str) else list(command)

    @property
    def is_engine(self) -> bool:
        return bool(self.keys.get("entrypoint") == ["vllm", "serve"])

    @property
    def gpus(self) -> list[str]:
        reserved = self.keys.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
        return [gpu for device in reserved for gpu in device["device_ids"]]

    @property
    def published(self) -> dict[int, int]:
        """Ports in the container by those on the host."""
        ports = (port.split(":") for port in self.keys.get("ports", []))
        return {int(outside): int(inside) for _, outside, inside in ports}

    def option(self, name: str) -> str:
        return self.words[self.words.index(name) + 1]


def services(variables: Mapping[str, str] | None = None) -> list[Service]:
    return [Service(name, keys) for name, keys in read_compose(variables)["services"].items()]


def of_profile(profile: str, variables: Mapping[str, str] | None = None) -> list[Service]:
    return [service for service in services(variables) if profile in service.profiles]


def values_of(value: Any) -> Iterator[str]:
    """Every string in it."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from values_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from values_of(inner)
    elif isinstance(value, str):
        yield value
