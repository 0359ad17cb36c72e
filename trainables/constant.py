"""A trainable that trains nothing: its error is a hash of the configuration and the seed.

It measures and tests the path around a trial (searcher, Ray, database) at no cost of its own, and stands in for
slow trainables in tests: a member can be told to fail, diverge, sleep or end its process.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from kdsearch.spaces import DesignSpace
from kdsearch.spaces.errors import KdsearchError, UsageError
from kdsearch.trainables.metaparameters.declaration import Metaparameter
from kdsearch.trainables.protocol import Configuration, EpochReport, Member, MemberState, Pretraining
from kdsearch.trainables.seeds import derive_seed
from kdsearch.trainables.small_files import write_whole

DEFAULTS: Mapping[str, object] = {
    "epochs": 1,
    "epoch_s": 0.0,
    "spread": 0.0,
    "noise": 10.0,
    "curve": 0.0,
    "wobble": 0.0,
    "effects": {},
    "fail": [],
    "diverge": [],
    "kill": [],
    "nan": [],
    "hang": [],
    "freeze": [],
    "leak": [],
    "at": 1,
    "marker": "",
    "target": "",
    "metaparameters": {},
}


class ConstantPack:
    """Members whose error is `50 + effects + noise`, the same at every epoch but for `curve` and `wobble`.

    settings: `epochs`; `epoch_s` (seconds slept an epoch and pack); `spread` (share by which that is longer or shorter,
    as the trial's seed says; a pack takes as long as its longest member); `noise` (width of the uniform noise, per
    cent); `curve` (per cent that epoch n adds divided by n); `wobble` (width of further noise, anew in each epoch);
    `effects` ({"parameter=value": per cent}); `metaparameters` ({name: [low, high]}: declared as differentiable, they
    stay where they start); `fail`, `diverge`, `nan`, `kill`, `hang`, `freeze`, `leak` (numbers of members that raise,
    diverge, report NaN from then on, end their worker's process, sleep for ever, stop the process, or take memory
    without end); `at` (the epoch in which they do); `marker` (a folder: a member misbehaves once only, but for
    `diverge` and `nan`, and leaves a file there).
    """

    def __init__(self, settings: Mapping[str, object], members: Sequence[Member]) -> None:
        self._settings = {**DEFAULTS, **settings}
        self._members = {member.number: member for member in members}
        self._epoch = {member.number: _resumed(member) for member in members}
        self._at = int(str(self._settings["at"]))

    @property
    def active(self) -> tuple[int, ...]:
        """Numbers of the members that still train."""
        return tuple(self._members)

    def run_epoch(self) -> list[EpochReport]:
        """One epoch of every member."""
        lengths_s = [epoch_length_s(self._settings, member.seed) for member in self._members.values()]
        time.sleep(max(lengths_s, default=0.0))
        reports = []
        for number, member in list(self._members.items()):
            self._misbehave(number)
            self._epoch[number] += 1
            state = MemberState.RUNNING
            if number in _numbers(self._settings["diverge"]) and self._epoch[number] >= self._at:
                state = MemberState.DIVERGED
            elif self._epoch[number] >= int(str(self._settings["epochs"])):
                state = MemberState.COMPLETE
            metrics = self._metrics(member, diverged=state is MemberState.DIVERGED)
            if state is not MemberState.RUNNING:
                del self._members[number]
            reports.append(
                EpochReport(
                    number=number,
                    epoch=self._epoch[number],
                    state=state,
                    metrics=metrics,
                    message="told to diverge" if state is MemberState.DIVERGED else "",
                )
            )
        return reports

    def drop(self, number: int) -> None:
        """Take a member out."""
        self._members.pop(number, None)

    def save(self, number: int, path: Path) -> None:
        """Write the epoch reached."""
        write_whole(path, {"epoch": self._epoch[number]})

    def save_output(self, number: int, path: Path) -> None:
        """Write the error reached."""
        path.write_text(json.dumps({"number": number}), encoding="utf-8")

    def _metrics(self, member: Member, *, diverged: bool) -> dict[str, float]:
        """What the member's plan asks for; both parts have the same error."""
        error = float("nan") if diverged else self._error(member)
        metrics = {"seconds": 0.0}
        if member.plan.get("train_on") != "all":
            metrics["1/val_error"] = error
        if member.plan.get("evaluate"):
            metrics["1/test_error"] = error
        start = member.plan.get("optimiser", {}).get("start", {})
        for name in cast(Mapping[str, object], self._settings["metaparameters"]):
            value = start.get(name, member.configuration.get(name))
            if value is not None:
                metrics[f"meta.{name}"] = float(value)
        return metrics

    def _error(self, member: Member) -> float:
        effects = cast(Mapping[str, float], self._settings["effects"])
        shift = sum(
            float(effects.get(f"{name}={value}", 0.0)) for name, value in member.configuration.items()
        )
        epoch = self._epoch[member.number]
        noise, curve, wobble = (float(str(self._settings[name])) for name in ("noise", "curve", "wobble"))
        error = 50.0 + shift + (derive_seed(member.seed, "noise") / 2**63 - 0.5) * noise + curve / epoch
        if epoch >= self._at and member.number in _numbers(self._settings["nan"]):
            return float("nan")
        if wobble:
            error += (derive_seed(member.seed, "wobble", epoch) / 2**63 - 0.5) * wobble
        return min(100.0, max(0.0, error))

    def _misbehave(self, number: int) -> None:
        marker = str(self._settings["marker"])
        if self._epoch[number] + 1 != self._at:
            return
        for kind in ("fail", "kill", "hang", "freeze", "leak"):
            if number not in _numbers(self._settings[kind]):
                continue
            if marker:
                done = Path(marker) / f"{kind}-{number}"
                if done.exists():
                    continue
                done.touch()
            if kind == "kill":
                os._exit(1)
            if kind == "hang":
                time.sleep(10**9)
            if kind == "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
            if kind == "leak":
                _leak()
            raise KdsearchError(f"member {number} was told to fail")


def epoch_length_s(settings: Mapping[str, object], seed: int) -> float:
    """Seconds that each epoch of a trial takes: uniform in [1 - spread, 1 + spread) times `epoch_s`."""
    epoch_s, spread = (float(str(settings[name])) for name in ("epoch_s", "spread"))
    return epoch_s * (1.0 + spread * (derive_seed(seed, "length") / 2**62 - 1.0))


def _leak() -> None:
    """Take 64 MB at a time, for ever."""
    taken = []
    while True:
        taken.append(bytearray(os.urandom(1)) * 64_000_000)
        time.sleep(0.02)


def _resumed(member: Member) -> int:
    if member.checkpoint is None:
        return 0
    return int(json.loads(member.checkpoint.read_text(encoding="utf-8"))["epoch"])


def _numbers(value: object) -> Sequence[int]:
    return cast(Sequence[int], value)


class ConstantKind:
    """Registry entry."""

    name = "constant"

    def check(self, settings: Mapping[str, object], models: Sequence[str]) -> None:
        """Refuse unknown settings."""
        del models
        unknown = sorted(set(settings) - set(DEFAULTS))
        if unknown:
            raise UsageError(f"unknown key {unknown[0]!r} in trainable", f"Known: {', '.join(DEFAULTS)}.")
        spread = settings.get("spread", 0.0)
        if isinstance(spread, bool) or not isinstance(spread, int | float) or not 0.0 <= spread <= 1.0:
            raise UsageError(f"trainable.spread is {spread!r}", "Give a share between 0 and 1.")

    def check_plan(self, settings: Mapping[str, object], plan: Mapping[str, Any]) -> None:
        """Every plan can be carried out."""
        del settings, plan

    def content(self, settings: Mapping[str, object], data_root: Path | None) -> str:
        """There is no data."""
        del settings, data_root
        return ""

    def check_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """There is no data."""
        del settings, data_root
        return ()

    def find_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """There is no data."""
        return self.check_data(settings, data_root)

    def check_space(self, settings: Mapping[str, object], space: DesignSpace) -> None:
        """Any space will do."""
        del settings, space

    def metaparameters(
        self, settings: Mapping[str, object], configuration: Configuration
    ) -> Sequence[Metaparameter]:
        """Those that the settings name."""
        del configuration
        named = cast(Mapping[str, Sequence[float]], settings.get("metaparameters", {}))
        return tuple(Metaparameter(name=name, low=low, high=high) for name, (low, high) in named.items())

    def pretraining(self, settings: Mapping[str, object], models: Sequence[str]) -> Sequence[Pretraining]:
        """Nothing is needed."""
        del settings, models
        return ()

    def inputs(self, settings: Mapping[str, object], configuration: Configuration) -> Sequence[str]:
        """Nothing is needed."""
        del settings, configuration
        return ()

    def shape(self, settings: Mapping[str, object], configuration: Configuration) -> str:
        """All members have one shape."""
        del settings, configuration
        return "constant"

    def make_pack(
        self,
        settings: Mapping[str, object],
        members: Sequence[Member],
        *,
        data_root: Path | None,
        device: str,
    ) -> ConstantPack:
        """Build the pack."""
        del data_root, device
        return ConstantPack(settings, members)


KIND = ConstantKind()
