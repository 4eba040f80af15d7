"""How fast graphs of the older packages are converted: `python3 dev.py bench migration`.

A thousand graphs, in canvas and in API format, from their JSON to that of the converted graph, beside reading and
writing the same JSON alone; and one graph over its number of nodes. Plain Python, one thread. Writes migration.json and
migration.png.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import _sides  # noqa: F401 - makes the package importable
from _report import Curve, argument_parser, plot, save, table
from _rows import compared
from _timing import HEADINGS, compare
from comfyui_kolors.kolors_core.migrate import convert_graph
from graph_files import as_canvas
from old_graphs import GRAPHS, OldGraph, text_to_image

COUNT, ROUNDS = 1000, 3
#: Graphs of seven nodes each, in one file.
COPIES = (1, 10, 100, 300, 1000)


def convert(text: str) -> str:
    return json.dumps(convert_graph(json.loads(text))[0])


def copy(text: str) -> str:
    """Reading and writing alone."""
    return json.dumps(json.loads(text))


def repeated(count: int) -> OldGraph:
    """A graph in API format that holds the same small one so many times."""
    whole = OldGraph()
    for start in range(0, count * len(text_to_image()), len(text_to_image())):
        for key, node in text_to_image().items():
            inputs = {name: moved(value, start) for name, value in node["inputs"].items()}
            whole[str(int(key) + start)] = node | {"inputs": inputs}
    return whole


def moved(value: Any, by: int) -> Any:
    """A link to a node whose number is higher by so much; any other value as it is."""
    return [str(int(value[0]) + by), value[1]] if isinstance(value, list) else value


def main(arguments: list[str] | None = None) -> None:
    args = argument_parser(__doc__).parse_args(arguments)
    count, copies, rounds = (10, (1, 4), 1) if args.quick else (COUNT, COPIES, ROUNDS)
    known = [json.dumps(form(graph())) for graph in GRAPHS.values() for form in (dict, as_canvas)]
    texts = list(itertools.islice(itertools.cycle(known), count))
    costs = compare({"JSON": lambda: list(map(copy, texts)), "converted": lambda: list(map(convert, texts))}, rounds)
    print(table((f"{count} graphs", *HEADINGS), [(name, *cost.cells()) for name, cost in costs.items()]))
    sides = {"ours": [], "JSON": []}
    nodes = []
    for copied in copies:
        graph = repeated(copied)
        text = json.dumps(graph)
        nodes.append(len(graph))
        found = compare({"JSON": lambda text=text: copy(text), "ours": lambda text=text: convert(text)}, rounds)
        for side, cost in found.items():
            sides[side].append(cost)
    curve = Curve("nodes", nodes, sides)
    rows = [(size, f"{cost.wall * 1000:.2f}") for size, cost in zip(nodes, sides["ours"])]
    print("\n" + table(("Nodes of one graph", "ms"), rows))
    page_rows = [
        compared(
            f"Converting {count:,} graphs", costs["converted"].wall, costs["JSON"].wall,
            beside="their JSON alone", ratio=costs["converted"].ratio,
        ),
        curve.row("Converting a graph, over its nodes", beside="JSON"),
    ]  # fmt: skip
    save("migration", {"graphs": costs, "curve": curve.json()}, args.results, page_rows)
    plot("migration", [curve], args.results)


if __name__ == "__main__":
    main()
