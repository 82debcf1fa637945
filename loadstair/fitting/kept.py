"""Fitted constants in a file: what `fit --out` writes, and `--efficiencies` of other commands reads."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from loadstair.errors import UsageError
from loadstair.samples.versioned import DamagedError, OtherSchemaError, of_schema
from loadstair.serving.efficiencies import Efficiencies

if TYPE_CHECKING:  # whoever only reads such a file does not wait for what fits
    from loadstair.fitting.fit import Fit

KEPT_SCHEMA = 1
SHARES = ("_bandwidth", "_peak")
"""How the names of constants end that are shares of a data sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFactor:
    value: float
    low: float
    high: float
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFit:
    """What was fitted, to what, and how well it holds there."""

    run: str
    """Name of the measured run."""
    started: str
    """Of that run; UTC, ISO 8601, as `fitted`."""
    fitted: str
    loadstair_version: str
    model: str
    gpus: tuple[str, ...]
    tensor_parallel: tuple[int, ...]
    error_before: float
    error_after: float
    factors: dict[str, KeptFactor]
    efficiencies: Efficiencies

    def source(self) -> str:
        """`fitted to quickstart of 2026-11-30 (Qwen/… on h100-nvl, tp 2 and 4)`."""
        return f"fitted to {self.run} of {self.started[:10]} ({self.model} on {_and(self.gpus)}, {self._tp()})"

    def notes(self, model: str, gpus: Sequence[str], tensor_parallel: Sequence[int]) -> Iterator[str]:
        """For whoever uses it with these engines."""
        yield (
            f"the constants of the step times are {self.source()}; there the forecast was off by "
            f"{self.error_after:.1%} on average, by {self.error_before:.1%} with those that are shipped"
        )
        strange = [gpu for gpu in gpus if gpu not in self.gpus]
        strange += [] if model == self.model else [model]
        strange += [f"tp {tp}" for tp in tensor_parallel if tp not in self.tensor_parallel]
        if strange:
            yield f"whether these constants hold for {_and(strange)} was not measured"

    def _tp(self) -> str:
        return f"tp {_and([str(tp) for tp in self.tensor_parallel])}"


def _and(words: Sequence[str]) -> str:
    return " and ".join(words)


def kept_fit(fit: "Fit", *, run: str, started: str, fitted: str, loadstair_version: str) -> KeptFit:
    return KeptFit(
        run=run,
        started=started,
        fitted=fitted,
        loadstair_version=loadstair_version,
        model=fit.model,
        gpus=fit.gpus,
        tensor_parallel=fit.tensor_parallel,
        error_before=fit.error_before,
        error_after=fit.error_after,
        factors={
            one.factor.name: KeptFactor(value=one.value, low=one.low, high=one.high, held=one.held)
            for one in fit.factors
        },
        efficiencies=fit.efficiencies,
    )


def kept_text(kept: KeptFit) -> str:
    return json.dumps({"schema": KEPT_SCHEMA} | asdict(kept), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_kept(path: Path) -> KeptFit:
    """Raises UsageError, in one line, for what is not such a file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--efficiencies {path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--efficiencies {path}: it is no JSON; `loadstair fit RUN --out FILE` makes one") from error
    try:
        kept = of_schema(raw, KEPT_SCHEMA, KeptFit)
    except (OtherSchemaError, DamagedError) as error:
        raise UsageError(f"--efficiencies {path}: {error}") from error
    unknown = sorted(set(raw["efficiencies"]) - {one.name for one in fields(Efficiencies)})
    if unknown:
        raise UsageError(f"--efficiencies {path}: efficiencies.{unknown[0]}: the model has no such constant")
    _check(kept.efficiencies, path)
    return kept


def _check(efficiencies: Efficiencies, path: Path) -> None:
    for one in fields(efficiencies):
        value = getattr(efficiencies, one.name)
        is_share = one.name.endswith(SHARES)
        possible = 0 < value <= 1 if is_share else 0 <= value < float("inf")
        if not possible:
            right = "a share above 0, up to 1" if is_share else "at least 0"
            raise UsageError(f"--efficiencies {path}: efficiencies.{one.name}: must be {right}, not {value:g}")
