"""The registry's entry for block-by-block matching and its baselines. No torch here until a pack is made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from kdsearch.spaces import DesignSpace, Space
from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.bbm.parts import load_elsewhere, load_records
from kdsearch.trainables.bbm.settings import PARAMETERS, BbmSettings, Method
from kdsearch.trainables.data.roots import resolve_data_root
from kdsearch.trainables.metaparameters.declaration import Metaparameter
from kdsearch.trainables.metaparameters.settings import Hypergradient
from kdsearch.trainables.protocol import Configuration, Member, Pack, Pretraining
from kdsearch.trainables.records.prepared_files import why_absent
from kdsearch.trainables.records.sets import find_records

TEACHER: Final = "teacher"  # the role of the trained teacher among a trial's inputs
_LOOKS: Final = 200  # configurations of a space that are tried on the settings
_LARGEST_WEIGHT: Final = 1e6
_SEVERAL: Final = ("low", "high")  # the ends of an interval


class BbmKind:
    """A transformer that learns the inductive bias of a CNN or LSTM, and what it is compared with."""

    name = "bbm"

    def check(self, settings: Mapping[str, object], models: Sequence[str]) -> None:
        """Refuse settings that no trial could run with.

        Raises:
            UnknownNameError: a key, network, set of records or other name is unknown.
            UsageError: a value is outside its range, or networks, data and blocks do not fit.

        """
        del models
        BbmSettings.from_mapping(settings)

    def check_space(self, settings: Mapping[str, object], space: DesignSpace) -> None:
        """Refuse a space with unknown parameters, or with values that the networks cannot take.

        A fixed sample of whole configurations is looked at.
        """
        read = BbmSettings.from_mapping(settings)
        if not isinstance(space, Space):
            raise UsageError("the trainable bbm needs a space of kind parameters")
        for name in space.parameter_names:
            if name not in PARAMETERS:
                raise UnknownNameError("parameter", name, PARAMETERS, "the space of a bbm trainable")
        rng = np.random.default_rng(0)
        used: set[str] = set()
        for _ in range(_LOOKS):
            drawn = space.sample(rng)
            try:
                read.trial(drawn)
            except UsageError as error:
                raise UsageError(f"the space holds {dict(drawn)}: {error.message}", error.hint) from None
            used |= read.effective(drawn)
        for name, spec in space.parameters_spec().items():
            if name not in used and len(spec.get("values", _SEVERAL)) > 1:  # one value is no search
                raise UsageError(
                    f"the parameter {name} has no effect on what this space trains",
                    "Leave it out of the space.",
                )

    def check_plan(self, settings: Mapping[str, object], plan: Mapping[str, Any]) -> None:
        """Refuse training on the validation part, where thresholds are chosen, and finite differences."""
        del settings
        found = plan.get("optimiser", {}).get("hypergradient", Hypergradient.EXACT)
        if found != Hypergradient.EXACT:
            raise UsageError(
                f"hypergradient: {found} is not possible with the trainable bbm",
                "Its loss is linear in lambda and ratio, and the exact one costs less: leave hypergradient out.",
            )
        if plan.get("train_on", "training") != "training":
            raise UsageError(
                "train_on: all is not possible with bbm, whose thresholds are chosen on the validation part",
                "Leave train_on out.",
            )

    def metaparameters(
        self, settings: Mapping[str, object], configuration: Configuration
    ) -> Sequence[Metaparameter]:
        """Return lambda, the weight of L_BBM, or DeiT's ratio: the loss is linear in both."""
        method = BbmSettings.from_mapping(settings).method_of(configuration)
        if method is Method.BBM:
            return (Metaparameter(name="lambda", low=0.0, high=_LARGEST_WEIGHT),)
        if method is Method.DEIT:
            return (Metaparameter(name="ratio", low=0.0, high=1.0),)
        return ()

    def pretraining(self, settings: Mapping[str, object], models: Sequence[str]) -> Sequence[Pretraining]:
        """The teacher, unless its weights are given or the sweep trains nothing but teachers."""
        del models
        read = BbmSettings.from_mapping(settings)
        if not _trained_here(read) or read.teacher is None:
            return ()
        return (
            Pretraining(
                model=read.teacher.network.network,
                configuration={"method": str(Method.TEACHER)},
                defined_by={
                    "kind": self.name,
                    "data": {k: v for k, v in read.data.to_mapping().items() if k != "elsewhere"},
                    "teacher": read.teacher.to_mapping(),
                    "objective": str(read.objective),  # the kept result's error is made of it
                },
            ),
        )

    def check_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """Refuse records that are missing or broken, and an unfit teacher; say what was repaired and left out.

        Raises:
            KdsearchError: the message says what is wrong and where.

        """
        read = BbmSettings.from_mapping(settings)
        records = load_records(read.data, data_root)
        notes = list(records.notes)
        elsewhere = load_elsewhere(read.data, data_root)
        notes += elsewhere.notes
        if read.teacher is not None and read.teacher.file is not None:
            from kdsearch.trainables.bbm.files import check_teacher  # noqa: PLC0415 needs torch

            notes.append(check_teacher(read, data_root))
        return notes

    def find_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """Refuse records that are not there; files are not opened, and nothing is prepared.

        Raises:
            DataError: none of the set's folders is below the data root, and no made-up sample may stand in.

        """
        data = BbmSettings.from_mapping(settings).data
        absent = why_absent(data.name, data_root)
        if absent is None:
            return ("Records are read and prepared when the sweep begins.",)
        if not data.or_sample:
            find_records(data.name, resolve_data_root(data_root))  # says where they are to be had
        return (f"The records of {data.name} are not there ({absent}): a made-up sample would stand in.",)

    def content(self, settings: Mapping[str, object], data_root: Path | None) -> str:
        """Return a digest of the records."""
        return load_records(BbmSettings.from_mapping(settings).data, data_root).digest

    def inputs(self, settings: Mapping[str, object], configuration: Configuration) -> Sequence[str]:
        """The teacher, for all that learn from it or are compared with it."""
        read = BbmSettings.from_mapping(settings)
        method = read.method_of(configuration)
        if method is Method.TEACHER or not _trained_here(read) or read.teacher is None:
            return ()
        return (read.teacher.network.network,) if method.taught or read.similarity else ()

    def shape(self, settings: Mapping[str, object], configuration: Configuration) -> str:
        """Trials of a pack take turns, so that nothing has to be equal but the settings."""
        del configuration
        return json.dumps(dict(settings), sort_keys=True, default=str)

    def make_pack(
        self,
        settings: Mapping[str, object],
        members: Sequence[Member],
        *,
        data_root: Path | None,
        device: str,
    ) -> Pack:
        """Open the prepared records and the teacher, and build the pack.

        Raises:
            KdsearchError: bad settings, records that are missing or broken, a teacher or checkpoint that does not fit.

        """
        from kdsearch.trainables.bbm.making import make_pack  # noqa: PLC0415 workers alone pay for torch

        return make_pack(BbmSettings.from_mapping(settings), members, data_root=data_root, device=device)


def _trained_here(settings: BbmSettings) -> bool:
    """Whether a sweep has to train the teacher: it has one, no file was given, and there are students."""
    return (
        settings.teacher is not None
        and settings.teacher.file is None
        and settings.method is not Method.TEACHER
    )
