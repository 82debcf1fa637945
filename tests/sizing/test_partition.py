"""Several models on one GPU."""

import pytest

from loadstair.serving.formats import BF16
from loadstair.sizing.partition import Tenant, partition
from tests.sizing.staircase import known_gpu, known_model

GPU = known_gpu("rtx-5090")


def tenant(name, share, context=2048):
    return Tenant(model=known_model(name), formats=BF16, share=share, context_tokens=context)


YI, QWEN_3B, TINY = "01-ai/Yi-6B-Chat", "Qwen/Qwen2.5-3B-Instruct", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"


def test_every_share_is_of_the_whole_memory():
    found = partition(GPU, [tenant(YI, 0.5), tenant(QWEN_3B, 0.3), tenant(TINY, 0.15)])
    total = 32607 * 1024**2
    assert [one.budget.budget_bytes for one in found.instances] == [round(share * total) for share in (0.5, 0.3, 0.15)]
    assert found.fits


def test_read_as_a_share_of_the_rest_it_would_be_less():
    found = partition(GPU, [tenant(YI, 0.5), tenant(QWEN_3B, 0.3), tenant(TINY, 0.15)])
    assert [one.share_of_the_rest for one in found.instances] == pytest.approx([0.5, 0.15, 0.35 * 0.15])


def test_a_model_larger_than_its_share_does_not_fit():
    found = partition(GPU, [tenant(YI, 0.3), tenant(TINY, 0.2)])  # 11.3 GiB of weights in 9.6
    assert [one.sequences > 0 for one in found.instances] == [False, True]
    assert not found.fits


def test_more_than_95_percent_together_is_refused():
    with pytest.raises(ValueError, match=r"come to 1\.1 .* may take 0\.95"):
        partition(GPU, [tenant(YI, 0.6), tenant(QWEN_3B, 0.5)])
