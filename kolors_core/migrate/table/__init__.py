"""Which node of the older packs becomes what: one module for each of the packs.

`NODES` of a module is its part of the table; above it stand the mappings that it names. `mapping` has the kinds of
entries and what several packs share.
"""

from __future__ import annotations

from . import easy_use, ipadapter, mz, wrapper
from .mapping import OldNode, Swap

__all__ = ["REMOVABLE", "RETYPED", "TABLE", "OldNode", "Swap"]

#: In the order of conversion: a mapping finds what those before it have added.
TABLE: dict[str, OldNode] = {**wrapper.NODES, **mz.NODES, **ipadapter.NODES, **easy_use.NODES}
#: Inputs of the old nodes whose links change their type, so that reroutes in between cannot stay.
RETYPED = ("kolors_model", "chatglm3_model", "kolors_embeds", "hid_proj", "ipadapter", "insightface")
#: Types that are not in the table, of nodes that go when their last consumer has gone.
REMOVABLE = {"Reroute", "PrimitiveNode", "ControlNetLoader", "IPAdapterModelLoader", "IPAdapterInsightFaceLoader"}
