"""Graphs in both file formats."""

from __future__ import annotations

import pytest
from graph_files import as_canvas

FORMATS = {"API": lambda graph: dict(graph), "canvas": as_canvas}


@pytest.fixture(params=FORMATS)
def form(request):
    """Makes a file of a graph in API format."""
    return FORMATS[request.param]
