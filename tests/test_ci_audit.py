"""What `.ci/audit` makes of a report of pip-audit, without pip-audit and without a network."""

from __future__ import annotations

import sys
from datetime import date
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

LOADER = SourceFileLoader("audit", str(Path(__file__).parents[1] / ".ci" / "audit"))
AUDIT = module_from_spec(spec_from_loader("audit", LOADER))
sys.modules["audit"] = AUDIT  # where its dataclass looks for its annotations
LOADER.exec_module(AUDIT)

TODAY = date(2026, 11, 29)
KNOWN = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"]}


def package(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "version": "1.0", "vulns": [], **more}


def told(packages: list[dict[str, object]], exceptions: str = "") -> tuple[int, str]:
    code, lines = AUDIT.verdict({"dependencies": packages}, AUDIT.allowed(exceptions), TODAY)
    return code, "\n".join(lines)


def test_packages_without_a_known_vulnerability_pass():
    assert told([package("a"), package("b")]) == (0, "2 of 2 packages audited: none is vulnerable.")


def test_a_vulnerability_fails_and_is_named():
    code, text = told([package("a"), package("b", vulns=[KNOWN])])
    assert code == 1
    assert "VULNERABLE: b 1.0: PYSEC-1, CVE-2026-1; fixed in 2.0" in text


def test_an_exception_holds_by_any_of_its_names_until_its_day():
    code, text = told([package("b", vulns=[KNOWN])], "CVE-2026-1 2026-11-29 never called  # as of today\n")
    assert code == 0
    assert "let be until 2026-11-29: b 1.0: PYSEC-1, CVE-2026-1 (never called" in text
    code, text = told([package("b", vulns=[KNOWN])], "CVE-2026-1 2026-11-28 never called\n")
    assert code == 1
    assert "its exception ended on 2026-11-28" in text


def test_an_exception_that_nothing_needs_is_told():
    assert "an exception that nothing needs: X-1" in told([package("a")], "X-1 2027-01-01 old\n")[1]


def test_a_service_that_knows_no_package_is_no_clean_bill():
    unknown = {"name": "a", "skip_reason": "Dependency not found on PyPI and could not be audited: a (1.0)"}
    code, text = told([unknown])
    assert code == 0
    assert text.startswith("NOT AUDITED")
    code, text = told([unknown, package("b")])
    assert code == 0
    assert "not audited, as the service does not know them: a" in text
    assert "1 of 2 packages audited" in text


@pytest.mark.parametrize("line", ["X-1", "X-1 soon never", "X-1 2026-13-01 never", "X-1 2026-01-01"])
def test_an_exception_has_a_day_and_a_reason(line):
    with pytest.raises(SystemExit, match="line 1: expected ID YYYY-MM-DD reason"):
        AUDIT.allowed(line)


def test_the_exceptions_that_stand_can_be_read():
    AUDIT.allowed(AUDIT.EXCEPTIONS.read_text(encoding="utf-8"))


def test_what_is_not_reached_is_told_and_passes(capsys):
    assert AUDIT.unreachable("first\nno route to host\n") == 0
    assert capsys.readouterr().out == "NOT AUDITED: no route to host\n"
