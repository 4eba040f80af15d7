"""Which node of the older packs becomes what: one module for each of the packs.

`NODES` of a module is its part of the table; above it stand the mappings that it names. `mapping` has the kinds of
entries and what several packs share.
"""

from __future__ import annotations

from ..graph import PASSING
from . import bizyair, easy_use, ipadapter, mz, wrapper
from .mapping import OldNode, Swap

__all__ = ["REMOVABLE", "REPLACED", "TABLE", "OldNode", "Swap"]

#: In the order of conversion: a mapping finds what those before it have added.
TABLE: dict[str, OldNode] = {
    **wrapper.NODES,
    **mz.NODES,
    **bizyair.NODES,
    **ipadapter.NODES,
    **easy_use.NODES,
}
#: Inputs of the old nodes that none of the new ones has, so that nodes that pass them on cannot stay.
REPLACED = ("kolors_embeds", "hid_proj", "ipadapter", "insightface")
#: Types that are not in the table, of nodes that go when their last consumer has gone.
REMOVABLE = PASSING | {
    "PrimitiveNode",
    "ControlNetLoader",
    "IPAdapterModelLoader",
    "IPAdapterModelLoaderV2",
    "IPAdapterInsightFaceLoader",
    "IPAdapterInsightFaceLoaderV2",
}
