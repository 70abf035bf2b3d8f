"""Attention with one linear layer per projection.

open_clip keeps the query, key and value projections of its vision transformers in one matrix
(``nn.MultiheadAttention``).  The paper adapts Q, K, V and O one by one (Appendix D.3), and an
adapter on the fused matrix would share one A among three projections and lose its dropout.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trap2.runtime.errors import Trap2Error


class SeparateAttention(nn.Module):
    """Multi-head attention with ``q_proj``, ``k_proj``, ``v_proj`` and ``out_proj`` linear layers.

    The same function as the ``nn.MultiheadAttention`` that it is made from, with its call
    signature as far as open_clip uses it.

    Args:
        width: number of features of queries, keys, values and output.
        heads: number of heads; divides ``width``.
        bias: whether the four projections have a bias.
        dropout: probability of dropping an attention weight in training, in [0, 1).
        batch_first: whether tensors are (batch, tokens, width) or (tokens, batch, width).
    """

    def __init__(
        self, width: int, heads: int, *, bias: bool, dropout: float, batch_first: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.out_proj = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Attend.

        Args:
            query: (batch, Lq, width), or (Lq, batch, width) where not ``batch_first``.
            key: likewise, with Lk tokens.
            value: likewise, with Lk tokens.
            need_weights: must be false; the attention weights are never formed.
            attn_mask: (Lq, Lk) or (batch · heads, Lq, Lk); boolean, true where attention is
                *forbidden*, or added to the scores.

        Returns:
            The output, shaped like ``query``, and None in the place of the weights.

        Raises:
            ValueError: ``need_weights`` is true.
        """
        if need_weights:
            raise ValueError(
                "need_weights=True: separate attention never forms the attention weights; "
                "call it with need_weights=False"
            )
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        out = functional.scaled_dot_product_attention(
            self._split(self.q_proj(query)),
            self._split(self.k_proj(key)),
            self._split(self.v_proj(value)),
            attn_mask=self._mask(attn_mask, batch=query.shape[0]),
            dropout_p=self.dropout if self.training else 0.0,
        )
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        return (out if self.batch_first else out.transpose(0, 1)), None

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, width) → (batch, heads, tokens, width / heads)."""
        found: torch.Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return found

    def _mask(self, mask: torch.Tensor | None, batch: int) -> torch.Tensor | None:
        if mask is None:
            return None
        if mask.ndim == 3:
            mask = mask.unflatten(0, (batch, self.heads))
        # scaled_dot_product_attention marks what is *allowed*.
        return ~mask if mask.dtype == torch.bool else mask


def separate_attention(tower: nn.Module) -> nn.Module:
    """Replace every ``nn.MultiheadAttention`` inside ``tower`` by a :class:`SeparateAttention`.

    Function, weights, data type, device, mode and ``requires_grad`` are kept; the layers are
    then named ``transformer.resblocks.0.attn.q_proj`` and so on.  A tower without fused
    attention (ConvNeXt) is left as it is.

    Args:
        tower: an open_clip vision tower; changed in place.

    Returns:
        The same tower.

    Raises:
        ValueError: an attention has extra key or value vectors, or keys of another width than
            its queries, which no backbone of the paper has.
    """
    fused = [
        (name, module)
        for name, module in tower.named_modules()
        if isinstance(module, nn.MultiheadAttention)
    ]
    for name, module in fused:
        tower.set_submodule(name, _separate(name, module))
    return tower


def _separate(name: str, fused: nn.MultiheadAttention) -> SeparateAttention:
    if fused.in_proj_weight is None or fused.bias_k is not None or fused.add_zero_attn:
        raise Trap2Error(
            f"{name}: this attention has keys of another width than its queries or extra key "
            "vectors; only plain self-attention can be separated into q, k, v and out projections"
        )
    weight = fused.in_proj_weight
    # Built on the meta device: every parameter is replaced by the fused module's.
    with torch.device("meta"):
        separate = SeparateAttention(
            fused.embed_dim,
            fused.num_heads,
            bias=fused.in_proj_bias is not None,
            dropout=fused.dropout,
            batch_first=fused.batch_first,
        )
    layers = (separate.q_proj, separate.k_proj, separate.v_proj)
    for layer, part in zip(layers, weight.detach().chunk(3), strict=True):
        layer.weight = nn.Parameter(part.clone(), requires_grad=weight.requires_grad)
    if fused.in_proj_bias is not None:
        for layer, part in zip(layers, fused.in_proj_bias.detach().chunk(3), strict=True):
            layer.bias = nn.Parameter(part.clone(), requires_grad=weight.requires_grad)
    separate.out_proj.weight = fused.out_proj.weight
    separate.out_proj.bias = fused.out_proj.bias
    return separate.train(fused.training)
