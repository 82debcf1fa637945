"""All-reduces by the way the GPUs are joined."""

import pytest

from loadstair.serving.links import AllReduce, all_reduce
from tests.serving.known import gpu

SXM, NVL = gpu("h100-sxm"), gpu("h100-nvl")


def test_one_gpu_reduces_nothing():
    assert all_reduce(SXM, 1, "nvswitch") is None


def test_an_all_reduce_starts_and_moves_each_byte_one_and_a_half_times_among_four():
    assert AllReduce(5, 260).seconds(4, 1e6) == pytest.approx(5e-6 + 1.5e6 / 260e9)


def test_a_faster_nvlink_scales_the_bus():
    # B200: 1800 GB/s against the 900 of the H100 that was measured
    assert all_reduce(gpu("b200-sxm"), 2, "nvswitch") == AllReduce(4, 440)


def test_nvlink_pairs_cross_pcie_at_tp4():
    assert all_reduce(NVL, 4, "nvlink_pairs") == AllReduce(25, 45)


@pytest.mark.parametrize("link", ["nvlink_pairs", "pcie5", "pcie4"])
def test_what_the_custom_all_reduce_is_missed_for_is_in_the_measured_start_and_counted_once(link):
    two, four = all_reduce(gpu("l40s"), 2, link), all_reduce(gpu("l40s"), 4, link)
    assert two is not None
    assert four is not None
    assert four.start_us - two.start_us == pytest.approx(12, abs=8)  # 16 µs more, as measured on one more link


def test_cards_that_cannot_reach_each_others_memory_miss_it_at_two_already():
    l40s, rtx_5090 = all_reduce(gpu("l40s"), 2, "pcie4"), all_reduce(gpu("rtx-5090"), 2, "pcie4")
    assert l40s == AllReduce(5, 19)
    assert rtx_5090 == AllReduce(5 + 16, 19)
    assert all_reduce(gpu("rtx-5090"), 4, "pcie4") == all_reduce(gpu("l40s"), 4, "pcie4")
