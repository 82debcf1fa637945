"""What it costs the GPUs of an engine to add up their results: twice a layer."""

from dataclasses import dataclass
from typing import Final

from loadstair.serving.efficiencies import US
from loadstair.serving.gpu import Gpu, Link


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Cost of one all-reduce: start, and 2 (t - 1) / t times the bytes at the bus bandwidth."""

    start_us: float
    bus_gb_per_s: float

    def seconds(self, tp: int, transferred_bytes: float) -> float:
        return self.start_us * US + 2 * (tp - 1) / tp * transferred_bytes / (self.bus_gb_per_s * 1e9)


ALL_REDUCE: Final[dict[Link, dict[int, AllReduce]]] = {
    # vLLM's custom all-reduce in a CUDA graph, H100 with 900 GB/s (aiconfigurator); 8: extrapolated from 2 and 4.
    "nvswitch": {2: AllReduce(4, 220), 4: AllReduce(5, 260), 8: AllReduce(6, 280)},
    # H100, 600 GB/s in the pair, PCIe beyond it (microsoft/vidur's profiles); 8: extrapolated as PCIe 4 goes.
    "nvlink_pairs": {2: AllReduce(5, 190), 4: AllReduce(25, 45), 8: AllReduce(48, 20)},
    # No NVLink, PCIe 5 (aiconfigurator); 8: extrapolated as PCIe 4 goes.
    "pcie5": {2: AllReduce(4, 36), 4: AllReduce(16, 28), 8: AllReduce(31, 12)},
    # L40S (aiconfigurator).
    "pcie4": {2: AllReduce(5, 19), 4: AllReduce(14, 5.5), 8: AllReduce(27, 2.4)},
}
"""Without a switch vLLM disables its custom all-reduce beyond two GPUs. Those rows were measured without it: what that
costs is in their start."""
NO_CUSTOM_START_US = 16.0
"""What an all-reduce costs more where vLLM cannot use its own: 20 µs were measured against 4.3 (aiconfigurator)."""
NVSWITCH_REFERENCE_GB_PER_S = 900
NVLINK_PAIR_REFERENCE_GB_PER_S = 600


def all_reduce(gpu: Gpu, tp: int, link: Link) -> AllReduce | None:
    """None for one GPU. A size between two known ones costs what the next larger does.

    NVLink of another speed than the reference's is taken to scale the bus bandwidth (an assumption). Two cards that
    cannot read each other's memory pay for vLLM's own all-reduce, which needs that; that their bytes also go through
    the host's memory is left out.
    """
    if tp == 1:
        return None
    size = 2 if tp == 2 else 4 if tp <= 4 else 8
    cost = ALL_REDUCE[link][size]
    if link == "nvswitch" and gpu.nvlink_gb_per_s is not None:
        return AllReduce(cost.start_us, cost.bus_gb_per_s * gpu.nvlink_gb_per_s / NVSWITCH_REFERENCE_GB_PER_S)
    if link == "nvlink_pairs" and size == 2 and gpu.nvlink_gb_per_s is not None:
        return AllReduce(cost.start_us, cost.bus_gb_per_s * gpu.nvlink_gb_per_s / NVLINK_PAIR_REFERENCE_GB_PER_S)
    if size == 2 and not gpu.peer_to_peer:
        return AllReduce(cost.start_us + NO_CUSTOM_START_US, cost.bus_gb_per_s)
    return cost
