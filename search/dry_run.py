"""What a sweep would do, found out without doing any of it: nothing is written, no trial runs.

The searcher is built and asked, as it would be at the start, so the first configurations are the ones that a run with
the same seed trains first. Trials are counted exactly where that does not depend on their results. On this machine Ray
is not started; a cluster at an address is asked what it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdsearch.search.baselines import pretrainings
from kdsearch.search.config import RandomSettings, RefinementSettings, SweepFile
from kdsearch.search.coordinator import WAVES
from kdsearch.search.launch import Launch, ray_options, stored_names
from kdsearch.search.lines import line_of
from kdsearch.search.masking import masked
from kdsearch.search.packing import packed
from kdsearch.search.runner import Slots, local_slots, ray_session
from kdsearch.search.searchers import make_searcher, nobody
from kdsearch.search.searchers.base import Request, Searcher
from kdsearch.search.stores import absolute
from kdsearch.search.trial_states import LiveTrial
from kdsearch.search.trialdb.database import check_place
from kdsearch.search.trialdb.errors import SweepNameTakenError
from kdsearch.spaces import DesignSpace, describe
from kdsearch.spaces.errors import KdsearchError
from kdsearch.trainables.declared import resolved_settings
from kdsearch.trainables.registry import trainable_kind
from kdsearch.trainables.storage import Remote, is_url

FIRST = 5  # configurations that are shown


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why the sweep could not begin."""

    what: str  # data, resources, storage, database or report
    error: KdsearchError


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The findings, as plain data by section, and what stands in the way."""

    found: dict[str, Any]
    problems: Sequence[Problem]


def dry_run(sweep: SweepFile, launch: Launch, *, name: str | None) -> DryRun:
    """Find out what a sweep would do; `name`: as it is asked for, None: the file's, numbered if it is taken.

    Raises:
        KdsearchError: the searcher cannot be built.

    """
    problems: list[Problem] = []
    slots = _slots(sweep, launch, problems)
    before = pretrainings(sweep)
    searcher = make_searcher(sweep, first_number=before, chooser=nobody)
    wanted = sweep.run.pack * (slots.concurrency if slots else 1) * WAVES
    requests = searcher.ask(max(wanted, FIRST))
    space = sweep.design_space()
    found = {
        "name": _name(sweep, launch, name, problems),
        "settings": {
            **sweep.resolved(),
            "trainable": {
                "kind": sweep.trainable.kind,
                **resolved_settings(sweep.trainable.kind, sweep.trainable.settings()),
            },
        },
        "space": describe(space) | {"searched": space.counts().to_dict()},
        "trials": {**_trials(sweep, searcher), "pretraining": before},
        "first": [_shown(space, request) for request in requests[:FIRST]],
        "scheduler": _scheduler(sweep),
        "resources": _resources(sweep, launch, slots, requests),
        "data": _data(sweep, launch, problems),
    }
    _storage(launch, problems)
    _place(launch, problems)
    return DryRun(found=found, problems=problems)


def _slots(sweep: SweepFile, launch: Launch, problems: list[Problem]) -> Slots | None:
    options = ray_options(sweep, launch)
    try:
        if options.address is None:
            return local_slots(options)
        with ray_session(options) as slots:
            return slots
    except KdsearchError as error:
        problems.append(Problem(what="resources", error=error))
        return None


def _storage(launch: Launch, problems: list[Problem]) -> None:
    """Whether the storage can be opened; whether it can be written is found out by a run."""
    try:
        if launch.storage is not None and is_url(absolute(launch.storage)):
            Remote(launch.storage, Path())
    except KdsearchError as error:
        problems.append(Problem(what="storage", error=error))


def _place(launch: Launch, problems: list[Problem]) -> None:
    """Whether a database can be made or written: a run makes it when data and workers are found, so this comes last."""
    if any(problem.what == "database" for problem in problems):
        return
    try:
        check_place(launch.db)
    except KdsearchError as error:
        problems.append(Problem(what="database", error=error))


def _name(sweep: SweepFile, launch: Launch, name: str | None, problems: list[Problem]) -> str:
    wanted = name or sweep.name
    try:
        taken = stored_names(launch.db, read_only=True)
    except KdsearchError as error:
        problems.append(Problem(what="database", error=error))
        return wanted
    if wanted not in taken:
        return wanted
    if name is not None:
        taken_twice = SweepNameTakenError(
            f"{masked(launch.db)} already has a sweep {name!r}",
            f"Go on with it: `kdsearch resume {name}`; or give the new one another name or database.",
        )
        problems.append(Problem(what="database", error=taken_twice))
        return wanted
    return next(free for n in range(2, len(taken) + 3) if (free := f"{wanted}-{n}") not in taken)


def _trials(sweep: SweepFile, searcher: Searcher) -> dict[str, int | None]:
    """Trials of the search, at least and at most; None: nobody can say before results are there."""
    settings = sweep.search()
    planned = searcher.overview().planned
    if isinstance(settings, RefinementSettings):
        space = sweep.design_space()
        if (space.counts().classes or settings.limit + 1) <= settings.limit:
            return {"least": planned, "most": planned}
        draws = settings.draws
        if settings.policy == "significant":
            draws = settings.budget or 4 * settings.draws
        steps = len(space.groups())
        return {"least": planned, "most": steps * draws + settings.limit * settings.repeats}
    trials = getattr(settings, "trials", None)
    if trials is None or isinstance(settings, RandomSettings):
        return {"least": planned, "most": planned}
    trials += getattr(settings, "confirm", 0)
    return {"least": None, "most": trials}


def _shown(space: DesignSpace, request: Request) -> dict[str, Any]:
    configuration = dict(request.configuration)
    plan = dict(request.plan)
    try:
        text = line_of(space, configuration)
    except KdsearchError:  # values of a named configuration may lie outside the space
        text = " ".join(f"{name}={value}" for name, value in configuration.items())
    return {"number": request.number, "text": text, "configuration": configuration, "plan": plan}


def _scheduler(sweep: SweepFile) -> dict[str, Any] | None:
    settings, rungs = sweep.scheduler, sweep.rungs()
    if settings is None or not rungs:
        return None
    return {
        **settings.model_dump(mode="json", include={"kind", "mode", "reduction_factor", "epsilon"}),
        "rungs": list(rungs),
        "brackets": [list(rungs[s:]) for s in range(settings.brackets)],
    }


def _resources(
    sweep: SweepFile, launch: Launch, slots: Slots | None, requests: Sequence[Request]
) -> dict[str, Any]:
    """What a pack takes, how many run at once, and the sizes of the packs that run first."""
    pack: dict[str, Any] = {"cpus": sweep.run.cpus, "gpus": sweep.run.gpus, "trials": sweep.run.pack}
    if sweep.run.resources:
        pack["resources"] = dict(sweep.run.resources)
    where = launch.address or "this machine"
    if slots is None:
        return {"where": where, "pack": pack, "packs_at_once": None, "trials_at_once": None}
    first = _packs(sweep, slots, requests)[: slots.concurrency]
    return {
        "where": where,
        "cpus": slots.cpus,
        "gpus": slots.gpus,
        "pack": {**pack, "gpus": slots.gpus_per_pack},
        "packs_at_once": slots.concurrency,
        "fit": slots.fits,
        "first_packs": first,
        "trials_at_once": sum(first),
    }


def _packs(sweep: SweepFile, slots: Slots, requests: Sequence[Request]) -> list[int]:
    trials = [
        LiveTrial(number=r.number, configuration=r.configuration, seed=0, search=True, plan=r.plan)
        for r in requests
    ]
    kind, settings = trainable_kind(sweep.trainable.kind), sweep.trainable_settings()
    found = packed(trials, kind, settings, most=sweep.run.pack, workers=slots.concurrency)
    return [len(pack) for pack in found]


def _data(sweep: SweepFile, launch: Launch, problems: list[Problem]) -> dict[str, Any]:
    kind, notes, found = trainable_kind(sweep.trainable.kind), list[str](), True
    for settings in sweep.settings_by_data().values():
        try:
            notes += kind.find_data(settings, launch.data_root)
        except KdsearchError as error:
            problems.append(Problem(what="data", error=error))
            found = False
    return {"found": found, "notes": list(dict.fromkeys(notes)) if found else []}
