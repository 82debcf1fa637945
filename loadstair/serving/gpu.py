"""What data sheets say of a GPU, what it draws and what it costs."""

from dataclasses import dataclass
from typing import Literal

Link = Literal["nvswitch", "nvlink_pairs", "pcie5", "pcie4"]
"""How the GPUs of a machine reach each other. nvlink_pairs: a bridge between two cards, PCIe beyond the pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    name: str
    memory_mib: int
    """As nvidia-smi shows it: less than the data sheet says."""
    bandwidth_gb_per_s: float
    bf16_tflop_per_s: float
    """Dense, as all FLOP/s here."""
    fp8_tflop_per_s: float | None
    """None: the GPU has no FP8 arithmetic."""
    link: Link
    """By default: an optional bridge is taken as not fitted."""
    nvlink_gb_per_s: float | None
    """Both directions together; None without NVLink."""
    peer_to_peer: bool
    """Whether two of them read each other's memory over PCIe: consumer cards' drivers do not let them."""
    pcie: str
    tdp_w: float
    usd_per_hour_low: float
    usd_per_hour_high: float
    """Rent. It differs by 2.5 to 10 times between offers: a price is the user's to give, this is where to begin."""
    usd_per_hour_as_of: str
    """Year and month."""
    usd_per_hour_source: str
    purchase_usd_low: float
    purchase_usd_high: float
    purchase_source: str
    unverified: tuple[str, ...]
    """Names of fields that were checked against no document."""
    source: str
    """Of the specification."""
    note: str | None
