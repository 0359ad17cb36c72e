"""The registry's entry for knowledge transfer graphs. No torch here until a pack is made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsearch.spaces import DesignSpace, Gate, KtgSpace
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.loading import load_images
from kdsearch.trainables.data.splits import make_split
from kdsearch.trainables.ktg.gates import ALL, check_parts, learned_weights
from kdsearch.trainables.ktg.settings import OWN_LABEL, OWN_MODEL, KtgSettings
from kdsearch.trainables.metaparameters.declaration import Metaparameter
from kdsearch.trainables.networks.architectures import check_model
from kdsearch.trainables.protocol import Configuration, Member, Pretraining

if TYPE_CHECKING:
    from kdsearch.trainables.ktg.pack import KtgPack


class KtgKind:
    """Knowledge transfer graphs on images."""

    name = "ktg"

    def check(self, settings: Mapping[str, object], models: Sequence[str]) -> None:
        """Refuse settings and model names that no trial could run with.

        Raises:
            UnknownNameError: a key, model, data set or precision is unknown.
            UsageError: a value is outside its range.

        """
        read = KtgSettings.from_mapping(settings)
        if read.data.purpose != "search":
            raise UsageError(
                "a search never sees the test split: data.purpose is search in a sweep file",
                "Leave data.purpose out.",
            )
        for model in {*models, read.target} - {None}:
            check_model(str(model))

    def check_plan(self, settings: Mapping[str, object], plan: Mapping[str, Any]) -> None:
        """Refuse a search that would see the test part, and gates that would be learned from what trains.

        Raises:
            UsageError: what the plan asks for, and what would be right.

        """
        del settings
        check_parts(plan)
        if plan.get("train_on") == ALL and plan.get("optimiser"):
            raise UsageError(
                "learned gates follow validation images, and train_on: all holds none out",
                "Use train_on: training for graphs with learned gates.",
            )

    def check_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """Refuse data that is missing or broken, or has fewer images than the settings ask for.

        Returns a note if the images are made up, so that nobody takes the sweep's numbers for results.

        Raises:
            KdsearchError: the message says what is wrong and where.

        """
        read = KtgSettings.from_mapping(settings)
        images = load_images(read.data.name, data_root)
        split = make_split(images, read.data)
        if read.batch_size > len(split.train_labels):
            raise UsageError(
                f"a batch_size of {read.batch_size} does not fit {len(split.train_labels):,} training images"
            )
        if read.target is not None:
            read.architecture(read.target, shape=images.shape, classes=images.classes)
        if images.is_sample:
            return (f"The images of {images.name} are a made-up sample: the numbers are no results.",)
        return ()

    def find_data(self, settings: Mapping[str, object], data_root: Path | None) -> Sequence[str]:
        """Refuse images that are missing or broken; to look at them writes nothing."""
        return self.check_data(settings, data_root)

    def metaparameters(
        self, settings: Mapping[str, object], configuration: Configuration
    ) -> Sequence[Metaparameter]:
        """Weights of the configuration's learned gates: `weight.<source>-><target>`, in [0, 1]."""
        return learned_weights(KtgSettings.from_mapping(settings).graph(configuration))

    def check_space(self, settings: Mapping[str, object], space: DesignSpace) -> None:
        """Refuse a space that does not hold graphs.

        Raises:
            UsageError: it is of another kind.

        """
        del settings
        if not isinstance(space, KtgSpace):
            raise UsageError("the trainable ktg needs a space of kind ktg")

    def pretraining(self, settings: Mapping[str, object], models: Sequence[str]) -> Sequence[Pretraining]:
        """Each architecture with the label alone: the paper's Table I, and the weights of frozen teachers."""
        defined_by = {key: value for key, value in settings.items() if key != "target"}
        return tuple(
            Pretraining(
                model=model,
                configuration={OWN_MODEL: model, OWN_LABEL: str(Gate.THROUGH)},
                defined_by=defined_by,
            )
            for model in models
        )

    def content(self, settings: Mapping[str, object], data_root: Path | None) -> str:
        """Return the images' digest."""
        return load_images(KtgSettings.from_mapping(settings).data.name, data_root).digest

    def inputs(self, settings: Mapping[str, object], configuration: Configuration) -> Sequence[str]:
        """Architectures whose pre-trained weights a trial needs (its frozen teachers), each once."""
        graph = KtgSettings.from_mapping(settings).graph(configuration)
        return tuple(dict.fromkeys(graph.models[node - 1] for node in graph.frozen_nodes()))

    def shape(self, settings: Mapping[str, object], configuration: Configuration) -> str:
        """Trials of the same settings whose nodes are of the same architectures, in any order, share a pack."""
        read = KtgSettings.from_mapping(settings)
        models = sorted(read.graph(configuration).models)
        return json.dumps([models, read.to_mapping()], sort_keys=True)

    def make_pack(
        self,
        settings: Mapping[str, object],
        members: Sequence[Member],
        *,
        data_root: Path | None,
        device: str,
    ) -> KtgPack:
        """Load the data (once a process) and build the pack.

        Raises:
            KdsearchError: bad settings, data that is missing or broken, a teacher or checkpoint that does not fit.

        """
        from kdsearch.trainables.ktg.pack import KtgPack  # noqa: PLC0415 workers alone pay for torch
        from kdsearch.trainables.ktg.pack_data import PackData  # noqa: PLC0415

        read = KtgSettings.from_mapping(settings)
        data = PackData.load(read, load_images(read.data.name, data_root), device, members[0].plan)
        return KtgPack(read, members, data, device=device)
