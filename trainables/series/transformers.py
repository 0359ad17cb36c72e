"""Transformers over time: on patches of a signal, and on the rows of a record by the hour.

Units are the encoder blocks of Dosovitskiy et al. (2021): x + attention(norm(x)), then x + feed-forward(norm(x)) with
GELU. A network with one answer for a record has a class token. One with an answer an hour answers at every row, which
sees rows up to its own. For DeiT (Touvron et al., 2021) a distillation token stands beside the class token; by the
hour every row has one of its own (one learned vector and the row's position), and row and distillation token of an
hour both see rows and distillation tokens of all hours up to it.

Positions are learned where records have one length, and sines and cosines (Vaswani et al., 2017) where they differ.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdsearch.trainables.series.dropout import Dropout
from kdsearch.trainables.series.networks import Features, SeriesNetwork, without_padding
from kdsearch.trainables.series.specs import TransformerSpec

_DEVIATION = 0.02  # of initial weights, as in DeiT's code
_CUT = 2.0  # initial weights lie within so many deviations


class EncoderBlock(nn.Module):
    """Attention and feed-forward, each behind its norm and beside a shortcut; [B, S, D] to [B, S, D]."""

    def __init__(self, spec: TransformerSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(spec.width), nn.LayerNorm(spec.width)
        self.projection = nn.Linear(spec.width, 3 * spec.width)  # to queries, keys and values
        self.joined = nn.Linear(spec.width, spec.width)
        self.widen = nn.Linear(spec.width, spec.feed_forward)
        self.narrow = nn.Linear(spec.feed_forward, spec.width)
        self.dropout = Dropout(spec.dropout)

    def forward(self, tokens: Tensor, seen: Tensor | None, *, causal: bool) -> Tensor:
        """Apply the block; seen: bool, true where a query may look at a key, of a shape that goes with [B, H, S, S].

        causal: a query looks at no later key; without `seen`.
        """
        query, key, value = self.projected(tokens)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=causal)
        tokens = tokens + self.dropout(self.joined(mixed.transpose(1, 2).flatten(2)))
        inner = self.dropout(functional.gelu(self.widen(self.norm_2(tokens))))
        result: Tensor = tokens + self.dropout(self.narrow(inner))
        return result

    def projected(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, [B, H, S, D / H] each."""
        parts = self.projection(self.norm_1(tokens)).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return query, key, value

    def weights(self, tokens: Tensor, unseen: Tensor | None) -> Tensor:
        """Return the attention of tokens [B, S, D] among themselves, [B, H, S, S]; unseen: true at hidden keys."""
        query, key, _ = self.projected(tokens)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        if unseen is not None:  # the least number, not -inf: a record of padding alone is no NaN
            scores = scores.masked_fill(unseen, torch.finfo(scores.dtype).min)
        return scores.softmax(3)


class Transformer(SeriesNetwork):
    """Encoder blocks on tokens; see the module's text.

    `beside` holds the class and the distillation token, in this order: [B, 1 or 2, D]; per step the distillation
    tokens of the hours: [B, T, D]. steps: of every record; None: records differ in length.
    """

    has_attention = True

    def __init__(
        self,
        spec: TransformerSpec,
        *,
        inputs: int,
        outputs: int,
        steps: int | None,
        per_step: bool,
        distillation: bool,
    ) -> None:
        super().__init__()
        self.units, self.per_step, self.distillation = spec.units, per_step, distillation
        self.depths = (spec.width,) * spec.units
        self._patch, self._causal, self._steps = max(spec.patch, 1), spec.causal, steps
        self.embedding = nn.Linear(inputs * self._patch, spec.width)
        self.positions: nn.Parameter | None = None
        if steps is not None:
            self.positions = nn.Parameter(torch.empty(steps // self._patch, spec.width))
        self.tokens: nn.Parameter | None = None
        beside = int(not per_step) + int(distillation)
        if beside:
            self.tokens = nn.Parameter(torch.empty(beside, spec.width))
        self.blocks = nn.ModuleList(EncoderBlock(spec) for _ in range(spec.units))
        self.dropout = Dropout(spec.dropout)
        self.norm = nn.LayerNorm(spec.width)
        self.head = nn.Linear(spec.width, outputs)
        self.distillation_head = nn.Linear(spec.width, outputs) if distillation else None

    def begin(self, values: Tensor, real: Tensor | None) -> Features:
        """Turn patches or rows into tokens, with their positions."""
        self._check(values.shape[1], real)
        batch, steps, inputs = values.shape
        patches = without_padding(values, real).reshape(batch, steps // self._patch, self._patch * inputs)
        tokens = self.embedding(patches)
        places = sinusoidal(tokens) if self.positions is None else self.positions
        time = self.dropout(tokens + places)
        if self.tokens is None:
            return Features(time)
        beside = self.tokens + places if self.per_step else self.tokens
        return Features(time, self.dropout(beside.expand(batch, -1, -1)))

    def unit(self, index: int, features: Features, real: Tensor | None) -> Features:
        """Apply an encoder block to all tokens."""
        block, time, beside = self.blocks[index], features.time, features.beside
        if beside is None:  # rows by the hour: padding stands behind, where causal attention does not look
            return Features(block(time, None, causal=True))
        extra = beside.shape[1]
        seen = self._seen(time.shape[1], extra, real, time.device)
        tokens = block(torch.cat([beside, time], 1), seen, causal=False)
        beside, time = tokens.split([extra, time.shape[1]], 1)
        return Features(time, beside)

    def finish(self, features: Features, real: Tensor | None) -> Tensor:
        """Return logits [B, C] or [B, T, C]; with distillation tokens the mean of both heads' (Touvron et al.)."""
        if self.distillation:
            both = self.finish_both(features, real)
            return (both[0] + both[1]) / 2
        found: Tensor = self.head(self.norm(self._answering(features)))
        return found

    def finish_both(self, features: Features, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the logits of class token (or rows) and distillation token (or tokens)."""
        if self.distillation_head is None or features.beside is None:
            return super().finish_both(features, real)
        taught = features.beside if self.per_step else features.beside[:, 1]
        return self.head(self.norm(self._answering(features))), self.distillation_head(self.norm(taught))

    def lengths(self, steps: int) -> tuple[int, ...]:
        """Return T after each unit: always a token for each patch or row."""
        return (steps // self._patch,) * self.units

    @torch.no_grad()
    def attention(self, values: Tensor, real: Tensor | None = None) -> list[Tensor]:
        """Return each unit's attention among time tokens, [B, H, T, T], without derivatives.

        It is the softmax over time tokens alone, which equals leaving out the columns of the other ones and making
        rows add up to 1 again.
        """
        features = self.begin(values, real)
        unseen = self._unseen(features.time, real)
        found = []
        for index in range(self.units):
            found.append(cast(EncoderBlock, self.blocks[index]).weights(features.time, unseen))
            if index + 1 < self.units:
                features = self.unit(index, features, real)
        return found

    def _answering(self, features: Features) -> Tensor:
        if self.per_step or features.beside is None:
            return features.time
        return features.beside[:, 0]

    def _check(self, steps: int, real: Tensor | None) -> None:
        if self._steps is not None and steps != self._steps:
            raise ValueError(f"records of {steps} time steps; this network was built for {self._steps}")
        if self._patch > 1 and real is not None:
            raise ValueError("a transformer on patches takes records of one length, without padding")

    def _seen(self, steps: int, extra: int, real: Tensor | None, device: torch.device) -> Tensor | None:
        """Return who may look at whom, of the tokens beside and then those on the time axis; None: all at all.

        [S, S], [B, 1, 1, S] or [B, 1, S, S]. Each token has a place in time, the class and distillation token of a
        record behind its last step: they see all of it, so that no causal token may look at them.
        """
        keys = None if real is None or self.per_step else functional.pad(real, (extra, 0), value=True)
        if not self._causal:
            return None if keys is None else keys[:, None, None, :]
        places = torch.arange(steps, device=device)
        places = torch.cat([places if self.per_step else places.new_full((extra,), steps), places])
        seen = places[:, None] >= places[None, :]
        return seen if keys is None else seen & keys[:, None, None, :]

    def _unseen(self, time: Tensor, real: Tensor | None) -> Tensor | None:
        """Return which keys on the time axis are hidden: [T, T], [B, 1, 1, T] or None."""
        if self._causal:
            count = time.shape[1]
            return torch.ones(count, count, dtype=torch.bool, device=time.device).triu(1)
        return None if real is None else ~real[:, None, None, :]


def sinusoidal(tokens: Tensor) -> Tensor:
    """Return the positions [T, D] of tokens [B, T, D] (Vaswani et al., 2017, section 3.5).

    Column 2i holds sin(t / 10000^(2i / D)), column 2i + 1 the cosine of the same.
    """
    _, steps, width = tokens.shape
    places = torch.arange(max(steps, width), dtype=torch.float64, device=tokens.device)
    rates = 10_000.0 ** (-places[:width:2] / width)
    angles = places[:steps, None] * rates
    both = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
    return both[:, :width].to(tokens.dtype)


def initialise(network: Transformer, generator: torch.Generator) -> None:
    """Draw weights: normal of deviation 0.02, cut at two deviations; biases are zero.

    The embedding has the deviation 1 / sqrt(inputs), as in the code of Dosovitskiy et al.: standardised values become
    tokens of the positions' size, which they would otherwise drown in.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            _draw(module.weight, _DEVIATION, generator)
            nn.init.zeros_(module.bias)
    _draw(network.embedding.weight, network.embedding.in_features**-0.5, generator)
    for parameter in (network.positions, network.tokens):
        if parameter is not None:
            _draw(parameter, _DEVIATION, generator)


def _draw(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    nn.init.trunc_normal_(tensor, std=deviation, a=-_CUT * deviation, b=_CUT * deviation, generator=generator)
