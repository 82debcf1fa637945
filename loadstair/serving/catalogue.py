"""Models and GPUs that Loadstair knows: shapes and data-sheet figures, with where they come from.

Names match Hugging Face ids, case-insensitively; the part after the slash is enough. GPU types are like `h100-sxm`.
"""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from loadstair.serving.gpu import Gpu, Link
from loadstair.serving.hf_config import config_file, read_model
from loadstair.serving.model import Model

__all__ = ["Gpu", "Link", "Model", "find_gpu", "find_model", "gpu_names", "listed_model", "model_names"]


def find_model(name: str) -> Model | None:
    """One of the catalogue, or that of a Hugging Face `config.json` whose path, or whose folder's, `name` is.

    None if there is neither. Raises ValueError for a configuration that cannot be used, see `read_model`.
    """
    listed = listed_model(name)
    if listed is not None:
        return listed
    path = Path(name)
    return read_model(path) if config_file(path).is_file() else None


def listed_model(name: str) -> Model | None:
    """One of the catalogue; no file is read that was not installed."""
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
    rows = _rows("gpus.json", "gpus")
    return {row["name"].casefold(): Gpu(**row | {"unverified": tuple(row["unverified"])}) for row in rows}


def _rows(file_name: str, key: str) -> list[dict[str, Any]]:
    text = files("loadstair.serving.data").joinpath(file_name).read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = json.loads(text)[key]
    return rows
