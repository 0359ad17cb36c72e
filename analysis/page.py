"""The page of a report: results, figures and sentences put into the template."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kdsearch.analysis import story, story_methods, story_retrained, wording
from kdsearch.analysis.bars import Scale
from kdsearch.analysis.comparison import Difference, auc_difference
from kdsearch.analysis.conditions import ConditionRow
from kdsearch.analysis.figure_style import Drawing, inline_svg
from kdsearch.analysis.frames import COMPLETE, PRETRAIN, SEARCH, UNLUCKY, of_confirmation
from kdsearch.analysis.page_methods import MethodsView, method_matrix, methods_view
from kdsearch.analysis.paths import PathEnd, PathFigure, path_ends, paths
from kdsearch.analysis.results import SpaceResult, SweepResult
from kdsearch.analysis.sweep_kinds import CONFIRMATION
from kdsearch.analysis.tables import curves_whole
from kdsearch.spaces import Graph

_TEMPLATES = Path(__file__).parent / "templates"
MESSAGES = 12  # messages of diverged and failed trials that the page shows
_STATES = ("complete", "diverged", "failed", "stopped", "running", "paused", "waiting", "lost")
_FIRST_GROUP = "label->target"  # Table IV of the paper


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The paper's Table II: conditions in rows by group, spaces in columns."""

    spaces: tuple[SpaceResult, ...]
    groups: tuple[tuple[str, tuple[tuple[str, tuple[ConditionRow | None, ...]], ...]], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepView:
    """Everything that the template shows of one sweep."""

    key: str  # prefix of the sections' identifiers
    result: SweepResult
    figures: Mapping[str, Drawing]
    headline: Markup
    chapters: tuple[tuple[SpaceResult, list[Markup]], ...]
    overview: Overview
    states: tuple[
        tuple[str, int, int, int], ...
    ]  # state; trials of the search, pre-trainings, trainings anew
    messages: tuple[tuple[str, str, list[int]], ...]  # state, message, trials; the most frequent first
    more_messages: int  # further ones that the page does not show
    settings: str
    things: str
    thing: str
    parameters: tuple[str, ...]  # those that trials of the search have
    methods: MethodsView | None  # of a sweep that compares methods
    paths: tuple[PathFigure, ...]
    ends: tuple[PathEnd, ...]
    sized: bool  # some space has a number to tell of its size
    sampled: bool  # some space has draws that are a sample of it
    retrained_legend: tuple[str, ...]  # what the table of a retraining means
    version_words: Mapping[str, str]  # each of its versions in words


def render(
    results: Sequence[SweepResult], figures: Sequence[Mapping[str, Drawing]], comparison: Drawing | None
) -> str:
    """The whole page as HTML."""
    views = [
        _view(result, drawn, f"s{i}-" if len(results) > 1 else "")
        for i, (result, drawn) in enumerate(zip(results, figures, strict=True), start=1)
    ]
    environment = page_environment()
    environment.globals.update(
        figure=inlined,
        scale=_scale,
        first_group=_first_group,
        reached=story.reached,
        told_apart=story.told_apart,
        drawn_conditions=story.drawn_conditions,
        ended=story.ended,
    )
    return environment.get_template("report.html.j2").render(
        views=views,
        title=_title(results),
        comparison=comparison,
        comparisons=_comparisons(results),
        left_out=_left_out(results),
        compared=story.compared(list(results)),
        matrix=method_matrix(results),
        estimating=any(not result.compares for result in results),
        comparing=any(result.compares and result.retrained is None for result in results),
        retraining=any(result.retrained is not None for result in results),
        moving=any(result.trajectories for result in results),
        curves_whole=curves_whole(results),
    )


def page_environment() -> Environment:
    """The templates, with the filters that turn numbers into words."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "percent",
        "signed",
        "interval",
        "p_value",
        "count",
        "plural",
        "duration",
        "heading",
        "needed",
        "moment",
        "listed",
        "arrow",
        "value",
    ):
        environment.filters[name] = getattr(wording, name)
    environment.filters["number"] = _number
    environment.filters["time"] = _time
    return environment


def _view(result: SweepResult, figures: Mapping[str, Drawing], key: str) -> SweepView:
    told = messages(result)
    return SweepView(
        key=key,
        result=result,
        figures=figures,
        headline=_headline(result),
        chapters=tuple((space, story.chapter(result, space)) for space in result.spaces),
        overview=_overview(result),
        states=_states(result),
        messages=told[:MESSAGES],
        more_messages=max(0, len(told) - MESSAGES),
        settings=settings_text(result.record.settings),
        things=story.thing(result),
        thing=story.thing(result, 1),
        parameters=tuple(name for name in result.parameters if result.searched[name].notna().any()),
        methods=methods_view(result, _STATES) if result.compares else None,
        paths=paths(result.trajectories),
        ends=path_ends(result.trajectories),
        sized=any(size is not None for space in result.spaces for size in space.record.counts.values()),
        sampled=any(one.population.drawn and not one.population.refused for one in result.spaces),
        retrained_legend=() if result.retrained is None else tuple(story_retrained.legend(result.retrained)),
        version_words=_versions(result),
    )


def _headline(result: SweepResult) -> Markup:
    if result.retrained is not None:
        return story_retrained.headline(result.retrained)
    return story_methods.headline(result) if result.compares else story.headline(result)


def _versions(result: SweepResult) -> dict[str, str]:
    """Each version of a retraining: a graph in a line, or values by parameter."""
    found = result.retrained
    spec = result.record.spaces[-1].spec if result.record.spaces else {}
    versions = found.versions if found is not None else {}
    return {name: version_text(values, spec.get("target")) for name, values in versions.items()}


def version_text(values: Mapping[str, Any], target: str | None) -> str:
    """A configuration in a line; target: the model of a graph's node 1, None where it is no graph."""
    if target is None:
        return ", ".join(f"{name} = {wording.value(item)}" for name, item in values.items())
    if "model.1" in values:
        return f"{values['model.1']} with the label alone"
    return Graph.from_configuration(values, target).to_text()


def _title(results: Sequence[SweepResult]) -> str:
    if len(results) > 1:
        return "Sweeps " + wording.listed([result.record.name for result in results])
    record = results[0].record
    return str(record.settings.get("title") or record.name)


def _number(value: float | None, digits: int = 2) -> Markup:
    """A number for reading that carries its full value, the same text as in the CSV files."""
    if value is None or not math.isfinite(value):
        return Markup("{}").format(wording.NONE)
    return Markup('<data value="{}">{}</data>').format(repr(float(value)), wording.percent(value, digits))


def _time(seconds: float | None) -> Markup:
    """A time that carries its full value in seconds."""
    if seconds is None or not math.isfinite(seconds):
        return Markup("{}").format(wording.NONE)
    return Markup('<data value="{}">{}</data>').format(repr(float(seconds)), wording.short_time(seconds))


def inlined(drawing: Drawing, label_id: str) -> Markup:
    """A figure as a piece of the page, named by the element `label_id`."""
    return Markup(inline_svg(drawing, label_id))  # noqa: S704 - matplotlib escapes text, the rest is made here


def _scale(space: SpaceResult) -> Scale:
    """One scale for all conditions of a space, with the whole space on it."""
    values = [
        value for row in space.conditions for value in (row.auc, row.low, row.high) if value is not None
    ]
    values += [space.auc] if space.auc is not None else []
    return Scale.around(values)


def _first_group(rows: Sequence[ConditionRow]) -> list[ConditionRow]:
    """Rows with the paper's group of Table IV first."""
    return sorted(rows, key=lambda row: row.group != _FIRST_GROUP)


def _overview(result: SweepResult) -> Overview:
    spaces = tuple(space for space in result.estimated if space.conditions)
    cells = {(i, row.group, row.value): row for i, space in enumerate(spaces) for row in space.conditions}
    groups: dict[str, dict[str, None]] = {}
    for space in spaces:
        for row in space.conditions:
            groups.setdefault(row.group, {}).setdefault(row.value)
    return Overview(
        spaces=spaces,
        groups=tuple(
            (
                group,
                tuple(
                    (value, tuple(cells.get((i, group, value)) for i in range(len(spaces))))
                    for value in values
                ),
            )
            for group, values in groups.items()
        ),
    )


def _states(result: SweepResult) -> tuple[tuple[str, int, int, int], ...]:
    trials = result.trials
    roles = trials["role"].astype(object).where(~of_confirmation(trials), CONFIRMATION)
    table = Counter(zip(trials["state"], roles, strict=True))
    rows = [
        (state, table[state, SEARCH], table[state, PRETRAIN], table[state, CONFIRMATION]) for state in _STATES
    ]
    return tuple(row for row in rows if any(row[1:]) or row[0] in (COMPLETE, *UNLUCKY))


def messages(result: SweepResult) -> tuple[tuple[str, str, list[int]], ...]:
    """Why trials diverged or failed, equal reasons together."""
    unlucky = result.trials[result.trials["state"].isin(UNLUCKY)]
    found: dict[tuple[str, str], list[int]] = {}
    for number, state, message in zip(
        unlucky["number"], unlucky["state"], unlucky["message"].fillna(""), strict=True
    ):
        found.setdefault((str(state), str(message)), []).append(int(number))
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), item[1][0]))
    return tuple((state, message, numbers) for (state, message), numbers in ranked)


def _comparisons(results: Sequence[SweepResult]) -> list[tuple[SweepResult, SpaceResult, Difference | None]]:
    """Each sweep's last space, with its difference to that of the first sweep that has one."""
    rows: list[tuple[SweepResult, SpaceResult, Difference | None]] = []
    for result in results:
        if not result.estimated:
            continue
        space = result.estimated[-1]
        rows.append((result, space, _against(rows[0][0], rows[0][1], result, space) if rows else None))
    return rows


def _left_out(results: Sequence[SweepResult]) -> list[tuple[str, str]]:
    """The sweeps that have no error distribution, and why."""
    return [(result.record.name, _why_left_out(result)) for result in results if not result.estimated]


def _why_left_out(result: SweepResult) -> str:
    if result.retrained is not None:
        return "A retraining, which searches nothing."
    if result.compares:
        return "A comparison of methods, whose configurations are no sample of a space."
    return story.no_sample(result)


def _against(
    base: SweepResult, first: SpaceResult, result: SweepResult, space: SpaceResult
) -> Difference | None:
    same = (base.record.a, base.record.tau) == (result.record.a, result.record.tau)
    if not same or min(len(first.population.errors), len(space.population.errors)) < 2:  # noqa: PLR2004
        return None
    x, y = space.population, first.population
    return auc_difference(
        x.errors,
        y.errors,
        x.weights,
        y.weights,
        a=base.record.a,
        tau=base.record.tau,
        alpha=base.record.alpha,
    )


def settings_text(settings: Mapping[str, Any]) -> str:
    """A sweep's settings as YAML."""
    text: str = yaml.safe_dump(_plain(settings), sort_keys=False, allow_unicode=True, width=100)
    return text


def _plain(value: Any) -> Any:
    """Mappings and sequences as YAML writes them, other values as text where it must be."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
