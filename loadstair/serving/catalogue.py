"""Models and GPUs that Loadstair knows: shapes and data-sheet figures, with where they come from.

Names match Hugging Face ids, case-insensitively; the part after the slash is enough. GPU types are like `h100-sxm`.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Link = Literal["nvswitch", "nvlink_pairs", "pcie5", "pcie4"]
"""How the GPUs of a machine reach each other. nvlink_pairs: a bridge between two cards, PCIe beyond the pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A dense decoder-only transformer, served in BF16."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied_embeddings: bool
    """The output matrix is the embedding matrix: stored once."""
    qkv_bias: bool
    qk_norm: bool
    sliding_window: int | None
    """Tokens that a local layer attends to; None where all layers are global."""
    global_every: int | None
    """Every n-th layer is global, the others local; None where all are global."""
    extra_parameters: int
    """Beside the decoder: a vision tower."""
    context_tokens_max: int
    parameters: int
    source: str

    @property
    def global_layers(self) -> int:
        return self.layers if self.global_every is None else self.layers // self.global_every

    @property
    def local_layers(self) -> int:
        return self.layers - self.global_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    name: str
    memory_mib: int
    """As nvidia-smi shows it: less than the data sheet says."""
    bandwidth_gb_per_s: float
    bf16_tflop_per_s: float
    """Dense, as all FLOP/s here."""
    fp8_tflop_per_s: float | None
    """None: the GPU has no FP8."""
    link: Link
    """By default: an optional bridge is taken as not fitted."""
    nvlink_gb_per_s: float | None
    """Both directions together; None without NVLink."""
    usd_per_hour_low: float
    usd_per_hour_high: float
    source: str
    note: str | None


def find_model(name: str) -> Model | None:
    return _models().get(name.casefold())


def find_gpu(gpu_type: str) -> Gpu | None:
    return _gpus().get(gpu_type.casefold())


def model_names() -> tuple[str, ...]:
    """In the catalogue's order, for error messages."""
    return tuple(dict.fromkeys(model.name for model in _models().values()))


def gpu_names() -> tuple[str, ...]:
    return tuple(gpu.name for gpu in _gpus().values())


@cache
def _models() -> dict[str, Model]:
    models = [Model(**row) for row in _rows("models.json", "models")]
    by_short_name = {model.name.rpartition("/")[2].casefold(): model for model in models}
    return {model.name.casefold(): model for model in models} | by_short_name


@cache
def _gpus() -> dict[str, Gpu]:
    return {row["name"].casefold(): Gpu(**row) for row in _rows("gpus.json", "gpus")}


def _rows(file_name: str, key: str) -> list[dict[str, Any]]:
    text = files("loadstair.serving.data").joinpath(file_name).read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = json.loads(text)[key]
    return rows
