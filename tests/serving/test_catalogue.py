"""The catalogue: what it finds, and that its shapes add up to the published sizes."""

from pathlib import Path

import pytest

from loadstair.serving.catalogue import find_gpu, find_model, gpu_names, listed_model, model_names
from tests.serving.reference import reference_gpus, reference_models

GIVEN_IN_PURCHASE = {"purchase_usd_low", "purchase_usd_high"}


def test_a_model_is_found_by_its_hugging_face_id_in_any_case():
    model = find_model("qwen/QWEN2.5-32b-instruct")
    assert model is not None
    assert model.name == "Qwen/Qwen2.5-32B-Instruct"


def test_the_part_after_the_slash_is_enough():
    assert find_model("llama-3.1-8b-instruct") is find_model("meta-llama/Llama-3.1-8B-Instruct")


def test_what_is_not_in_the_catalogue_is_none():
    assert find_model("Qwen/Qwen9-1T") is None
    assert find_gpu("h900-sxm") is None


def test_the_catalogue_has_every_model_and_gpu_of_the_reference():
    assert {row["hf"] for row in reference_models()} == set(model_names())
    assert {row["id"] for row in reference_gpus()} == set(gpu_names())


@pytest.mark.parametrize("row", reference_models(), ids=lambda row: str(row["id"]))
def test_the_published_parameters_follow_from_the_shapes(row):
    model = find_model(row["hf"])
    assert model is not None
    assert model.parameters == row["params"]
    assert model.linear_parameters == row["params_linear"]
    assert model.embedding_parameters == row["params_embed"]
    assert model.parameters / 1e9 == pytest.approx(row["pub"], abs=0.005)


def test_gemma_without_its_vision_tower_has_the_parameters_that_keras_hub_publishes():
    gemma = find_model("google/gemma-3-12b-it")
    assert gemma is not None
    padding = (262208 - 262144) * gemma.hidden  # rows that only pad the vocabulary
    assert gemma.parameters - gemma.extra_parameters - padding == 11_765_788_416


def test_a_model_keeps_its_trap():
    qwen3, llama = find_model("Qwen3-32B"), find_model("Llama-3.1-405B-Instruct")
    assert qwen3 is not None
    assert llama is not None
    assert (qwen3.heads, qwen3.intermediate) == (64, 25600)  # often listed with 40 and 27648, those of Qwen2.5
    assert llama.kv_heads == 8  # 16 in older exports


def test_vllm_refuses_float16_for_gemma_3_alone():
    refused = {name for name in model_names() if (model := find_model(name)) is not None and model.float16_refused}
    assert refused == {"google/gemma-3-12b-it"}


def test_h100_nvl_reaches_its_peers_through_pairs_by_default():
    nvl, sxm = find_gpu("h100-nvl"), find_gpu("H100-SXM")
    assert nvl is not None
    assert sxm is not None
    assert (nvl.link, sxm.link) == ("nvlink_pairs", "nvswitch")


@pytest.mark.parametrize("row", reference_gpus(), ids=lambda row: str(row["id"]))
def test_a_gpu_has_the_figures_of_the_reference(row):
    gpu = find_gpu(row["id"])
    assert gpu is not None
    assert gpu.memory_mib == row["mem_mib_smi"]
    assert gpu.bandwidth_gb_per_s == row["bw_gbs"]
    assert (gpu.bf16_tflop_per_s, gpu.fp8_tflop_per_s) == (row["bf16"], row["fp8"])
    assert (gpu.nvlink_gb_per_s or 0) == row["nvlink_bidir_gbs"]
    assert (gpu.tdp_w, gpu.pcie) == (row["tdp"], row["pcie"])
    assert [gpu.usd_per_hour_low, gpu.usd_per_hour_high] == row["rent"]
    assert [gpu.purchase_usd_low, gpu.purchase_usd_high] == row["buy"]


@pytest.mark.parametrize("name", gpu_names())
def test_every_gpu_says_where_its_figures_come_from_and_which_were_not_checked(name):
    gpu = find_gpu(name)
    assert gpu is not None
    assert gpu.source
    assert gpu.usd_per_hour_source
    assert gpu.purchase_source
    assert gpu.usd_per_hour_as_of[:3] == "202"
    assert set(gpu.unverified) >= GIVEN_IN_PURCHASE
    assert all(hasattr(gpu, field) for field in gpu.unverified)
    assert ("bandwidth_gb_per_s" in gpu.unverified) == ("from memory" in gpu.source)


def test_the_catalogue_alone_reads_no_file(tmp_path: Path):
    (tmp_path / "config.json").write_text("not JSON")
    assert listed_model(str(tmp_path)) is None
    with pytest.raises(ValueError, match="is not JSON"):
        find_model(str(tmp_path))
