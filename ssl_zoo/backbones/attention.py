"""Self-attention with fewer copies than torch's module, on the same weights."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` as self-attention over tokens `(N, L, D)`, without dropout and masks.

    Uses one matrix product for queries, keys and values and does not transpose the batch, as timm's
    vision transformers do. Parameters and their names are those of torch's module.
    """

    def forward(
        self, query: Tensor, *_: Any, bias: Tensor | None = None, **__: Any
    ) -> tuple[Tensor, None]:
        """Returns the attention output `(N, L, D)`, and None in place of the attention weights.

        Args:
            query: tokens; torch's module gets them as keys and values, too.
            bias: added to the scaled logits, `(heads, L, L)`.
        """
        n, length, width = query.shape
        made = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
        heads = made.view(n, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = heads.unbind(0)  # (N, H, L, D / H)
        added = None if bias is None else bias.to(queries.dtype)
        found = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=added)
        mixed: Tensor = self.out_proj(found.transpose(1, 2).reshape(n, length, width))
        return mixed, None


def quicken(module: nn.Module) -> nn.Module:
    """Replaces all self-attention of a network by `SelfAttention`, in place; must be batch-first."""
    for layer in module.modules():
        if type(layer) is nn.MultiheadAttention:
            assert layer.batch_first
            assert not layer.dropout
            layer.__class__ = SelfAttention
    return module
