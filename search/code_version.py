"""Which code runs: the installed version, with the commit where it is run from its git checkout."""

from __future__ import annotations

import os
import subprocess
from importlib import metadata
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[1]  # of an installed package: a folder that is no checkout
_PATIENCE_S = 10.0
_DIGITS = 12  # of the commit


def code_version(checkout: Path = _CHECKOUT) -> str:
    """Return `0.2.0`, or in a git checkout `0.2.0+g1a2b3c4d5e6f`, with `.changed` if files differ from the commit.

    Only a checkout whose top folder is `checkout` counts: not one of another project around an installed package.
    Never raises: without git, or where git refuses, it is the installed version alone.
    """
    version = metadata.version("kdsearch")
    if not (checkout / ".git").exists():
        return version
    commit = _git(checkout, "rev-parse", "--verify", "HEAD")
    if not commit:
        return version
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return f"{version}+g{commit[:_DIGITS]}{'.changed' if changed else ''}"


def _git(checkout: Path, *arguments: str) -> str | None:
    """What git says, without looking for another repository in the environment; None if it cannot say it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # a look must not stand in the way of somebody's commit
    try:
        done = subprocess.run(  # noqa: S603 the arguments are constants
            ["git", "-C", str(checkout), *arguments],  # noqa: S607 git is where the user has it
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=_PATIENCE_S,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
