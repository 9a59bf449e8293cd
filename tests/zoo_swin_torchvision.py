"""Swin as torchvision writes it, whose functions fx sees as one call each; narrow, else complete."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_blocks import MLP, Permute, StochasticDepth
from zoo_swin import relative_positions


def _patch_merging_pad(x: Tensor) -> Tensor:
    H, W, _ = x.shape[-3:]
    x = F.pad(x, (0, 0, 0, W % 2, 0, H % 2))
    x0 = x[..., 0::2, 0::2, :]
    x1 = x[..., 1::2, 0::2, :]
    x2 = x[..., 0::2, 1::2, :]
    x3 = x[..., 1::2, 1::2, :]
    return torch.cat([x0, x1, x2, x3], -1)


def _get_relative_position_bias(table: Tensor, index: Tensor, window_size: list[int]) -> Tensor:
    N = window_size[0] * window_size[1]
    bias = table[index.flatten()].view(N, N, -1)
    return bias.permute(2, 0, 1).contiguous().unsqueeze(0)


def shifted_window_attention(
    input: Tensor,
    qkv: nn.Linear | Any,
    proj: nn.Linear | Any,
    relative_position_bias: Tensor,
    window_size: list[int],
    num_heads: int,
    shift_size: list[int],
) -> Tensor:
    B, H, W, C = input.shape
    x = F.pad(input, (0, 0, 0, (-W) % window_size[1], 0, (-H) % window_size[0]))
    _, pad_H, pad_W, _ = x.shape
    shift_size = [0 if window_size[i] >= size else shift_size[i] for i, size in enumerate((pad_H, pad_W))]
    if sum(shift_size) > 0:
        x = torch.roll(x, shifts=(-shift_size[0], -shift_size[1]), dims=(1, 2))
    windows = (pad_H // window_size[0]) * (pad_W // window_size[1])
    x = x.view(B, pad_H // window_size[0], window_size[0], pad_W // window_size[1], window_size[1], C)
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(B * windows, window_size[0] * window_size[1], C)
    q, k, v = (
        F.linear(x, qkv.weight, qkv.bias).reshape(*x.shape[:2], 3, num_heads, C // num_heads).permute(2, 0, 3, 1, 4)
    )
    q = q * (C // num_heads) ** -0.5
    attn = q.matmul(k.transpose(-2, -1))
    attn = attn + relative_position_bias
    if sum(shift_size) > 0:
        mask = x.new_zeros((pad_H, pad_W))
        count = 0
        for h in ((0, -window_size[0]), (-window_size[0], -shift_size[0]), (-shift_size[0], None)):
            for w in ((0, -window_size[1]), (-window_size[1], -shift_size[1]), (-shift_size[1], None)):
                mask[h[0] : h[1], w[0] : w[1]] = count
                count += 1
        mask = mask.view(pad_H // window_size[0], window_size[0], pad_W // window_size[1], window_size[1])
        mask = mask.permute(0, 2, 1, 3).reshape(windows, window_size[0] * window_size[1])
        mask = mask.unsqueeze(1) - mask.unsqueeze(2)
        mask = mask.masked_fill(mask != 0, -100.0).masked_fill(mask == 0, 0.0)
        attn = attn.view(x.size(0) // windows, windows, num_heads, x.size(1), x.size(1))
        attn = attn + mask.unsqueeze(1).unsqueeze(0)
        attn = attn.view(-1, num_heads, x.size(1), x.size(1))
    attn = F.softmax(attn, dim=-1)
    x = attn.matmul(v).transpose(1, 2).reshape(x.size(0), x.size(1), C)
    x = F.linear(x, proj.weight, proj.bias)
    x = x.view(B, pad_H // window_size[0], pad_W // window_size[1], window_size[0], window_size[1], C)
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(B, pad_H, pad_W, C)
    if sum(shift_size) > 0:
        x = torch.roll(x, shifts=(shift_size[0], shift_size[1]), dims=(1, 2))
    return x[:, :H, :W, :].contiguous()


for _name in ("_patch_merging_pad", "_get_relative_position_bias", "shifted_window_attention"):
    torch.fx.wrap(_name)  # as torchvision does: fx then sees one call of each


class ShiftedWindowAttention(nn.Module):
    relative_position_index: Tensor

    def __init__(self, dim: int, window_size: list[int], shift_size: list[int], num_heads: int) -> None:
        super().__init__()
        self.window_size, self.shift_size, self.num_heads = window_size, shift_size, num_heads
        self.qkv, self.proj = nn.Linear(dim, dim * 3), nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size[0] - 1) ** 2, num_heads))
        self.register_buffer("relative_position_index", relative_positions(window_size[0]).flatten())

    def get_relative_position_bias(self) -> Tensor:
        return _get_relative_position_bias(
            self.relative_position_bias_table, self.relative_position_index, self.window_size
        )

    def forward(self, x: Tensor) -> Tensor:
        bias = self.get_relative_position_bias()
        return shifted_window_attention(
            x, self.qkv, self.proj, bias, self.window_size, self.num_heads, shift_size=self.shift_size
        )


class TorchvisionPatchMerging(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        x = _patch_merging_pad(x)
        x = self.norm(x)
        return self.reduction(x)


class TorchvisionSwinBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int, window_size: list[int], shift_size: list[int]) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-5)
        self.norm1, self.norm2 = norm(dim), norm(dim)
        self.attn = ShiftedWindowAttention(dim, window_size, shift_size, num_heads)
        self.stochastic_depth = StochasticDepth(0.1, "row")
        self.mlp = MLP(dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.stochastic_depth(self.attn(self.norm1(x)))
        return x + self.stochastic_depth(self.mlp(self.norm2(x)))


class TorchvisionSwin(nn.Module):
    def __init__(self, dim: int = 12, classes: int = 10) -> None:
        super().__init__()
        embed = nn.Sequential(nn.Conv2d(3, dim, 4, 4), Permute([0, 2, 3, 1]), nn.LayerNorm(dim, eps=1e-5))
        self.features = nn.Sequential(
            embed,
            nn.Sequential(TorchvisionSwinBlock(dim, 2, [4, 4], [0, 0]), TorchvisionSwinBlock(dim, 2, [4, 4], [2, 2])),
            TorchvisionPatchMerging(dim),
            nn.Sequential(TorchvisionSwinBlock(2 * dim, 3, [4, 4], [0, 0])),
        )
        self.norm = nn.LayerNorm(2 * dim, eps=1e-5)
        self.permute = Permute([0, 3, 1, 2])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.head = nn.Linear(2 * dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.norm(x)
        x = self.permute(x)
        x = self.avgpool(x)
        x = self.flatten(x)
        return self.head(x)
