"""Which trial of a search is retrained, and what must be said of the choice.

The best one is decided on the validation part alone, by the rule that reports rank by (`analysis.best.ranking`): the
least mean error over the trainings of a configuration in the last space. A person may name another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdsearch.analysis.best import BestConfiguration, Ranking, ranking
from kdsearch.analysis.frames import counted_trials, of_confirmation, parameter_columns, population
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.results import compares_methods
from kdsearch.analysis.sweep_kinds import is_retraining
from kdsearch.analysis.wording import percent, plural
from kdsearch.search.searchers.plans import TEST, objective_of
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.reads import Trial
from kdsearch.search.trialdb.states import Role, TrialState
from kdsearch.spaces.errors import UsageError

_TESTED = "if it was chosen by such errors, what follows is too good to be believed"


def choose(database: TrialDatabase, record: SweepRecord, number: int | None) -> tuple[Trial, list[str]]:
    """Return the trial to be retrained, and sentences on how it was chosen; number: None chooses by the rule.

    Raises:
        UsageError: there is no such trial, it was not trained to its end, or the rule has nothing to choose from.

    """
    best = None if compares_methods(record) else _best(record)
    if number is None:
        number, words = _by_rule(record, best)
        return trial_of(database, record.name, number), words
    trial = trial_of(database, record.name, number)
    return trial, _by_person(record, trial, best)


def _best(record: SweepRecord) -> Ranking:
    """The search's configurations by the rule of its report."""
    trials = counted_trials(record)
    found = trials[~of_confirmation(trials)]
    spaces = [population(record, space, trials) for space in record.spaces]
    return ranking(record, found, parameter_columns(record), spaces)


def _by_rule(record: SweepRecord, best: Ranking | None) -> tuple[int, list[str]]:
    if best is None:
        raise UsageError(
            f"the sweep {record.name} compares methods: its final trials were measured on the test part, so that the "
            "best of them would be chosen on the test part",
            "Name a trial with --trial N; `kdsearch report` lists them in trials.csv.",
        )
    if not best.top:
        raise UsageError(
            f"the sweep {record.name} has no trial of its search that was trained to its end",
            f"`kdsearch status {record.name}` says what became of them; `kdsearch resume` goes on.",
        )
    first = best.top[0]
    number = first.trainings.best[0]
    home = "" if first.space is None else f" of space {first.space}"
    of = plural(best.ranked, "graph" if first.graph is not None else "configuration")
    least = f"the least {_error(first)} of {of}{home}"
    words = [f"Trial {number} of the sweep {record.name}, chosen by kdsearch's rule: {least}."]
    if first.trainings.n > 1:
        words.append("Of the trainings of that configuration it is the best.")
    if best.close:
        words.append(f"{plural(best.close, 'other')} came within one standard error of it.")
    words.append("The choice was made on the validation part alone.")
    return number, [*words, *_unfinished(record)]


def _error(first: BestConfiguration) -> str:
    mean = "mean " * (first.trainings.n > 1)
    return (
        f"{mean}validation error ({percent(first.trainings.mean)} %, {plural(first.trainings.n, 'training')})"
    )


def _by_person(record: SweepRecord, trial: Trial, best: Ranking | None) -> list[str]:
    words = [f"Trial {trial.number} of the sweep {record.name}, named by --trial."]
    if objective_of(trial.plan or {}) == TEST:
        words.append(f"Its error there, {percent(trial.error)} %, is one of the test part: {_TESTED}.")
    else:
        words.append(f"Its validation error there is {percent(trial.error)} %.")
        tested = sum(objective_of(plan or {}) == TEST for plan in record.trials["plan"])
        if tested:
            words.append(f"That sweep measured {plural(tested, 'trial')} on the test part: {_TESTED}.")
    if best is not None and best.top:
        first = best.top[0]
        if trial.number in first.trainings.numbers:
            words.append(f"kdsearch's rule chooses the same configuration: the least {_error(first)}.")
        else:
            words.append(
                f"kdsearch's rule would choose trial {first.trainings.best[0]}: the least {_error(first)}."
            )
    return [*words, *_unfinished(record)]


def _unfinished(record: SweepRecord) -> list[str]:
    return [] if record.state == "complete" else [f"The sweep was {record.state} then, not complete."]


def retrained_before(database: TrialDatabase, name: str) -> list[str]:
    """Say that the sweep was retrained before: whoever chooses among retrainings chooses on the test part."""
    earlier = [
        row.name for row in database.sweeps() if is_retraining(row.settings) and origin(row.settings) == name
    ]
    if not earlier:
        return []
    told = f"The sweep was retrained before ({', '.join(earlier)})"
    return [f"{told}: to choose among retrainings by their test errors would be to choose on the test part."]


def trial_of(database: TrialDatabase, name: str, number: int) -> Trial:
    """The trial of that number, if it can be retrained."""
    trials = {trial.number: trial for trial in database.trials(name)}
    trial = trials.get(number)
    if trial is None:
        told = f"they are numbered {min(trials)} to {max(trials)}" if trials else "it has none yet"
        raise UsageError(f"the sweep {name} has no trial {number}", f"Of its trials: {told}.")
    if trial.role is Role.PRETRAIN:
        raise UsageError(
            f"trial {number} of the sweep {name} is a pre-training: a model that trials of the search learn from",
            "Name a trial of the search.",
        )
    if trial.state is not TrialState.COMPLETE:
        raise UsageError(
            f"trial {number} of the sweep {name} is {_state(trial)}",
            "Only a trial that was trained to its end can be retrained: nobody knows how good the others would be.",
        )
    return trial


def _state(trial: Trial) -> str:
    if trial.state is TrialState.STOPPED:
        return f"stopped: a scheduler ended it after epoch {trial.last_epoch}"
    told = f": {trial.message}" if trial.message else ""
    return f"{trial.state}{told}"


def origin(settings: Mapping[str, Any]) -> str:
    """The sweep that a retraining's subject came from."""
    chosen = (settings.get("searcher") or {}).get("chosen") or {}
    return str(chosen.get("sweep", "its name is not known"))
