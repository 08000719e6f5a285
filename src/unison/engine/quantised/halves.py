"""What stands in a network for products of bfloat16? Layers that round their vectors to it.

The stream between the layers, norms, attention and noise levels stay float32; products of
bfloat16 are summed in float32 and rounded once. CPUs with AVX512-BF16 or AMX multiply bfloat16 at
twice the pace of float32 or more; the others convert, and are slower than float32.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Features = Float[Tensor, "*P K"]


class HalfLinear(nn.Module):
    """x W^T + b, all rounded to bfloat16. W cannot be trained; the state is a dense layer's."""

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Float[Tensor, "N K"],
        bias: Float[Tensor, " N"] | None = None,
        *,
        tied: bool = False,
    ) -> None:
        """Take a weight of any precision.

        Args:
            weight: Dense.
            bias: What is added.
            tied: The weight is another layer's and that one's state.
        """
        super().__init__()
        self.out_features, self.in_features = weight.shape
        kept = None if bias is None else bias.detach().bfloat16()
        self.register_buffer("weight", weight.detach().bfloat16(), persistent=not tied)
        self.register_buffer("bias", kept)

    def forward(self, x: Features) -> Float[Tensor, "*P N"]:
        """Return the map of every vector, in the dtype of x."""
        return self.narrow(x.to(self.weight.dtype)).to(x.dtype)

    def narrow(self, x: Features) -> Float[Tensor, "*P N"]:
        """Return the map of vectors that are of the weight's dtype, in that dtype."""
        return F.linear(x, self.weight, self.bias)


class HalfGelu(nn.Module):
    """An MLP of two maps round a GELU, tanh form, of bfloat16 throughout."""

    def __init__(self, up: HalfLinear, down: HalfLinear) -> None:
        super().__init__()
        self.up, self.down = up, down

    def forward(self, x: Features) -> Features:
        """Return the MLP of every position, in the dtype of x."""
        inner = self.up.narrow(x.to(self.up.weight.dtype))
        return self.down.narrow(F.gelu(inner, approximate="tanh")).to(x.dtype)


class HalfSwiGlu(nn.Module):
    """A gated MLP of two maps, of bfloat16 throughout."""

    def __init__(self, gate_up: HalfLinear, down: HalfLinear) -> None:
        super().__init__()
        self.gate_up, self.down = gate_up, down

    def forward(self, x: Features) -> Features:
        """Return the MLP of every position, in the dtype of x."""
        gate, up = self.gate_up.narrow(x.to(self.gate_up.weight.dtype)).chunk(2, dim=-1)
        return self.down.narrow(F.silu(gate) * up).to(x.dtype)
