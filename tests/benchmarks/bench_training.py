"""Memory of training on 40,000 patients and on 88,000 ECGs, with the paper's networks. Run by hand:

    KDSEARCH_DATA=DIR python tests/benchmarks/bench_training.py --out docs/benchmarks/training.json

The records are links to the real ones, as in `bench_records`. Each step is a process that trains an epoch of
block-by-block matching of a preset, at the values the paper chose, evaluates it and compares it with its teacher (whose
weights are as they were drawn). To be done in minutes, the epoch has a few batches alone: of patients the one with the
longest stays and others drawn from all 40,000; of ECGs, records spread over all 88,000. ECGs are trained on a second
time with the real records alone: what is more with 88,000 is what the data take, and the rest is network and batch.
Peaks are the kernel's own (VmHWM), beyond the imports. Takes about 5 GB below --folder, which is removed. Linux alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench_records import ECG, HOURS, repeated, watched
from machine import machine

from kdsearch.search.config import load_sweep
from kdsearch.trainables.bbm.learner import frozen
from kdsearch.trainables.bbm.pack import BbmPack
from kdsearch.trainables.bbm.parts import Records, load_records
from kdsearch.trainables.bbm.settings import BbmSettings
from kdsearch.trainables.data.roots import resolve_data_root
from kdsearch.trainables.protocol import Member
from kdsearch.trainables.records import Part
from kdsearch.trainables.series.build import build_network

PRESETS = {HOURS: "bbm-ehr", ECG: "bbm-ecg"}
SPREAD = 7  # batches of patients beside the one with the longest stays
ECG_BATCH, ECG_BATCHES = 128, 2


def settings_of(name: str) -> tuple[BbmSettings, dict[str, object]]:
    changes = ["trainable.epochs=1", "trainable.warm_up=0", "scheduler=none"]
    if name == ECG:
        changes.append(f"trainable.batch_size={ECG_BATCH}")
    sweep = load_sweep(PRESETS[name], changes)
    return BbmSettings.from_mapping(sweep.trainable_settings()), sweep.configurations["chosen"]


def few(records: Records, size: int) -> Records:
    """The same records, of which a few are trained on and evaluated."""
    rng = np.random.default_rng(0)
    everyone = np.arange(len(records.held.names))
    if records.lengths is None:
        chosen = rng.choice(everyone, min(len(everyone), ECG_BATCHES * size), replace=False)
        return replace(
            records, parts={Part.TRAINING: chosen, Part.VALIDATION: chosen, Part.TEST: chosen[:size]}
        )
    longest = np.argsort(records.lengths)[-size:]
    others = rng.choice(everyone, SPREAD * size, replace=False)
    return replace(
        records,
        parts={
            Part.TRAINING: np.union1d(longest, others),
            Part.VALIDATION: np.union1d(longest, others),
            Part.TEST: longest,
        },
    )


def trained(name: str) -> dict[str, float]:
    torch.set_num_threads(1)
    settings, configuration = settings_of(name)
    data = settings.data
    found: dict[str, float] = {}
    with watched(found):
        records = few(load_records(data, None), settings.training.batch_size)
        teacher = build_network(
            settings.teacher_network,
            inputs=data.inputs,
            outputs=data.outputs,
            steps=data.steps,
            per_step=data.per_step,
            generator=torch.Generator().manual_seed(0),
        )
        member = Member(number=0, seed=0, configuration=configuration, plan={"evaluate": True})
        pack = BbmPack(settings, [member], records, frozen(teacher))
        pack.run_epoch()
    return {**found, "records": len(records.held.names), "trained_on": len(records.parts[Part.TRAINING])}


def prepared(name: str) -> dict[str, float]:
    found: dict[str, float] = {}
    with watched(found):
        load_records(settings_of(name)[0].data, None)
    return found


STAGES = {"prepared": prepared, "trained": trained}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=88_000)
    parser.add_argument("--patients", type=int, default=40_000)
    parser.add_argument("--data-root", default=None, help="else KDSEARCH_DATA")
    parser.add_argument("--folder", type=Path, default=None, help="where there is room; else TMPDIR")
    parser.add_argument("--out", type=Path, default=Path("bench_training.json"))
    parser.add_argument("--stage", choices=STAGES, default=None, help="one step; made by the whole")
    parser.add_argument("--set", choices=tuple(PRESETS), default=HOURS, help="of the step")
    arguments = parser.parse_args()
    if arguments.stage is not None:
        print(json.dumps(STAGES[arguments.stage](arguments.set)))
        return
    real = resolve_data_root(arguments.data_root)
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-training-") as scratch:
        folder = Path(scratch)
        repeated(HOURS, real, folder / "data", arguments.patients)
        repeated(ECG, real, folder / "data", arguments.records)
        for title, name, root in (
            ("patients by the hour", HOURS, folder / "data"),
            ("ECGs", ECG, folder / "data"),
            ("ECGs, the real ones alone", ECG, real),
        ):
            environment = {**os.environ, "KDSEARCH_DATA": str(root), "KDSEARCH_CACHE": str(folder / "cache")}
            for stage in STAGES:
                command = [sys.executable, __file__, "--stage", stage, "--set", name]
                told = subprocess.run(
                    command, env=environment, check=True, stdout=subprocess.PIPE, text=True
                ).stdout
                result[f"{title}: {stage}"] = json.loads(told)
                print(title, stage, told, flush=True)
    arguments.out.write_text(json.dumps({**result, "machine": machine()}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
