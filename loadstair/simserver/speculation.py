"""Speculative decoding: what a step's drafts cost, and how many of them the model accepts."""

from dataclasses import dataclass

from loadstair.serving.steptime import StepModel, StepShape

MASK = (1 << 64) - 1
DRAFT_COST = 0.04
"""A draft head of one layer with the target's output matrix (as EAGLE's), next to 64 layers of a 32B model: 1/64 of the
layers and 2.4 % of the weights. Computed from sizes, not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    tokens: int
    """Draft tokens that every decode step verifies."""
    acceptance: float
    """Probability that a draft token is accepted, given that those before it in the step were. The share of all drafts
    that vLLM's counters tell is lower: a refusal takes the rest of its step's drafts with it."""
    cost: float = DRAFT_COST
    """Time to draft one token for every row, as a share of the model's own decode step for these rows."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError("num_speculative_tokens must be at least 1")
        if not 0 <= self.acceptance <= 1:
            raise ValueError("acceptance_rate must lie in [0, 1]")
        if self.cost < 0:
            raise ValueError("draft_cost must be at least 0")

    def accepted(self, drafts: int, *, sequence: int, position: int) -> int:
        """How many of a step's drafts are accepted: drawn from the seed, the sequence's number and its output so far,
        so that neither the batch nor the order of events changes it."""
        chance = uniform(self.seed, sequence, position)
        accepted = 0
        remaining = self.acceptance
        while accepted < drafts and chance < remaining:
            accepted += 1
            remaining *= self.acceptance
        return accepted

    def draft_s(self, step_model: StepModel, *, rows: int, context_tokens: int) -> float:
        """Time that a step spends on drafting, for `rows` sequences with so many tokens of context together."""
        if rows == 0:
            return 0.0
        shape = StepShape(decode_rows=rows, decode_context_tokens=context_tokens, sampled_rows=rows)
        return self.tokens * self.cost * step_model.gpu_s(shape)


def uniform(seed: int, sequence: int, position: int) -> float:
    """In [0, 1), from its arguments alone. A `random.Random` for each draw would take ten times as long."""
    mixed = _mixed(_mixed(_mixed(seed) ^ sequence) ^ position)
    return (mixed >> 11) / (1 << 53)


def _mixed(value: int) -> int:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
