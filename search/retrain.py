"""From a trial of a search to the sweep that retrains it: what is chosen and why, and the versions it is compared with.

The choice is made on the validation part (`retrain_choice`); the test part comes in afterwards (Iwata et al., Section
IV), and what led to the choice is kept with the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdsearch.analysis.sweep_kinds import is_retraining
from kdsearch.search.config import SweepFile, apply_change, parse_sweep
from kdsearch.search.imported import KIND as IMPORTED
from kdsearch.search.retrain_choice import choose, origin, retrained_before, trial_of
from kdsearch.search.searchers.plans import final_plan
from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.search.trialdb.reads import Trial
from kdsearch.spaces import Gate, Graph, parse_yaml
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.metaparameters.settings import OptimiserSettings
from kdsearch.trainables.registry import trainable_kind

ALL_THROUGH, LABEL_ONLY = "all through", "label only"
_SECTIONS = ("trainable", "run", "statistics", "title")  # that --set may change


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the command line asks for; None and empty: what `retraining_of` takes by default."""

    trial: int | None = None
    against: int | None = None
    seeds: int = 5
    data: Sequence[str] = ()
    epochs: int | None = None
    train_on: str | None = None
    changes: Sequence[str] = ()
    seed: int | None = None


def retraining_of(database: TrialDatabase, name: str, wish: Wish) -> SweepFile:
    """Return the sweep that retrains a trial of the sweep `name`; nothing is written.

    Raises:
        UsageError: there is no such trial, or it cannot be retrained so; the message says why.

    """
    row = database.sweep(name)
    if is_retraining(row.settings):
        raise UsageError(
            f"the sweep {name} is a retraining itself, and nothing was searched in it",
            f"Name the sweep that the trial came from: {origin(row.settings)}.",
        )
    if row.kind == IMPORTED:
        raise UsageError(
            f"the trials of {name} were run elsewhere and imported: nothing here knows how to train one",
            "Write a sweep file with the searcher retrain and the configuration (docs/retrain.md), if a trainable of "
            "kdsearch takes it.",
        )
    searched = parse_sweep(row.settings, f"sweep {name}")
    record = read_record(database, name, metrics=())
    subject, words = choose(database, record, wish.trial)
    versions = _versions(searched, subject, words)
    if wish.against is not None:
        if wish.against == subject.number:
            raise UsageError(f"--against {wish.against} is the trial that is retrained", "Name another one.")
        versions[_name(wish.against)] = _version(trial_of(database, name, wish.against))
    data = _data_sets(searched, wish.data)
    train_on = _train_on(searched, versions, wish.train_on, words)
    words += retrained_before(database, name)
    return _sweep(searched, wish, subject, versions, data, train_on, words)


def _name(number: int) -> str:
    return f"trial {number}"


def _version(trial: Trial) -> dict[str, Any]:
    """A trial as a version: with the optimiser, if its metaparameters followed their gradient."""
    plan = trial.plan or {}
    version: dict[str, Any] = {"configuration": dict(trial.configuration)}
    if plan.get("optimised"):
        version["optimised"] = True
    if plan.get("optimiser"):
        version["optimiser"] = dict(plan["optimiser"])
    return version


def _versions(searched: SweepFile, subject: Trial, words: list[str]) -> dict[str, dict[str, Any]]:
    """The subject; of a graph also the same nodes with every edge through, and the target with the label alone."""
    versions = {_name(subject.number): _version(subject)}
    if searched.space.get("kind") != "ktg":
        return versions
    target = str(searched.space["target"])
    graph = Graph.from_configuration(subject.configuration, target)
    if len(graph.models) == 1:
        words.append("It has no other node, so that there is nothing to compare it with.")
        return versions
    through = graph.all_through()
    if through == graph:
        words.append("Every edge of it is through, so that the version all through is itself.")
    else:
        versions[ALL_THROUGH] = {"configuration": through.to_configuration()}
    versions[LABEL_ONLY] = {"configuration": {"model.1": target, "label->1": str(Gate.THROUGH)}}
    return versions


def _data_sets(searched: SweepFile, wanted: Sequence[str]) -> dict[str, Any]:
    """The data sets by name; empty for a trainable that has none."""
    own = searched.trainable_settings().get("data")
    if own is None:
        if wanted:
            raise UsageError(
                f"--data {wanted[0]}: the trainable {searched.trainable.kind} has no data sets",
                "Leave --data out.",
            )
        return {}
    mine = {"name": own} if isinstance(own, str) else dict(own)
    found: dict[str, Any] = {}
    for text in wanted or [str(mine["name"])]:
        given = parse_yaml(text, "--data") if text.lstrip().startswith("{") else text
        data = _data(given, mine, searched)
        if data["name"] in found:
            raise UsageError(f"--data names {data['name']} twice", "Name each data set once.")
        found[data["name"]] = data
    return found


def _data(given: object, mine: Mapping[str, Any], searched: SweepFile) -> dict[str, Any]:
    """A data set as it stands in a sweep file: the sweep's own by its name, another one whole."""
    if isinstance(given, Mapping) and isinstance(given.get("name"), str):
        data = dict(given)
    elif not isinstance(given, str):
        raise UsageError(
            f"--data {given!r} names no data set", "Write --data NAME or --data '{name: NAME, ...}'."
        )
    elif given == mine["name"]:
        return dict(mine)
    else:
        data = {"name": given}
        if "augment" in mine and searched.trainable.kind in ("ktg", "kd") and given != "synthetic":
            data["augment"] = mine["augment"]
    if searched.trainable.kind == "bbm" and data["name"] != mine["name"]:
        raise UsageError(
            f"--data {data['name']}: the networks of this trial were searched for {mine['name']}, and another set of "
            "records has other inputs and answers",
            "Leave --data out, or give the same set in another form: --data '{name: NAME, seed: 1, ...}'.",
        )
    teacher = searched.trainable_settings().get("teacher")
    if data["name"] != mine["name"] and isinstance(teacher, Mapping) and teacher.get("file"):
        raise UsageError(
            f"--data {data['name']}: the teacher's weights are given by a file ({teacher['file']}) and were not made "
            "for another data set",
            "Let the teacher be trained: --set trainable.teacher.file=null.",
        )
    return data


def _train_on(
    searched: SweepFile, versions: Mapping[str, Mapping[str, Any]], wanted: str | None, words: list[str]
) -> str:
    """`all` where that can be done, unless the command line says; the reason where it cannot."""
    if wanted is not None:
        return wanted
    kind, settings = trainable_kind(searched.trainable.kind), searched.trainable_settings()
    why = ""
    for name, version in versions.items():
        optimiser = OptimiserSettings.from_mapping(version["optimiser"]) if "optimiser" in version else None
        if optimiser is not None:
            why = f"the metaparameters of {name} follow the validation loss"
            break
        try:
            kind.check_plan(settings, final_plan(name, 0, train_on="all", optimised=False))
        except UsageError as error:
            why = error.message
            break
    if not why:
        return "all"
    words.append(f"Trained on the training part alone: {why}.")
    return "training"


def _sweep(
    searched: SweepFile,
    wish: Wish,
    subject: Trial,
    versions: Mapping[str, Any],
    data: Mapping[str, Any],
    train_on: str,
    words: Sequence[str],
) -> SweepFile:
    """The sweep file, checked whole."""
    told = searched.resolved()
    kept = {key: told[key] for key in ("space", "trainable", "run", "statistics")}
    trainable = dict(kept["trainable"])
    if data:
        trainable["data"] = next(iter(data.values()))
    if wish.epochs is not None:
        trainable["epochs"] = wish.epochs
    file = {
        **kept,
        "name": f"{searched.name}-retrain"[:80],
        "title": f"{searched.title or searched.name}: {_name(subject.number)} retrained"[:200],
        "seed": searched.seed if wish.seed is None else wish.seed,
        "trainable": trainable,
        "searcher": {
            "kind": "retrain",
            "seeds": wish.seeds,
            "train_on": train_on,
            "versions": dict(versions),
            "subject": _name(subject.number),
            "data": dict(data),
            "chosen": {
                "sweep": searched.name,
                "trial": subject.number,
                "by": "rule" if wish.trial is None else "person",
                "words": " ".join(words),
            },
        },
    }
    for change in wish.changes:
        _check_change(change, subject.configuration)
        apply_change(file, change)
    return parse_sweep(file, "the retraining")


def _check_change(change: str, configuration: Mapping[str, Any]) -> None:
    """Refuse changes of what was chosen, and those that a value of the trial would undo."""
    key = change.partition("=")[0]
    section, _, rest = key.partition(".")
    if section not in _SECTIONS or key == "trainable":
        raise UsageError(
            f"--set {key}: a retraining keeps what was searched",
            "What can be changed: trainable.KEY, run.KEY, statistics.KEY and title.",
        )
    if section == "trainable" and rest.split(".")[0] in ("kind", "data"):
        hint = "Name other data with --data." if rest != "kind" else "The trial was one of this trainable."
        raise UsageError(f"--set {key}: a retraining keeps what was searched", hint)
    if section == "trainable" and rest in configuration:
        raise UsageError(
            f"--set {key} would have no effect: {rest} is a parameter of the trial, which has {configuration[rest]}",
            "Leave it out.",
        )
