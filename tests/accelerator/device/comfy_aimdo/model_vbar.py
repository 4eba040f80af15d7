"""Weights of a model by address ranges that may lose their memory at any time.

FAKE_VBAR_MB: memory for all of them together. FAKE_VBAR_EVICT=1: who is used next takes half of every other one's.
"""

import itertools
import os
import weakref

import torch

ALIGNMENT = 512
SIGNATURES = itertools.count(1)
ALL = weakref.WeakSet()


def budget():
    return int(float(os.environ.get("FAKE_VBAR_MB", "1e6")) * 2**20)


class ModelVBAR:
    def __init__(self, size, device):
        self.device, self.max_size, self.offset = torch.device("cuda", device or 0), size, 0
        self.blocks = {}  # offset -> (tensor, signature)
        ALL.add(self)

    def prioritize(self):
        if os.environ.get("FAKE_VBAR_EVICT") == "1":
            for other in ALL - {self}:
                for offset in list(other.blocks)[::2]:
                    del other.blocks[offset]

    def deprioritize(self):
        pass

    def alloc(self, size):
        offset = -(-self.offset // ALIGNMENT) * ALIGNMENT
        self.offset = offset + size
        return self, offset, size

    def fault(self, offset, size):
        """Signature of the range, another one whenever it got new memory; None where there is none to be had."""
        if offset not in self.blocks:
            if sum(vbar.loaded_size() for vbar in ALL) + size > budget():
                return None
            self.blocks[offset] = (torch.empty(size, dtype=torch.uint8, device=self.device), (next(SIGNATURES),))
        return self.blocks[offset][1]

    def unpin(self, offset, size):
        pass

    def loaded_size(self):
        return sum(tensor.nbytes for tensor, _ in self.blocks.values())

    def free_memory(self, size):
        freed = 0
        for offset in list(self.blocks):
            if freed >= size:
                break
            freed += self.blocks.pop(offset)[0].nbytes
        return freed

    def set_watermark(self, size):
        pass

    def set_watermark_limit(self, size):
        pass

    def get_watermark(self):
        return 0

    def get_nr_pages(self):
        return 0

    def get_residency(self):
        return []


def vbar_fault(allocation):
    vbar, offset, size = allocation
    return vbar.fault(offset, size)


def vbar_unpin(allocation):
    pass


def vbar_signature_compare(a, b):
    return a is not None and a == b


def vbars_reset_watermark_limits():
    pass


def vbars_analyze(device=None):
    return 0
