"""What a trial database says of a sweep but for times and attempts: what no interruption may change.

Attempts leave two traces that are left out with them: their numbers, and what a scheduler says of a trial that comes to
a rung once more, where the first decision stands (as an event, and as the reason in the message of a stopped trial; the
first event has the reason, and is kept).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3

_TIMES = ("seconds", "train_seconds", "images_per_s")  # metrics that measure a machine
_QUERIES = {
    "sweep": "SELECT kind, trainable, settings, seed, state FROM sweep s WHERE name = :name",
    "spaces": "SELECT d.name, parent, restriction, specification, hash, exhaustive, repeats FROM design_space d "
    "JOIN sweep s ON s.id = sweep_id WHERE s.name = :name ORDER BY d.id",
    "trials": "SELECT number, role, configuration, orbit_size, t.seed, sampling_design, inclusion_probability, "
    "t.state, error, best_error, best_epoch, last_epoch, message, plan FROM trial t JOIN sweep s ON s.id = sweep_id "
    "WHERE s.name = :name ORDER BY number",
    "draws": "SELECT d.name, draw, number, fresh FROM draw w JOIN design_space d ON d.id = w.space_id "
    "JOIN sweep s ON s.id = w.sweep_id WHERE s.name = :name ORDER BY d.id, draw",
    "metrics": "SELECT number, m.name, step, value, nonfinite FROM metric_value v JOIN metric m ON m.id = metric_id "
    "JOIN sweep s ON s.id = sweep_id WHERE s.name = :name ORDER BY number, m.name, step",
    "events": "SELECT e.kind, data FROM event e JOIN sweep s ON s.id = sweep_id WHERE s.name = :name ORDER BY n",
}


def standing(path, name="s"):
    """Table -> rows of one sweep of an SQLite file."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        found = {
            table: database.execute(query, {"name": name}).fetchall() for table, query in _QUERIES.items()
        }
    found["metrics"] = [row for row in found["metrics"] if row[1].rpartition("/")[2] not in _TIMES]
    found["trials"] = [
        (*row[:12], row[12].partition(":")[0] if row[7] == "stopped" else row[12], *row[13:])
        for row in found["trials"]
    ]
    found["events"] = list(_first_verdicts((kind, json.loads(data)) for kind, data in found["events"]))
    return found


def _first_verdicts(events):
    judged = set()
    for kind, data in events:
        if kind == "scheduler":
            where = (data["trial"], data["rung"])
            if where in judged and "once more" in data["reason"]:
                continue
            judged.add(where)
            data.pop("attempt")
        yield kind, data


def broken(path, name="s", *, epochs=None):
    """What is wrong with a finished sweep, whatever the order of its results; epochs: of a trial that is complete.

    Every trial ended once, by its newest attempt; every epoch up to its last one is there once; every draw is
    answered; every attempt ended.
    """
    found = standing(path, name)
    wrong = []
    steps = {}
    for number, metric, step, *_ in found["metrics"]:
        steps.setdefault((number, metric), []).append(step)
    for row in found["trials"]:
        number, state, last, message = row[0], row[7], row[11], row[12]
        if state not in {"complete", "stopped", "diverged"}:
            wrong.append(f"trial {number} is {state}: {message}")
        curve = next((each for (n, metric), each in steps.items() if n == number and "error" in metric), [])
        if not message.startswith("reused") and curve != list(range(1, last + 1)):
            wrong.append(f"trial {number} ended after epoch {last} and has {curve}")
        if state == "complete" and epochs is not None and row[1] == "search" and last != epochs:
            wrong.append(f"trial {number} is complete after {last} epochs")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        wrong += [
            f"attempt {n} of trial {number} did not end"
            for number, n in database.execute(
                "SELECT number, n FROM attempt a JOIN sweep s ON s.id = sweep_id WHERE s.name = ? AND a.ended IS NULL",
                (name,),
            )
        ]
        wrong += [
            f"trial {number} has {ended} attempts that ended it"
            for number, ended in database.execute(
                "SELECT number, count(*) FROM attempt a JOIN sweep s ON s.id = sweep_id WHERE s.name = ? "
                "AND reason IN ('complete', 'stopped', 'diverged', 'failed') GROUP BY number HAVING count(*) <> 1",
                (name,),
            )
        ]
    return wrong
