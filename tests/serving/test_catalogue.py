"""The catalogue: what it finds, and that its shapes add up to the published sizes."""

import pytest

from loadstair.serving.catalogue import Model, find_gpu, find_model, gpu_names, model_names


def test_a_model_is_found_by_its_hugging_face_id_in_any_case():
    model = find_model("qwen/QWEN2.5-32b-instruct")
    assert model is not None
    assert model.name == "Qwen/Qwen2.5-32B-Instruct"


def test_the_part_after_the_slash_is_enough():
    assert find_model("llama-3.1-8b-instruct") is find_model("meta-llama/Llama-3.1-8B-Instruct")


def test_what_is_not_in_the_catalogue_is_none():
    assert find_model("Qwen/Qwen9-1T") is None
    assert find_gpu("h900-sxm") is None


def parameters_from_shapes(model: Model) -> int:
    query, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    attention = 2 * model.hidden * query + 2 * model.hidden * kv
    bias = query + 2 * kv if model.qkv_bias else 0
    layer = attention + bias + 3 * model.hidden * model.intermediate
    embeddings = model.vocab * model.hidden * (1 if model.tied_embeddings else 2)
    return model.layers * layer + embeddings + model.extra_parameters


@pytest.mark.parametrize("name", model_names())
def test_parameters_follow_from_the_shapes_but_for_norms(name):
    model = find_model(name)
    assert model is not None
    assert (
        0 <= model.parameters - parameters_from_shapes(model) < 0.0002 * model.parameters
    )  # norms: layers x hidden x 2..4


def test_h100_nvl_reaches_its_peers_through_pairs_by_default():
    nvl, sxm = find_gpu("h100-nvl"), find_gpu("H100-SXM")
    assert nvl is not None
    assert sxm is not None
    assert (nvl.link, sxm.link) == ("nvlink_pairs", "nvswitch")


@pytest.mark.parametrize("name", gpu_names())
def test_every_gpu_says_where_its_figures_come_from_and_has_a_price_range(name):
    gpu = find_gpu(name)
    assert gpu is not None
    assert gpu.source
    assert 0 < gpu.usd_per_hour_low <= gpu.usd_per_hour_high
