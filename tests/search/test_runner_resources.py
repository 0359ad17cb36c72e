"""What fits on which node, and what is said where nothing does; no Ray."""

from __future__ import annotations

import pytest

from kdsearch.search.config import load_sweep
from kdsearch.search.runner_resources import RayOptions, bundle_of, counted, fitting, told
from kdsearch.spaces.errors import UsageError

SMALL = {"CPU": 2.0, "memory": 2.0**32, "node:10.0.0.1": 1.0, "node:__internal_head__": 1.0}
FAST = {"CPU": 8.0, "memory": 2.0**35, "fast": 3.0, "accelerator_type:A100": 1.0, "node:10.0.0.2": 1.0}


def options(resources=None, *, cpus=1, max_concurrent=None, address="here:6379", wait_s=0.0):
    return RayOptions(
        address=address,
        cpus=cpus,
        gpus=0,
        max_concurrent=max_concurrent,
        data_root=None,
        resources=resources or {},
        wait_s=wait_s,
    )


@pytest.mark.parametrize(
    ("resources", "packs"),
    [
        ({}, 10),
        ({"fast": 1}, 3),
        ({"fast": 0.3}, 8),  # ten by `fast`, eight by cores
        ({"fast": 2, "CPU": 1}, 1),
        ({"memory": 2.0**31}, 10),
        ({"memory": 2.0**34}, 2),
        ({"accelerator_type:A100": 0.001}, 8),
        ({"node:10.0.0.1": 0.001}, 2),
    ],
)
def test_every_resource_is_counted_node_by_node(resources, packs):
    own = {name: amount for name, amount in resources.items() if name != "CPU"}
    assert counted([SMALL, FAST], options(own)).fits == packs


def test_two_resources_on_two_nodes_are_on_none():
    nodes = [{**SMALL, "slow": 1.0}, FAST]
    with pytest.raises(UsageError, match=r"1 fast and 1 slow, and no node has that: 10 CPU cores") as caught:
        counted(nodes, options({"fast": 1, "slow": 1}))
    assert "10.0.0.1 has 2 CPU cores, 0 GPUs, 4 GiB of memory and 1 slow" in caught.value.message
    assert "run.resources" in caught.value.hint


def test_a_name_that_no_node_has_is_told_with_the_nearest_ones():
    with pytest.raises(UsageError, match="No node has any 'fats'") as caught:
        counted([SMALL, FAST], options({"fats": 1}))
    assert "did you mean 'fast'?" in caught.value.message
    assert "There are: CPU, accelerator_type:A100, fast, memory, node:10.0.0.1" in caught.value.message
    assert "ray start --resources" in caught.value.hint
    with pytest.raises(UsageError) as alone:
        counted([{"CPU": 2.0}], options({"fast": 1}, address=None))
    assert "--address" in alone.value.hint


def test_more_packs_than_fit_are_refused_unless_nodes_are_waited_for():
    with pytest.raises(UsageError, match=r"4 concurrent packs of .* do not fit: .* room for 3"):
        counted([SMALL, FAST], options({"fast": 1}, max_concurrent=4))
    assert counted([SMALL, FAST], options({"fast": 1}, max_concurrent=4, wait_s=9)).concurrency == 3
    assert counted([SMALL, FAST], options({"fast": 1}, max_concurrent=2)).concurrency == 2


def test_a_bundle_has_rays_names():
    assert bundle_of(options({"fast": 0.5}, cpus=2), 0.0) == {"CPU": 2, "fast": 0.5}
    assert bundle_of(options(), 0.5) == {"CPU": 1, "GPU": 0.5}
    assert fitting({"CPU": 0.0}, {"CPU": 1}) == 0
    assert told({"CPU": 2, "node:a": 0.001}) == "2 CPU cores, 0 GPUs and 0.001 node:a"


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ("{GPU: 1}", "GPU has a key of its own: run.gpus"),
        ("{fast: 0}", "fast must be above 0"),
        ("{fast: .nan}", "fast"),
        ("{fast: much}", "run.resources.fast"),
    ],
)
def test_resources_of_a_sweep_file_are_checked(resources, words):
    with pytest.raises(UsageError, match=words):
        load_sweep("ktg-digits", [f"run.resources={resources}"])
    assert load_sweep("ktg-digits", ["run.resources={memory: 2e9}"]).run.resources == {"memory": 2e9}


def test_what_packs_have_taken_is_not_among_a_nodes_resources():
    taken = {"bundle_group_0_5ac": 999.9, "bundle_group_5ac": 999.9, "CPU_group_5ac": 1, "fast": 1}
    assert told({"CPU": 2, **taken}) == "2 CPU cores, 0 GPUs and 1 fast"


@pytest.mark.parametrize(("gib", "words"), [(2, "2 GiB"), (0.5, "0.5 GiB"), (7453.2, "7,450 GiB")])
def test_memory_in_words(gib, words):
    assert told({"CPU": 1, "memory": gib * 2**30}).endswith(f"and {words} of memory")
