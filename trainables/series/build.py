"""From a specification to a network; initial weights come from a generator alone."""

from __future__ import annotations

import torch

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.series import residual_cnn, residual_lstm, transformers
from kdsearch.trainables.series.networks import SeriesNetwork
from kdsearch.trainables.series.specs import (
    LstmSpec,
    NetworkSpec,
    ResNetSpec,
    TransformerSpec,
    check_network,
)
from kdsearch.trainables.settings_reading import check_whole


def build_network(
    spec: NetworkSpec,
    *,
    inputs: int,
    outputs: int,
    steps: int | None,
    per_step: bool,
    generator: torch.Generator,
    distillation: bool = False,
) -> SeriesNetwork:
    """Build a network for values [B, steps, inputs]; steps None: of any length. It is on the CPU, in training mode.

    per_step: logits [B, T, outputs], one for each time step that sees nothing after it; otherwise [B, outputs].
    distillation: with DeiT's distillation token. generator: of the CPU. torch's own one is left as it was.

    Raises:
        UsageError: the network cannot be used like this.

    """
    check_whole("outputs", outputs, "the data")
    check_network(spec, inputs=inputs, steps=steps, per_step=per_step)
    if distillation and not isinstance(spec, TransformerSpec):
        raise UsageError(f"the network {spec.network} has no tokens to distil with", "Use a transformer.")
    with torch.random.fork_rng(devices=[]):  # modules draw weights of their own, which are replaced
        match spec:
            case ResNetSpec():
                cnn = residual_cnn.ResidualCnn(spec, inputs=inputs, outputs=outputs)
                residual_cnn.initialise(cnn, generator)
                return cnn
            case LstmSpec():
                lstm = residual_lstm.ResidualLstm(spec, inputs=inputs, outputs=outputs, per_step=per_step)
                residual_lstm.initialise(lstm, generator)
                return lstm
            case TransformerSpec():
                transformer = transformers.Transformer(
                    spec,
                    inputs=inputs,
                    outputs=outputs,
                    steps=None if per_step else steps,
                    per_step=per_step,
                    distillation=distillation,
                )
                transformers.initialise(transformer, generator)
                return transformer
    raise UsageError(f"no network is built from {type(spec).__name__}")
