"""Shapes from a Hugging Face config.json: what is left out, what is nested, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadstair.serving.catalogue import Model, find_model
from loadstair.serving.hf_config import FILE_BYTES_MAX, read_model

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "attention_bias": False,
}
GEMMA_3_12B = {
    "model_type": "gemma3",
    "vision_config": {"num_hidden_layers": 27, "hidden_size": 1152, "intermediate_size": 4304},
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_attention_heads": 16,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "sliding_window": 1024,
    },
}
MISTRAL = LLAMA | {"model_type": "mistral", "vocab_size": 32000, "sliding_window": 4096}


def read(tmp_path: Path, config: object) -> Model:
    folder = tmp_path / "my-model"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return read_model(folder)


def test_llamas_configuration_gives_the_shape_in_the_catalogue(tmp_path):
    listed = find_model("Llama-3.1-8B-Instruct")
    assert listed is not None
    assert read(tmp_path, LLAMA) == replace(listed, name="my-model", source="config.json")


def test_a_model_is_found_by_its_folder_and_by_its_file(tmp_path):
    model = read(tmp_path, LLAMA)
    assert find_model(str(tmp_path / "my-model")) == model
    assert find_model(str(tmp_path / "my-model" / "config.json")) == model
    assert find_model(str(tmp_path / "elsewhere")) is None


def test_a_nested_configuration_that_leaves_much_out_gives_gemma(tmp_path):
    listed = find_model("google/gemma-3-12b-it")
    assert listed is not None
    read_one = read(tmp_path, GEMMA_3_12B)
    assert read_one.extra_parameters == pytest.approx(listed.extra_parameters, rel=0.03)
    expected = replace(
        listed, name="my-model", source="config.json", extra_parameters=read_one.extra_parameters
    )  # the tower is estimated from its layers
    assert read_one == expected
    assert read_one.float16_refused


def test_every_layer_of_mistral_is_local(tmp_path):
    model = read(tmp_path, MISTRAL)
    assert (model.sliding_window, model.local_layers, model.global_layers) == (4096, 32, 0)


@pytest.mark.parametrize(
    ("said", "local_layers"),
    [
        ({"sliding_window": None}, 0),
        ({"sliding_window": 131072, "use_sliding_window": False, "max_window_layers": 32}, 0),
        ({"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 24}, 8),
        ({"sliding_window": 512, "sliding_window_pattern": 6}, 27),  # 32 - 32 // 6
        ({"sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"] * 16}, 16),
        ({"sliding_window": 512, "layer_types": ["full_attention"] * 32}, 0),
    ],
)
def test_windows_are_said_in_four_ways(tmp_path, said, local_layers):
    model = read(tmp_path, LLAMA | said)
    assert model.local_layers == local_layers
    assert (model.sliding_window is None) == (local_layers == 0)


def test_without_kv_heads_every_head_has_its_own(tmp_path):
    assert read(tmp_path, {key: LLAMA[key] for key in LLAMA if key != "num_key_value_heads"}).kv_heads == 32


def test_qwen_has_biases_that_its_configuration_does_not_mention(tmp_path):
    qwen = {key: LLAMA[key] for key in LLAMA if key != "attention_bias"}
    assert read(tmp_path, qwen | {"model_type": "qwen2"}).qkv_bias
    assert not read(tmp_path, qwen).qkv_bias


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "fp8"),  # as large as FP8
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "int4"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"input_activations": {"num_bits": 8}, "weights": {"num_bits": 4}}},
            },
            "int4",
        ),
        ({"quant_method": "of-tomorrow"}, "bf16"),
        (None, "bf16"),
    ],
)
def test_the_quantisation_says_how_weights_are_stored(tmp_path, quantization, expected):
    assert read(tmp_path, LLAMA | {"quantization_config": quantization}).stored_as == expected


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"num_local_experts": 8, "num_experts_per_tok": 2}, "a mixture of experts; the step model is for dense"),
        ({"n_routed_experts": 256, "kv_lora_rank": 512}, "a mixture of experts"),
        ({"kv_lora_rank": 512}, "multi-head latent attention"),
        ({"is_encoder_decoder": True}, "an encoder and a decoder"),
        ({"model_type": "gpt_neox"}, r"without a gate \(gpt_neox\)"),
        ({"layer_types": ["linear_attention", "full_attention"] * 16}, "layer_types: linear_attention"),
        ({"layer_types": ["full_attention"]}, "layer_types: 1 entries for 32 layers"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "4096"}, "hidden_size must be a whole number above 0, not '4096'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number above 0, not 0"),
        ({"vocab_size": 1e400}, "vocab_size must be a whole number above 0, not inf"),
        ({"num_attention_heads": 33}, "hidden_size 4096 is no multiple of num_attention_heads 33"),
        ({"num_key_value_heads": 5}, "5 KV heads do not divide 32 attention heads"),
    ],
)
def test_what_cannot_be_modelled_is_refused_in_one_line_that_names_the_file(tmp_path, said, message):
    with pytest.raises(ValueError, match=message) as refusal:
        read(tmp_path, LLAMA | said)
    shown = str(refusal.value)
    assert shown.startswith(str(tmp_path / "my-model" / "config.json"))
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "is no JSON object"),
        (b" " * (FILE_BYTES_MAX + 1), "is larger than 4 MiB"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_model(tmp_path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_model(tmp_path)
