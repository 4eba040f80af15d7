"""devtools/graph_layout.py."""

from __future__ import annotations

import itertools
import random

import pytest
from comfyui_kolors.devtools.graph_layout import (
    GAP,
    TALL,
    TITLE,
    Graph,
    Line,
    Link,
    arrange,
    columns,
    cost,
    hides,
    positions,
)


def graph(links: str, sizes: dict[str, tuple[float, float]] | None = None, first: str = "") -> Graph:
    """`links`: pairs of letters, such as "ab bc"; the slots count up on either side."""
    outputs, inputs = itertools.count(), itertools.count()
    pairs = [Link(a, next(outputs), b, next(inputs)) for a, b in links.split()]
    names = sorted({end for pair in links.split() for end in pair})
    return Graph(sizes or dict.fromkeys(names, (100.0, 50.0)), pairs, set(first))


def test_every_link_leads_to_the_right_and_an_input_stands_beside_what_it_goes_to():
    # a loader, its two users, a latent that the sampler takes
    assert columns(graph("ab ac bd cd ed", first="a")) == [["a"], ["b", "c", "e"], ["d"]]
    assert columns(graph("ab bc ec", first="ae")) == [["a", "e"], ["b"], ["c"]]  # a loader stands first
    assert columns(Graph({}, [])) == []
    assert columns(Graph({"a": (1, 1)}, [])) == [["a"]]


def test_a_tall_first_column_gives_up_what_is_needed_last():
    sizes = dict.fromkeys("abcdexyz", (100.0, TALL / 3))
    tall = graph("ax bx xy yz cy dz ez", sizes, first="abcde")
    assert columns(tall) == [["a", "b"], ["c", "x"], ["d", "e", "y"], ["z"]]
    low = graph("ax bx xy yz cy dz ez", dict.fromkeys("abcdexyz", (100.0, 50.0)), first="abcde")
    assert columns(low) == [["a", "b", "c", "d", "e"], ["x"], ["y"], ["z"]]


def test_links_cross_where_they_change_sides():
    flat, rising = Line((0, 50), (100, 50)), Line((0, 100), (100, 0))
    assert rising.crosses(flat) and flat.crosses(rising)
    assert not flat.crosses(Line((0, 60), (100, 60)))
    assert not rising.crosses(Line((100, 0), (200, 100)))  # they meet in no column
    assert not Line((0, 0), (100, 90)).crosses(Line((0, 0), (100, 80)))  # from one slot


def test_a_node_hides_a_link_that_passes_behind_it_and_not_its_own():
    passing = Line((0, 20), (300, 20))
    assert hides((100, 0), (100, 50), passing)
    assert hides((100, 40), (100, 50), passing)  # behind the title
    assert not hides((100, 60), (100, 50), passing)
    assert not hides((0, 0), (100, 50), Line((100, 20), (300, 20)))
    assert not hides((300, 0), (100, 50), passing)


def test_the_order_avoids_crossings_and_else_stays_the_authors():
    assert arrange(graph("ac bc", first="ab")) == [["a", "b"], ["c"]]
    crossed = graph("ad bc", first="ab")
    assert arrange(crossed) == [["a", "b"], ["d", "c"]] or arrange(crossed) == [["b", "a"], ["c", "d"]]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_costs_no_more_than_the_authors_and_names_each_node_once(seed):
    chance = random.Random(seed)
    names = range(12)
    sizes = {name: (100.0, chance.uniform(30, 300)) for name in names}
    links = [Link(a, 0, b, index) for index, (a, b) in enumerate(itertools.combinations(names, 2))]
    some = Graph(sizes, chance.sample(links, 16), {0, 1, 2})
    order = arrange(some)
    assert cost(some, order) <= cost(some, columns(some))
    assert sorted(node for column in order for node in column) == list(names)
    column = {node: index for index, nodes in enumerate(order) for node in nodes}
    assert all(column[link.origin] < column[link.target] for link in some.links)


def test_boxes_are_a_gap_apart_in_both_directions():
    sizes = {"a": (100.0, 50.0), "b": (60.0, 70.0), "c": (80.0, 20.0)}
    places = positions([["a", "b"], ["c"]], sizes)
    assert places == {"a": (0, 0), "b": (0, 50 + GAP + TITLE), "c": (100 + GAP, 0)}
