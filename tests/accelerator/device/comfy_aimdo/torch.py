"""Allocations as tensors of bytes."""


def aimdo_to_tensor(allocation, device):
    owner, offset, size = allocation
    if hasattr(owner, "blocks"):  # a ModelVBAR
        return owner.blocks[offset][0]
    return owner.tensor[offset : offset + size]  # a VRAMBuffer


def hostbuf_to_tensor(buffer):
    return buffer.tensor[: buffer.size]


def get_torch_allocator():
    return None
