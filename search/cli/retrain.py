"""`kdsearch retrain`: a trial of a search in full, on the test part, beside what it must be compared with."""

from __future__ import annotations

from typing import Any

import click

from kdsearch.analysis.retrained import undecidable
from kdsearch.analysis.wording import plural
from kdsearch.search.cli.common import messages, set_option
from kdsearch.search.cli.databases import open_to_read
from kdsearch.search.cli.run import launch_sweep
from kdsearch.search.cli.running import run_options
from kdsearch.search.config import RetrainSettings, SweepFile
from kdsearch.search.retrain import Wish, retraining_of


@click.command("retrain", short_help="Train a trial anew in full and measure it on the test part.")
@click.argument("sweep", metavar="NAME")
@click.option(
    "--trial", type=click.IntRange(min=0), help="Number of the trial; default: the best one of the search."
)
@click.option("--against", type=click.IntRange(min=0), help="Another trial of the sweep to compare it with.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1, max=1000),
    default=5,
    show_default=True,
    help="Trainings of each version.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="NAME",
    help="Data set, or '{name: NAME, train_size: N, ...}'. Repeatable; default: the sweep's own.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs; default: those of the sweep.")
@click.option(
    "--train-on",
    type=click.Choice(["all", "training"]),
    help="all: training and validation images together; default: all, where the trainable can.",
)
@set_option
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing, run nothing.")
@click.option("--seed", type=click.IntRange(min=0, max=2**63 - 1), help="Seed; default: the sweep's.")
@click.option(
    "--name", help="Name of the retraining in the database; default: NAME-retrain, numbered if taken."
)
@run_options
def retrain(sweep: str, **options: Any) -> None:
    """Train a trial of the sweep NAME anew, in full, with several seeds, and measure it on the test part.

    A graph is trained beside the same nodes with every edge through, and beside its target with the label alone.
    """
    wish = Wish(
        **{
            key: options[key]
            for key in ("trial", "against", "seeds", "data", "epochs", "train_on", "changes", "seed")
        }
    )
    with open_to_read(options["db"]) as database:
        planned = retraining_of(database, sweep, wish)
    if not options["as_json"]:
        _tell(planned)
    launch_sweep(planned, "retrain", options)


def _tell(planned: SweepFile) -> None:
    """Say what was chosen, how much is trained, and what that can decide, before anything runs."""
    searcher, console = planned.searcher, messages()
    if not isinstance(searcher, RetrainSettings):
        raise TypeError(searcher)
    if searcher.chosen is not None:
        console.print(searcher.chosen.words, markup=False, soft_wrap=True)
    versions, sets = len(searcher.versions), len(searcher.labels)
    over = f" on {plural(sets, 'data set')}" if searcher.data else ""
    console.print(
        f"{plural(versions, 'version')} ({', '.join(searcher.versions)}), {plural(searcher.seeds, 'seed')} each{over}: "
        f"{plural(versions * sets * searcher.seeds, 'training')}.",
        markup=False,
        soft_wrap=True,
    )
    few = undecidable(searcher.seeds, sets, planned.statistics.alpha) if versions > 1 else ""
    if few:
        console.print(few, style="yellow", markup=False, soft_wrap=True)
