"""The canvas format: nodes with positions and numbered links, and subgraphs with a boundary of their own.

`fields` knows the parts of a file, `check` finds damage, `reading` makes graphs of it, and `writing` puts them back.
Source: the workflow schema of Comfy-Org/ComfyUI_frontend, versions 0.4 and 1.
"""

from .check import find_fault
from .fields import is_boundary, is_workflow, list_nodes
from .reading import read_graphs
from .writing import write_workflow

__all__ = ["find_fault", "is_boundary", "is_workflow", "list_nodes", "read_graphs", "write_workflow"]
