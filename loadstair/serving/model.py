"""The shape of a model, and what follows from it."""

from dataclasses import dataclass

from loadstair.serving.formats import WeightFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A dense decoder-only transformer with a gated feed-forward part."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied_embeddings: bool
    """The output matrix is the embedding matrix: stored once."""
    qkv_bias: bool
    qk_norm: bool
    norms_per_layer: int
    """Of the hidden state's width: two, four in Gemma."""
    sliding_window: int | None
    """Tokens that a local layer attends to; None where all layers are global."""
    local_layers: int
    extra_parameters: int
    """Beside the decoder: a vision tower."""
    context_tokens_max: int
    float16_refused: bool
    """vLLM does not serve it with `--dtype half`: it would overflow."""
    stored_as: WeightFormat
    """What the checkpoint of this name holds, where its configuration says so; else BF16."""
    source: str

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.name}: {self.kv_heads} KV heads do not divide {self.heads} attention heads")
        if not 0 <= self.local_layers <= self.layers or (self.local_layers > 0 and self.sliding_window is None):
            raise ValueError(f"{self.name}: {self.local_layers} local layers of {self.layers} need a sliding window")

    @property
    def global_layers(self) -> int:
        return self.layers - self.local_layers

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Of keys, and again of values."""
        return self.kv_heads * self.head_dim

    @property
    def linear_parameters(self) -> int:
        """Query, key, value and output projections, and the feed-forward part: what quantising makes smaller."""
        attention = 2 * self.hidden * (self.query_width + self.kv_width)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def embedding_parameters(self) -> int:
        """Embeddings, and the output matrix where it is one of its own."""
        return self.vocab * self.hidden * (1 if self.tied_embeddings else 2)

    @property
    def small_parameters(self) -> int:
        """Norms and biases."""
        layer = self.norms_per_layer * self.hidden
        if self.qk_norm:
            layer += 2 * self.head_dim
        if self.qkv_bias:
            layer += self.query_width + 2 * self.kv_width
        return self.layers * layer + self.hidden

    @property
    def parameters(self) -> int:
        return self.linear_parameters + self.embedding_parameters + self.small_parameters + self.extra_parameters
