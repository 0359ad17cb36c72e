"""Networks over time as data: their names, sizes and blocks, and what they can be used for. No torch here.

Sources: Hannun et al., "Cardiologist-level arrhythmia detection and classification in ambulatory electrocardiograms
using a deep neural network" (2019), the residual CNN; Wang, Peng and Zhang, "Using a stacked residual LSTM model for
sentiment intensity prediction" (2018); Dosovitskiy et al., "An image is worth 16x16 words" (2021), the transformer.
The defaults are the sizes of Lee, Jo and Kwon (2022), where it gives any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Final

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.settings_reading import BELOW_ONE, WHERE, check_number, check_whole, refuse_unknown


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What all networks have: `units`, the pieces that blocks are made of, 1 or more, and dropout, in [0, 1).

    Raises:
        UsageError: a value is outside its range.

    """

    network: ClassVar[str]  # its name in sweep files
    sizes: ClassVar[Mapping[str, int]] = {"units": 1}  # the whole numbers, and the least of each
    units: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        where = f"the network {self.network}"
        for name, least in self.sizes.items():
            check_whole(name, getattr(self, name), where, least=least)
        check_number("dropout", self.dropout, BELOW_ONE, where)

    def to_mapping(self) -> dict[str, Any]:
        """Return what `network_spec` reads, with every key."""
        return {"network": self.network, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(NetworkSpec):
    """The residual CNN: a stem, and units of two convolutions, every second one with stride 2.

    filters: of the stem and the first units; twice as many after every `widen_every` units. kernel: samples of each
    convolution.
    """

    network: ClassVar[str] = "resnet"
    sizes: ClassVar[Mapping[str, int]] = {"units": 1, "filters": 1, "kernel": 1, "widen_every": 1}
    units: int = 16
    filters: int = 32
    kernel: int = 16
    widen_every: int = 4


@dataclass(frozen=True, kw_only=True)
class LstmSpec(NetworkSpec):
    """Stacked LSTM layers of `hidden` units, each with its input added to its output."""

    network: ClassVar[str] = "lstm"
    sizes: ClassVar[Mapping[str, int]] = {"units": 1, "hidden": 1}
    units: int = 3
    hidden: int = 256


@dataclass(frozen=True, kw_only=True)
class TransformerSpec(NetworkSpec):
    """Encoder blocks of attention and a feed-forward layer.

    patch: time steps of a token, without overlap; 0: a time step is a token. causal: a token sees none after it;
    where there is one answer for a record, the class token still sees all, and no other token sees it.
    """

    network: ClassVar[str] = "transformer"
    sizes: ClassVar[Mapping[str, int]] = {"units": 1, "width": 1, "heads": 1, "feed_forward": 1, "patch": 0}
    units: int = 8
    width: int = 128
    heads: int = 8
    feed_forward: int = 128
    patch: int = 0
    causal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.causal, bool):
            raise UsageError(
                f"causal in the network {self.network} is {self.causal!r}", "It must be true or false."
            )
        if self.width % self.heads:
            raise UsageError(
                f"a transformer of width {self.width} cannot be divided among {self.heads} heads",
                f"heads must divide width: {_divisors(self.width)}.",
            )


_SPECS: Final[Mapping[str, type[NetworkSpec]]] = {
    each.network: each for each in (ResNetSpec, LstmSpec, TransformerSpec)
}


def network_spec(mapping: Mapping[str, Any], where: str = WHERE) -> NetworkSpec:
    """Read a network: {network: resnet | lstm | transformer, ...}; what is left out has its default.

    Raises:
        UnknownNameError: no such network, or an unknown key; the known ones are listed.
        UsageError: a value is outside its range.

    """
    name = mapping.get("network")
    if not isinstance(name, str) or name not in _SPECS:
        raise UnknownNameError("network", name, tuple(_SPECS), where)
    kind = _SPECS[name]
    own = {key: value for key, value in mapping.items() if key != "network"}
    refuse_unknown(own, [each.name for each in fields(kind)], f"the network {name} in {where}")
    return kind(**own)


def check_network(spec: NetworkSpec, *, inputs: int, steps: int | None, per_step: bool) -> None:
    """Refuse a network for records [steps, inputs]; steps None: they differ in length.

    per_step: one answer for each time step, which must not see what comes after it; otherwise one for a record.

    Raises:
        UsageError: what does not fit, and what would.

    """
    check_whole("inputs", inputs, "the data")
    if steps is not None:
        check_whole("steps", steps, "the data")
    if isinstance(spec, ResNetSpec):
        _check_resnet(spec, steps=steps, per_step=per_step)
    if isinstance(spec, TransformerSpec):
        _check_transformer(spec, steps=steps, per_step=per_step)


def _check_resnet(spec: ResNetSpec, *, steps: int | None, per_step: bool) -> None:
    if per_step:
        raise UsageError(
            "a resnet cannot answer for every hour: its convolutions would see the hours to come",
            "Use network: lstm, or a transformer with causal: true.",
        )
    if steps is None:
        raise UsageError(
            "a resnet takes records of one length: padding would reach its convolutions and batch norms",
            "Use network: lstm, or a transformer.",
        )
    least = 1 << (spec.units // 2)  # so that the last stride of 2 still has two steps to choose from
    if steps < least:
        raise UsageError(
            f"{steps} time steps are too few for a resnet of {spec.units} units, half of them of stride 2",
            f"It needs {least} or more: take longer records, or fewer units.",
        )


def _check_transformer(spec: TransformerSpec, *, steps: int | None, per_step: bool) -> None:
    if per_step and not spec.causal:
        raise UsageError(
            "a transformer that answers for every hour must not see the hours to come", "Set causal: true."
        )
    if per_step and spec.patch:
        raise UsageError("a transformer that answers for every hour takes rows for tokens", "Set patch: 0.")
    if spec.patch and (steps is None or steps % spec.patch):
        length = "records of different length" if steps is None else f"{steps} time steps"
        raise UsageError(
            f"patches of {spec.patch} do not divide {length}",
            "patch must divide the number of steps (of an ECG window_s * rate_hz); 0 takes every step for a token.",
        )


def check_blocks(spec: NetworkSpec, blocks: int) -> None:
    """Refuse a number of blocks that does not divide the network's units.

    Raises:
        UsageError: naming those that do.

    """
    check_division(spec.units, blocks, f"the network {spec.network}")


def check_division(units: int, blocks: int, what: str) -> None:
    """Refuse blocks that do not divide units; `what` has them. Raises as `check_blocks` does."""
    if blocks < 1 or units % blocks:
        raise UsageError(
            f"{blocks} blocks do not divide the {units} units of {what}",
            f"Possible numbers of blocks: {_divisors(units)}.",
        )


def halved(steps: int, times: int) -> int:
    """Return the length after so many strides of 2 with "same" padding: ceil(steps / 2^times)."""
    return -(-steps // (1 << times))


def _divisors(number: int) -> str:
    return ", ".join(str(each) for each in range(1, number + 1) if number % each == 0)
