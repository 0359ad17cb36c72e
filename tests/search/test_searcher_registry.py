"""The registry of searchers: kinds of this package and of others, and what a sweep file is told of broken ones."""

from __future__ import annotations

from importlib import metadata
from typing import Literal

import pytest

from kdsearch.search.config import SweepFile, load_sweep, parse_sweep
from kdsearch.search.searcher_settings import SearcherSection
from kdsearch.search.searchers import SearcherKind, registry
from kdsearch.search.searchers.random_search import KIND as RANDOM
from kdsearch.search.searchers.registry import BUILT_IN, assemble
from kdsearch.spaces.errors import UsageError


class OtherSettings(SearcherSection):
    kind: Literal["other"]


OTHER = SearcherKind(OtherSettings, build=lambda settings, task: None)


class Entry:
    """An entry point that loads without an installed package."""

    def __init__(self, name, found, package="acme"):
        self.name, self.found, self.value = name, found, f"{package}.module:KIND"
        self.dist = type("Distribution", (), {"name": package})()

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_kinds_of_other_packages_stand_beside_those_of_this_one():
    found = assemble(BUILT_IN, [Entry("other", OTHER)])
    assert list(found.kinds) == [*(kind.name for kind in BUILT_IN), "other"]
    assert not found.broken


def test_two_kinds_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two searchers are called random"):
        assemble([RANDOM, RANDOM], [])


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry("random", RANDOM), "the name is taken twice, by kdsearch and by acme"),
        (Entry("other", ImportError("no torch")), "acme.module:KIND of acme: ImportError: no torch"),
        (Entry("other", OtherSettings), "which is no SearcherKind"),
        (Entry("another", OTHER), "the entry point is called another, and the kind other"),
    ],
)
def test_an_entry_point_that_cannot_be_used_concerns_its_own_kind_alone(entry, reason):
    found = assemble([RANDOM], [entry])
    assert list(found.kinds) == ["random"]
    with pytest.raises(UsageError, match=f"the searcher {entry.name} cannot be used") as error:
        found.check(entry.name)
    assert reason in error.value.message
    found.check("anything else")


def test_two_packages_with_one_name_make_it_unusable():
    found = assemble([], [Entry("other", OTHER, "acme"), Entry("other", OTHER, "zenith")])
    assert "by acme and by zenith" in found.broken["other"]


def test_a_kind_without_a_name_is_refused():
    class Nameless(SearcherSection):
        pass

    with pytest.raises(UsageError, match="Nameless does not name its kind"):
        _ = SearcherKind(Nameless, build=lambda settings, task: None).name


def test_a_sweep_file_is_told_of_a_broken_kind_and_of_the_known_ones(monkeypatch):
    broken = assemble(BUILT_IN, [Entry("other", ImportError("no torch"))])
    monkeypatch.setattr("kdsearch.search.config.registry", lambda: broken)
    data = load_sweep("ktg-digits").resolved()
    with pytest.raises(UsageError, match=r"here: the searcher other cannot be used: .*no torch"):
        parse_sweep({**data, "searcher": {"kind": "other"}}, "here")
    with pytest.raises(UsageError, match="unknown searcher 'anther'; known: 'refinement', 'random'"):
        parse_sweep({**data, "searcher": {"kind": "anther"}}, "here")


def test_every_kind_is_in_the_schema_of_sweep_files():
    schema = SweepFile.model_json_schema()
    tags = schema["properties"]["searcher"]["discriminator"]["mapping"]
    assert set(tags) == set(registry.registry().kinds)


def test_entry_points_are_those_of_the_group():
    assert registry.GROUP == "kdsearch.searchers"
    assert isinstance(metadata.entry_points(group=registry.GROUP), metadata.EntryPoints)
