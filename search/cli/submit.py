"""`kdsearch submit`: run a sweep on a cluster, as a job that outlives this command; follow one that runs."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from kdsearch.search.cli.common import (
    debug_option,
    json_option,
    messages,
    print_json,
    set_option,
    version_text,
)
from kdsearch.search.config import RefinementSettings, load_sweep, parse_sweep
from kdsearch.search.runner import Interrupted, RunnerError
from kdsearch.search.searchers import interactive
from kdsearch.search.submission import (
    DATABASE,
    DEFAULT_WORK,
    SWEEP,
    WORK_VARIABLE,
    JobOptions,
    Submission,
    make_submission,
)
from kdsearch.spaces.errors import UsageError
from kdsearch.spaces.printable import printable

if TYPE_CHECKING:
    from kdsearch.search.runner_jobs import Job, Jobs

NOT_FOUND, WRONG_USE = 127, 2  # exit codes of a shell without the command, and of kdsearch
_FORWARDED = ("data_root", "storage", "out", "max_concurrent", "wait_for_nodes")  # as they are, to the job
_OPEN = "--allow-open-cluster"


@click.command("submit", short_help="Run a sweep on a cluster, as a job that outlives this command.")
@click.argument("preset_or_file", required=False)
@click.option(
    "--address",
    metavar="URL",
    required=True,
    envvar="RAY_API_SERVER_ADDRESS",
    show_envvar=True,
    help="The cluster's Jobs API: http://HEAD:8265.",
)
@click.option("--follow", metavar="ID", help="Follow this job instead of submitting one.")
@click.option("--stop", metavar="ID", help="Stop this job; its sweep can be gone on with.")
@click.option("--detach", is_flag=True, help="Do not follow the job.")
@click.option(
    "--db",
    metavar="URL",
    help="Trial database as the job reaches it, without a password; default: as the cluster's environment says, "
    "or a file in the job's folder on the head node.",
)
@click.option("--name", help="Name of the sweep in the database; default: the file's. It is never numbered.")
@set_option
@click.option("--seed", type=click.IntRange(min=0, max=2**63 - 1), help="Seed of the sweep.")
@click.option("--data-root", metavar="DIR", help="Folder of the data sets on the cluster's nodes.")
@click.option(
    "--storage",
    metavar="FOLDER|URL",
    help="Where checkpoints and weights lie: a folder that all nodes share, or s3://, gs://, hdfs://, ...",
)
@click.option("--out", metavar="DIR", help="Folder for the report, on the node where the job runs.")
@click.option("--max-concurrent", type=click.IntRange(min=1), help="Packs at a time; default: what fits.")
@click.option(
    "--wait-for-nodes",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Let the job wait so long for nodes that a pack fits on.",
)
@click.option(
    _OPEN,
    "allow_open",
    is_flag=True,
    help="Submit to a cluster that asks for no token, where anyone who reaches it can run code.",
)
@json_option
@debug_option
def submit(
    preset_or_file: str | None,
    address: str,
    follow: str | None,
    stop: str | None,
    detach: bool,  # noqa: FBT001 click passes flags by name
    as_json: bool,  # noqa: FBT001 likewise
    **options: Any,
) -> int:
    """Run a sweep on a cluster through Ray's Jobs API, and follow its log.

    The sweep is begun, or gone on with where the cluster's database has it already. Ctrl-C ends this command, not the
    job. Ends with the job's exit code.
    """
    from kdsearch.search.runner_jobs import Jobs  # noqa: PLC0415 imports Ray

    known = follow or stop
    if known is not None:
        _check_alone("follow" if follow is not None else "stop")
    submission = _submission(preset_or_file, options) if known is None else None
    jobs = Jobs(address, allow_open=options["allow_open"])
    job = jobs.job(str(known)) if submission is None else jobs.submit(submission)
    if submission is not None:
        _say(f"{submission.name} is job {job.id} at {jobs.address}; {_where(submission.database)}")
    if stop is not None:
        job = _stopped(jobs, job)
    elif detach:
        _say(_how(job.id, jobs.address))
    else:
        job = _followed(jobs, job, quiet=as_json)
    if as_json:
        print_json(_summary(jobs, job))
    return job.code if job.ended and stop is None else 0


def _submission(preset_or_file: str | None, options: dict[str, Any]) -> Submission:
    """The job that the command line asks for, checked as `kdsearch sweep` checks it."""
    if preset_or_file is None:
        raise UsageError(
            "there is no sweep to submit", "Give a preset or a file, or --follow ID, or --stop ID."
        )
    sweep = load_sweep(preset_or_file, options["changes"], options["seed"])
    sweep = parse_sweep({**sweep.resolved(), "name": options["name"] or sweep.name}, "the sweep")
    refines = isinstance(sweep.searcher, RefinementSettings)
    if isinstance(sweep.searcher, RefinementSettings) and interactive(sweep.searcher):
        raise UsageError(
            "the interactive policy needs a terminal, and a job has none",
            "Use --set searcher.policy=best-auc or --set searcher.policy=significant instead.",
        )
    return make_submission(
        sweep,
        "refine" if refines else "sweep",
        JobOptions(db=options["db"], options=_forwarded(options)),
        user=getpass.getuser(),
        host=socket.gethostname(),
        version=version_text(),
    )


def _forwarded(options: dict[str, Any]) -> list[str]:
    """What the job is told as this command was."""
    given = [(key, options[key]) for key in _FORWARDED if options[key] is not None]
    words = [word for key, value in given for word in (f"--{key.replace('_', '-')}", str(value))]
    return [*words, _OPEN] if options["allow_open"] else words


def _check_alone(option: str) -> None:
    """Refuse what asks for a new job beside one that is followed or stopped."""
    context = click.get_current_context()
    words = {"preset_or_file": "a sweep", "changes": "--set"}
    given = [
        words.get(name, f"--{name.replace('_', '-')}")
        for name in context.params
        if name not in {option, "address", "as_json", "allow_open"}
        and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(
            f"--{option} {context.params[option]} is given with {', '.join(given)}",
            f"--{option} goes with --address and --json alone.",
        )


def _stopped(jobs: Jobs, job: Job) -> Job:
    """Stop a job, if it runs."""
    if job.ended:
        _say(f"Job {job.id} runs no more. {_ending(job)}")
        return job
    job = jobs.stop(job.id)
    _say(_ending(job))
    return job


def _followed(jobs: Jobs, job: Job, *, quiet: bool) -> Job:
    """Show a job's log until it ends; on standard error where standard output is for JSON."""
    try:
        job = jobs.follow(job.id, lambda text: click.echo(printable(text), nl=False, err=quiet))
    except KeyboardInterrupt:
        raise Interrupted(f"no longer following; job {job.id} runs on", _how(job.id, jobs.address)) from None
    except RunnerError as error:
        error.hint = f"Job {job.id} may well run on. {_how(job.id, jobs.address)}"
        raise
    _say(_ending(job))
    return job


def _how(job: str, address: str) -> str:
    return (
        f"Follow it with: kdsearch submit --follow {job} --address {address}\n"
        f"Stop it with:   kdsearch submit --stop {job} --address {address}"
    )


def _where(database: str) -> str:
    if not database:
        return (
            f"its database is what KDSEARCH_DB or KDSEARCH_DB_FILE says on the head node, or kdsearch.db in "
            f"${WORK_VARIABLE} ({DEFAULT_WORK}) there."
        )
    return (
        f"its database is {database}{', a file on the head node' if database.startswith('sqlite') else ''}."
    )


def _ending(job: Job) -> str:
    """How a job ended, and what can be done."""
    if job.status == "SUCCEEDED":
        return f"Job {job.id} is done. Its files lie on the head node, in ${WORK_VARIABLE} ({DEFAULT_WORK}) there."
    again = "Submit the sweep again to go on from what its database holds."
    if job.status == "STOPPED":
        return f"Job {job.id} was stopped. {again}"
    if job.exit_code is None:
        return f"Job {job.id} failed: {' '.join(job.message.split())[:500]}\n{again}"
    if job.exit_code < 0:
        return f"The driver of job {job.id} was killed by signal {-job.exit_code}. {again}"
    if job.exit_code == NOT_FOUND:
        return f"Job {job.id} found no command kdsearch: it must be installed on the cluster's nodes, head included."
    if job.exit_code == WRONG_USE:
        again = (
            "Its last words say what is wrong. Variables such as KDSEARCH_DATA, KDSEARCH_DB_FILE and PGPASSFILE are "
            "those that the head node had when `ray start` ran there."
        )
    return f"Job {job.id} ended with exit code {job.exit_code}. {again}"


def _summary(jobs: Jobs, job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "address": jobs.address,
        "sweep": job.metadata.get(SWEEP),
        "database": job.metadata.get(DATABASE) or None,
        "status": job.status,
        "exit_code": job.code if job.ended else None,
    }


def _say(text: str) -> None:
    messages().print(text, markup=False, soft_wrap=True)
