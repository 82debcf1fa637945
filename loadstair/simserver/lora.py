"""LoRA adapters: how many different ones a step may serve, and what they add to it."""

from dataclasses import dataclass

KERNELS_PER_LAYER = 8
"""Two (down to the adapter's rank and up again) for each of the four linear operations of a layer."""
KERNEL_S = 4e-6
"""Of small matrices the start of a kernel is nearly all its time. Unverified: a step of 64 layers gets 2 ms longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraLimit:
    max_loras: int
    """Different adapters in one step."""
    step_s: float
    """By how much a step with any adapter lasts longer; how many there are, and their ranks, change nothing."""

    def __post_init__(self) -> None:
        if self.max_loras < 1:
            raise ValueError("max_loras must be at least 1")
        if self.step_s < 0:
            raise ValueError("the time that adapters add to a step must be at least 0")

    def admits(self, adapter: str | None, scheduled: set[str]) -> bool:
        """Whether a step that serves the `scheduled` adapters may take in a request for this one."""
        return adapter is None or adapter in scheduled or len(scheduled) < self.max_loras


def lora_step_s(layers: int) -> float:
    """What adapters add to a step of a model with so many layers."""
    return layers * KERNELS_PER_LAYER * KERNEL_S
