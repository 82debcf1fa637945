"""A model's shape from the `config.json` that comes with its weights on Hugging Face."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from loadstair.serving.formats import FOUR_BITS, WeightFormat
from loadstair.serving.model import Model

FILE_NAME = "config.json"
FILE_BYTES_MAX = 4 * 1024**2
NUMBER_MAX = 10**8
"""No dimension of a model comes near."""

GEMMA = ("gemma", "gemma2", "gemma3", "gemma3_text")
FOUR_NORMS = ("gemma2", "gemma3", "gemma3_text")
QK_NORM = ("qwen3", "gemma3", "gemma3_text", "olmo2")
QKV_BIAS = ("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen2_5_vl_text")
"""Their configurations do not say it, the implementations do."""
FLOAT16_REFUSED = ("gemma2", "gemma3", "gemma3_text", "glm4", "plamo2")
"""Source: vLLM, config/model.py."""
NOT_GATED = ("bloom", "falcon", "gpt_neox", "gptj", "nemotron", "persimmon", "phi", "starcoder2")
"""Feed-forward parts of two matrices, where the step model counts three."""
GEMMA3_DEFAULTS = {
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window_pattern": 6,
    "max_position_embeddings": 131072,
}
LEFT_OUT: Final[dict[str, dict[str, int]]] = {
    "gemma3": GEMMA3_DEFAULTS,
    "gemma3_text": GEMMA3_DEFAULTS,
    "gemma2": {"head_dim": 256, "sliding_window_pattern": 2, "max_position_embeddings": 8192},
}
"""What published configurations leave to the defaults of transformers."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size", "num_experts_per_tok")
LATENT = ("kv_lora_rank", "q_lora_rank")


def config_file(path: Path) -> Path:
    """`path`, or the configuration inside it where it is a folder."""
    return path / FILE_NAME if path.is_dir() else path


def read_model(path: Path) -> Model:
    """The model that a `config.json`, or the folder it lies in, describes; its name is the folder's.

    Raises ValueError, in one line, for a file that cannot be read, that lacks a dimension, or that describes what the
    step model is not for: mixtures of experts, latent attention, state spaces, encoders.
    """
    file = config_file(path)
    try:
        return _model(_load(file), file.resolve().parent.name)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _load(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"is larger than {FILE_BYTES_MAX // 1024**2} MiB: it is no configuration of a model")
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError("is not JSON") from error
    if not isinstance(config, dict):
        raise ValueError("is no JSON object")
    return config


def _model(config: dict[str, Any], name: str) -> Model:
    nested = config.get("text_config")
    text = config | nested if isinstance(nested, dict) else config
    kind = str(text.get("model_type", ""))
    text = LEFT_OUT.get(kind, {}) | {key: value for key, value in text.items() if value is not None}
    _refuse_others(text, kind)
    layers, hidden = _whole(text, "num_hidden_layers"), _whole(text, "hidden_size")
    heads = _whole(text, "num_attention_heads")
    if "head_dim" not in text and hidden % heads:
        raise ValueError(f"hidden_size {hidden} is no multiple of num_attention_heads {heads}, and head_dim is missing")
    window, local_layers = _windows(text, layers)
    return Model(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_whole(text, "num_key_value_heads", heads),
        head_dim=_whole(text, "head_dim", hidden // heads),
        intermediate=_whole(text, "intermediate_size"),
        vocab=_whole(text, "vocab_size"),
        tied_embeddings=bool(text.get("tie_word_embeddings", kind in GEMMA)),
        qkv_bias=bool(text.get("attention_bias", kind in QKV_BIAS)),
        qk_norm=kind in QK_NORM,
        norms_per_layer=4 if kind in FOUR_NORMS else 2,
        sliding_window=window,
        local_layers=local_layers,
        extra_parameters=_vision_parameters(config.get("vision_config")),
        context_tokens_max=_whole(text, "max_position_embeddings"),
        float16_refused=kind in FLOAT16_REFUSED,
        stored_as=_stored_as(config.get("quantization_config")),
        source=FILE_NAME,
    )


def _refuse_others(text: Mapping[str, Any], kind: str) -> None:
    what = None
    if any(_is_many(text.get(key)) for key in EXPERTS):
        what = "a mixture of experts"
    elif any(text.get(key) for key in LATENT):
        what = "multi-head latent attention"
    elif text.get("is_encoder_decoder"):
        what = "an encoder and a decoder"
    elif kind in NOT_GATED:
        what = f"a feed-forward part without a gate ({kind})"
    if what is not None:
        raise ValueError(f"describes {what}; the step model is for dense decoders with gated feed-forward parts")


def _is_many(value: object) -> bool:
    return isinstance(value, int) and value > 1


def _windows(text: Mapping[str, Any], layers: int) -> tuple[int | None, int]:
    """The window, and how many layers have it."""
    types = text.get("layer_types")
    if isinstance(types, list):
        strange = {str(one) for one in types} - {"full_attention", "sliding_attention"}
        if strange or len(types) != layers:
            shown = ", ".join(sorted(strange)) or f"{len(types)} entries for {layers} layers"
            raise ValueError(f"layer_types: {shown}; the step model knows full_attention and sliding_attention")
        local = types.count("sliding_attention")
    elif "sliding_window" not in text or text.get("use_sliding_window") is False:
        local = 0
    elif "sliding_window_pattern" in text:
        local = layers - layers // _whole(text, "sliding_window_pattern")
    elif "max_window_layers" in text:
        local = max(0, layers - _whole(text, "max_window_layers"))
    else:
        local = layers
    return (_whole(text, "sliding_window"), local) if local else (None, 0)


def _vision_parameters(vision: object) -> int:
    """Attention and feed-forward part of a vision tower, without embeddings and projector: 3 % less than the whole."""
    if not isinstance(vision, dict) or not {"num_hidden_layers", "hidden_size", "intermediate_size"} <= vision.keys():
        return 0
    layers, hidden = _whole(vision, "num_hidden_layers"), _whole(vision, "hidden_size")
    return layers * (4 * hidden**2 + 2 * hidden * _whole(vision, "intermediate_size"))


def _stored_as(quantization: object) -> WeightFormat:
    """By `quantization_config`; BF16 where nothing tells of fewer bits."""
    if not isinstance(quantization, dict):
        return "bf16"
    method = f"{quantization.get('quant_method', '')} {quantization.get('quant_algo', '')}".casefold()
    bits = _weight_bits(quantization)
    if bits == 8 or (bits is None and "fp8" in method):
        return "fp8"
    if bits == 4 or any(name in method for name in FOUR_BITS):
        return "int4"
    return "bf16"


def _weight_bits(quantization: Mapping[str, Any]) -> object:
    """None where it is not said in a number."""
    if quantization.get("load_in_4bit") or quantization.get("load_in_8bit"):
        return 4 if quantization.get("load_in_4bit") else 8
    groups = quantization.get("config_groups")
    if isinstance(groups, dict):
        of_weights = [group.get("weights") for group in groups.values() if isinstance(group, dict)]
        return next((one.get("num_bits") for one in of_weights if isinstance(one, dict)), None)
    return quantization.get("bits")


def _whole(config: Mapping[str, Any], key: str, absent: int | None = None) -> int:
    value = config.get(key, absent)
    if value is None:
        raise ValueError(f"{key} is missing")
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= NUMBER_MAX:
        raise ValueError(f"{key} must be a whole number above 0, not {value!r:.50}")
    return value
