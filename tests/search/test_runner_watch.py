"""What the watch says of a cluster, and when it gives up: nodes, packs and the clock are the test's."""

from __future__ import annotations

import pytest

from kdsearch.search.notices import Notices
from kdsearch.search.runner import RunnerError
from kdsearch.search.runner_resources import RayOptions, Slots
from kdsearch.search.runner_watch import PATIENCE_S, Node, Watch

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


class Coordinator:
    """The part of it that the watch sees."""

    def __init__(self):
        self.packs, self.workers, self.events = (0, 1), 0, []
        self.notices = Notices("s", self.submit, lambda: None)

    def submit(self, operation):
        self.events += [row.data for row in operation.rows]

    def follow(self, workers):
        self.workers = workers


class Answer:
    def __init__(self, node, wrong=()):
        self.node, self.wrong = node, wrong


class Fleet:
    """Nodes that were asked."""

    def __init__(self, *fit):
        self.fit, self.asked, self.said, self.waiting = set(fit), [], [], set()
        self.most, self.full, self.place = 8, False, "/shared"

    @property
    def busy(self):
        return len(self.waiting) >= self.most

    def answers(self):
        said, self.said = self.said, []
        self.waiting -= {answer.node.id for answer in said}
        return said

    def ask(self, node):
        if self.full:
            return False
        self.asked.append(node.id)
        self.waiting.add(node.id)
        return True

    def is_asked(self, node_id):
        return node_id in self.waiting


class World:
    def __init__(self, *, limit=None, address="a:1", wait_s=0.0, fleet=None, fits=1):
        self.nodes, self.at, self.placed, self.ticks = [node("a")], 0.0, 0, 0
        self.coordinator = Coordinator()
        self.watch = Watch(
            self.coordinator,
            RayOptions(address=address, cpus=1, gpus=0, max_concurrent=limit, data_root=None, wait_s=wait_s),
            Slots(concurrency=fits, fits=fits, cpus=1, gpus=0, gpus_per_pack=0),
            self.tick,
            look=lambda: self.nodes,
            count_placed=lambda: self.placed,
            fleet=fleet,
            now=lambda: self.at,
        )

    def tick(self):
        self.ticks += 1

    def after(self, seconds):
        """Let time pass, with a look every second."""
        for _ in range(int(seconds)):
            self.at += 1
            self.watch()

    @property
    def whats(self):
        return [event["what"] for event in self.coordinator.events]


def node(name, cpus=1.0, free=None):
    return Node(id=name, name=name, total={"CPU": cpus}, free={"CPU": cpus if free is None else free})


def test_packs_that_no_node_can_run_are_told_once_and_when_it_is_over():
    world = World()
    world.after(5)
    assert world.whats == []
    world.nodes = []
    world.after(10)
    assert world.whats == ["node left", "no node fits"]
    assert "nothing runs, since no node of the cluster could run a pack" in world.coordinator.notices.texts[0]
    assert "there is no node" in world.coordinator.notices.texts[0]
    assert world.ticks
    world.nodes = [node("b", 0.5)]
    world.after(10)
    assert "b has 0.5 CPU cores" in world.coordinator.notices.texts[0]
    world.nodes = [node("c")]
    world.after(3)
    assert world.coordinator.notices.texts == ()
    assert world.whats[-1] == "placed"
    assert world.whats.count("no node fits") == 1


def test_what_others_hold_is_told_and_waited_for():
    world = World()
    world.nodes = [node("a", 2, free=0)]
    world.coordinator.packs = (1, 3)
    world.after(8)
    assert world.whats == []  # a pack may be about to begin
    world.after(10 * PATIENCE_S)
    assert world.whats == ["no room is free"]
    assert "1 of 2 packs run, since others hold the rest" in world.coordinator.notices.texts[0]
    assert "a has 0 CPU cores and 0 GPUs free" in world.coordinator.notices.texts[0]


def test_packs_that_keep_off_the_only_room_there_is_are_told():
    world = World()
    world.nodes = [node("a", 1), node("b", 1, free=0)]
    world.coordinator.packs, world.watch.kept_off = (1, 2), [["a"], ["a", "c"]]
    world.after(30)
    assert world.whats == ["room is free only where packs failed"]
    assert (
        "1 of 2 packs run, since those that wait have failed on the nodes"
        in world.coordinator.notices.texts[0]
    )
    world.watch.kept_off = [["a"], []]  # one that may go there
    world.after(2)
    assert world.whats[-1] == "placed"
    assert world.coordinator.notices.texts == ()


def test_packs_that_wait_on_for_another_reason_were_not_placed_in_between():
    world = World()
    world.nodes = [node("a", 1, free=0), node("b", 1, free=0)]
    world.coordinator.packs, world.watch.kept_off = (1, 2), [["a"]]
    world.after(12)
    assert world.whats == ["no room is free"]
    world.nodes = [node("a", 1), node("b", 1, free=0)]
    world.after(5)
    assert "others hold the rest" in world.coordinator.notices.texts[0]  # until the other reason has lasted
    world.after(8)
    assert world.whats == ["no room is free", "room is free only where packs failed"]
    assert "have failed on the nodes that have room" in world.coordinator.notices.texts[0]
    world.nodes = [node("a", 1, free=0), node("b", 1, free=0)]
    world.after(3)
    world.coordinator.packs = (2, 0)
    world.after(2)
    assert world.whats[2:] == ["placed"]
    assert world.coordinator.events[-1]["waited_s"] > 25
    assert world.coordinator.notices.texts == ()


def test_packs_that_are_starting_wait_for_nobody():
    world = World()
    world.nodes = [node("a", 2, free=0)]
    world.coordinator.packs, world.placed = (0, 4), 2
    world.after(60)
    assert world.whats == []


@pytest.mark.parametrize(("wait_s", "patience"), [(0.0, PATIENCE_S), (30.0, 30.0)])
def test_a_sweep_that_nobody_could_go_on_with_ends(wait_s, patience):
    world = World(wait_s=wait_s)
    world.nodes = []
    world.after(patience)
    with pytest.raises(RunnerError, match="no node could run a pack for") as caught:
        world.after(10)
    assert "kdsearch resume" in caught.value.hint


def test_a_sweep_waits_for_ever_if_told_so():
    world = World(wait_s=float("inf"))
    world.nodes = []
    world.after(20 * PATIENCE_S)
    assert world.whats == ["no node fits"]


@pytest.mark.parametrize(
    ("limit", "address", "fits", "workers", "room"),
    [
        (None, None, 2, 2, 4),
        (None, "a:1", 2, 2, 4),
        (1, None, 2, 1, 1),
        (2, None, 2, 2, 4),
        (2, "a:1", 2, 2, 2),  # a node may join: what is staged would run beyond the limit
        (4, "a:1", 2, 2, 4),  # the rest may come
    ],
)
def test_as_many_packs_are_handed_out_as_may_run(limit, address, fits, workers, room):
    watch = World(limit=limit, address=address, fits=fits).watch
    assert (watch.workers, watch.room) == (workers, room)


def test_the_number_of_workers_follows_the_nodes():
    world = World(limit=3)
    for count, workers in ((1, 1), (2, 2), (5, 3), (0, 1)):
        world.nodes = [node(str(n)) for n in range(count)]
        world.after(1)
        assert (world.watch.workers, world.coordinator.workers) == (workers, workers)


def test_a_node_that_joins_is_asked_before_it_is_used():
    fleet = Fleet("a")
    world = World(fleet=fleet)
    world.nodes = [node("a"), node("b"), node("small", 0.5), node("c")]
    world.after(3)
    assert fleet.asked == ["b", "c"]
    assert world.watch.workers == 1
    assert world.watch.nodes() == ["a"]
    fleet.said = [Answer(world.nodes[1]), Answer(world.nodes[3], ("other data than on the driver",))]
    world.after(3)
    assert world.watch.nodes() == ["a", "b"]
    assert world.watch.nodes({"a"}) == ["b"]
    assert world.watch.workers == 2
    assert "node left out" in world.whats
    assert world.coordinator.notices.texts == ("node c is not used: other data than on the driver",)
    world.nodes = world.nodes[1:3]
    world.after(1)
    assert world.watch.nodes() == ["b"]
    assert world.coordinator.notices.texts == ()


def test_a_node_that_cannot_be_asked_is_told_and_tried_again_soon():
    fleet = Fleet("a")
    fleet.full = True
    world = World(fleet=fleet)
    world.after(2)
    world.nodes = [node("a"), node("b")]
    world.after(20)
    assert fleet.asked == []
    assert world.whats == ["node joined", "node left out"]
    (text,) = world.coordinator.notices.texts
    assert text == "node b is not used: it cannot be asked while /shared cannot be written"
    fleet.full = False
    world.after(6)
    assert fleet.asked == ["b"]
    fleet.said = [Answer(world.nodes[1])]
    world.after(2)
    assert world.whats[-1] == "node used after all"
    assert "b" in fleet.fit
    assert world.coordinator.notices.texts == ()


def test_nodes_that_join_together_are_asked_a_few_at_a_time():
    fleet = Fleet("a")
    fleet.most = 2
    world = World(fleet=fleet)
    world.nodes = [node(name) for name in "abcde"]
    world.after(2)
    assert fleet.asked == ["b", "c"]
    fleet.said = [Answer(world.nodes[1]), Answer(world.nodes[2])]
    world.after(2)
    assert fleet.asked == ["b", "c", "d", "e"]


def test_a_node_that_is_not_fit_is_asked_again_after_a_while():
    fleet = Fleet("a")
    world = World(fleet=fleet)
    world.nodes = [node("a"), node("b")]
    world.after(1)
    for _ in range(2):
        fleet.said = [Answer(world.nodes[1], ("it did not answer",))]
        world.after(299)
        assert not fleet.waiting
        world.after(3)
        assert fleet.waiting == {"b"}
    assert world.coordinator.notices.texts == ("node b is not used: it did not answer",)  # until it answers
    fleet.said = [Answer(world.nodes[1])]
    world.after(400)
    assert fleet.asked == ["b", "b", "b"]
    assert world.watch.nodes() == ["a", "b"]
    assert world.coordinator.notices.texts == ()
    assert world.whats == ["node left out", "node used after all"]


def test_the_answer_of_a_node_that_left_meanwhile_is_not_taken():
    fleet = Fleet("a")
    world = World(fleet=fleet)
    world.nodes = [node("a"), node("b"), node("c")]
    world.after(1)
    fleet.said = [Answer(world.nodes[1], ("it died",)), Answer(world.nodes[2])]
    world.nodes = world.nodes[:1]
    world.after(3)
    assert world.watch.nodes() == ["a"]
    assert world.coordinator.notices.texts == ()
    assert "node left out" not in world.whats
