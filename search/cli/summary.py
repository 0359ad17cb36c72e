"""What a finished command says: the lineage with the reason for each step, the best graph, where the files are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.results import SweepResult, analyse
from kdsearch.analysis.story import ended
from kdsearch.analysis.wording import value
from kdsearch.search.cli.common import results
from kdsearch.search.cli.databases import open_to_read
from kdsearch.search.cli.folders import write_told
from kdsearch.search.cli.methods import methods_of, print_methods
from kdsearch.search.cli.retrained import print_retrained, retrained_of
from kdsearch.search.cli.studies import print_study, study_of
from kdsearch.search.masking import masked
from kdsearch.search.trialdb import read_record
from kdsearch.spaces.printable import printable

_MOST_FAILURES, _MOST_LISTED, _MOST_LETTERS = 3, 5, 300  # what is printed of failures
_TRACEBACK = "Traceback (most recent call last)"
_WEIGHT = "weight."  # in the names of learned gates' metaparameters


def summary_of(name: str, db: str, out: Path, seconds: float) -> dict[str, Any]:
    """Write the report of a sweep and return what is worth saying, as plain data; seconds: what this run took."""
    with open_to_read(db) as database:
        record = read_record(database, name)
    files = write_told([record], out)
    searched = record.trials[record.trials["role"] == "search"]
    states = searched["state"].value_counts()
    stopped = Counter(int(epoch) for epoch in searched[searched["state"] == "stopped"]["last_epoch"])
    return {
        "name": name,
        "state": record.state,
        "database": masked(db),
        "report": str(files.page),
        "trials": {str(state): int(n) for state, n in states.items()},
        "failures": _failures(record),
        "stopped": [{"epoch": epoch, "trials": n} for epoch, n in sorted(stopped.items())],
        "draws": len(record.draws),
        "seconds": seconds,
        **_findings(record),
        "notes": list(record.notes),
    }


def _failures(record: SweepRecord) -> list[dict[str, Any]]:
    """Why trials failed, in a line each, most frequent first, with their numbers."""
    failed = record.trials[record.trials["state"] == "failed"]
    found: dict[str, list[int]] = {}
    for number, message in zip(failed["number"].tolist(), failed["message"].fillna("").tolist(), strict=True):
        found.setdefault(_gist(str(message)), []).append(int(number))
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), item[1]))
    return [{"reason": reason, "trials": numbers} for reason, numbers in ranked]


def _gist(message: str) -> str:
    """The line of a message that says most: the first one, unless a traceback begins there."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return "no reason was kept"
    return lines[-1 if _TRACEBACK in lines[0] else 0]


def _findings(record: SweepRecord) -> dict[str, Any]:
    """The table of a comparison or a retraining; of a search the lineage and the best configuration."""
    nothing = dict.fromkeys(("best", "lowest", "confirmed", "comparison", "study", "retrained"))
    again = retrained_of(record)
    if again is not None:
        return {"lineage": [], **nothing, "retrained": again}
    comparison = methods_of(record)
    if comparison is not None:
        return {"lineage": [], **nothing, "comparison": comparison}
    study, result = study_of(record), analyse(record)
    scored = study is not None and bool(study["methods"])
    return {
        "lineage": [] if scored else _lineage(result),
        **nothing,
        "best": _best(result),
        "lowest": None if result.compares else _lowest(result),
        "confirmed": _confirmed(result),
        "study": study if scored else None,
    }


def _lineage(result: SweepResult) -> list[dict[str, Any]]:
    reasons = {decision.child: decision.reason for decision in result.record.decisions}
    return [
        {
            "space": space.name,
            "parent": space.record.parent,
            "restriction": space.record.restriction,
            **space.record.counts,
            "auc": space.auc,
            "auc_interval": None if space.interval is None else [space.interval.low, space.interval.high],
            "reason": reasons.get(space.name),
            "refused": space.population.refused,  # why there is no AUC; None where there is one, or nothing to say
        }
        for space in result.spaces
    ]


def _best(result: SweepResult) -> dict[str, Any] | None:
    if not result.best:
        return None
    best = result.best[0]
    last = ended(result, best)
    return {
        "space": best.space,
        "text": _told(best.configuration, last) if best.graph is None else best.graph.to_text(),
        "configuration": dict(best.configuration),
        "ended": last,  # of the best training; `configuration` has what it began with
        "error": best.trainings.mean,
        "spread": best.trainings.spread,
        "trainings": best.trainings.n,
        "trials": list(best.trainings.numbers),
    }


def _confirmed(result: SweepResult) -> dict[str, Any] | None:
    """How the best configuration did when it was trained anew, after the search."""
    again = result.confirmed
    if again is None:
        return None
    ended = again.trainings
    return {
        "text": str(again),
        "configuration": dict(again.configuration),
        "planned": again.planned,
        "states": dict(again.states),
        "trials": [] if ended is None else list(ended.numbers),
        "errors": [] if ended is None else list(ended.errors),  # of the test part
        "error": None if ended is None else ended.mean,
        "spread": None if ended is None else ended.spread,
        "validation_error": again.validation_error,
        "validation_trial": again.trial,
        "among": again.among,
    }


def _told(configuration: Mapping[str, Any], last: Mapping[str, float]) -> str:
    """A configuration in a line, with an arrow from each start value to where a gradient took it."""
    return " ".join(
        f"{name}={value(start)} -> {value(last[name])}" if name in last else f"{name}={start}"
        for name, start in configuration.items()
    )


def _weights(best: Mapping[str, Any]) -> str:
    """The last values of what the configuration does not hold: the weights of learned gates."""
    return "  ".join(
        f"{name.removeprefix(_WEIGHT)} {last:.3f}"
        for name, last in best["ended"].items()
        if name not in best["configuration"]
    )


def _lowest(result: SweepResult) -> dict[str, Any] | None:
    """The best single training, which is luckier than its graph is good."""
    complete = result.searched[result.searched["state"] == "complete"]
    errors = zip(complete["error"].tolist(), complete["number"].tolist(), strict=True)
    error, number = min(errors, default=(None, None))
    return None if error is None else {"trial": number, "error": error}


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print it for a person."""
    console = results()
    total = sum(summary["trials"].values())
    draws = f" for {summary['draws']} draws" if summary["draws"] else ""
    took = f" in {summary['seconds']:.0f} s" if summary["seconds"] >= 1 else ""
    states = ", ".join(f"{n} {state}" for state, n in summary["trials"].items())
    told = f": {total} trial{'s' * (total != 1)} ({states}){draws}{took}\n"
    console.print(Text.assemble("\n", (printable(str(summary["name"])), "bold"), told))
    for failure in summary["failures"][:_MOST_FAILURES]:
        console.print(_failed(failure), style="yellow", markup=False, soft_wrap=True)
    if len(summary["failures"]) > _MOST_FAILURES:
        console.print("The report has the other reasons.", style="yellow")
    if summary["stopped"]:
        console.print(_stops(summary["stopped"], summary["lineage"]), soft_wrap=True)
        console.print()
    if summary["retrained"] is not None:
        print_retrained(console, summary["retrained"])
    elif summary["comparison"] is not None:
        print_methods(console, summary["comparison"])
    elif summary["study"] is not None:
        print_study(console, summary["study"])
        if summary["best"] is not None:
            console.print()
            _print_best(console, summary)
    else:
        if not _says_nothing(summary["lineage"]):
            console.print(_lineage_table(summary["lineage"]))
            console.print()
        _print_best(console, summary)
    for note in summary["notes"]:
        console.print(note, style="yellow")
    console.print(f"\nTrial database  {summary['database']}", soft_wrap=True)
    console.print(f"Report          {summary['report']}", soft_wrap=True)


def _failed(failure: Mapping[str, Any]) -> str:
    """A reason with the first of the trials that failed for it."""
    numbers = failure["trials"]
    listed = ", ".join(map(str, numbers[:_MOST_LISTED])) + (", ..." if len(numbers) > _MOST_LISTED else "")
    which = f"trial {listed}" if len(numbers) == 1 else f"{len(numbers)} trials ({listed})"
    return printable(f"Failed: {which}: {failure['reason'][:_MOST_LETTERS]}")


def _stops(stopped: Sequence[Mapping[str, Any]], lineage: Sequence[Mapping[str, Any]]) -> str:
    """When the scheduler stopped trials, and what that means for the rest of the summary."""
    told = ", ".join(f"{row['trials']} after epoch {row['epoch']}" for row in stopped)
    if any(space["auc"] is not None for space in lineage):
        meaning = "in the AUC those stand for them that chance let go on."
    else:
        meaning = "the trials that were left to finish are no sample of the space, so there is no AUC."
        chance = [str(space["refused"]) for space in lineage if "epsilon" in str(space["refused"])]
        if chance:
            meaning = f"there is no AUC: {chance[0]}"
    return (
        f"Stopped by the scheduler: {told}. Their errors are those of that epoch and count for nothing below; "
        f"{meaning}"
    )


def _says_nothing(lineage: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a table would hold one infinite space without an AUC."""
    return all(space["auc"] is None and space["classes"] is None for space in lineage) and len(lineage) <= 1


def _lineage_table(lineage: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    estimated = any(space["auc"] is not None for space in lineage)
    table.add_column("space")
    table.add_column("classes", justify="right")
    if estimated:
        table.add_column("AUC", justify="right")
    table.add_column("how it came about")
    for space in lineage:
        classes = "infinite" if space["classes"] is None else f"{space['classes']:,}"
        auc = "" if space["auc"] is None else f"{space['auc']:.2f}"
        if space["auc_interval"] is not None:
            auc += " [{:.2f}, {:.2f}]".format(*space["auc_interval"])
        told = Text("the whole space")
        if space["restriction"]:
            told = Text(printable(f"{space['parent'] or 'the whole space'} with {space['restriction']}"))
        if space["reason"]:
            told.append(printable(f"\n{space['reason']}"), style="dim")
        table.add_row(space["space"], classes, *([auc] if estimated else []), told)
    return table


def _print_best(console: Console, summary: Mapping[str, Any]) -> None:
    best, lowest = summary["best"], summary["lowest"]
    if best is not None:
        home = "" if best["space"] is None else f" of space {best['space']}"
        spread = "" if best["spread"] is None else f" ± {best['spread']:.2f}"
        of = f"mean{' ± standard deviation' * (best['trainings'] > 1)} of {best['trainings']}"
        trained = f"{spread} ({of} training{'s' * (best['trainings'] != 1)})"
        error = (f"{best['error']:.2f} %", "bold")
        console.print(Text.assemble(printable(f"Best{home}: validation error "), error, trained))
        console.print(f"  {best['text']}", markup=False, soft_wrap=True)
        weights = _weights(best)
        if weights:
            console.print(f"  learned weights at the end: {weights}", markup=False, soft_wrap=True)
    if lowest is not None:
        console.print(f"Lowest error of a single training: {lowest['error']:.2f} % (trial {lowest['trial']})")
        if summary["confirmed"] is not None:
            console.print(summary["confirmed"]["text"], markup=False, soft_wrap=True)
    else:
        console.print("No trial was completed, so there is no best one; the report says what became of them.")
