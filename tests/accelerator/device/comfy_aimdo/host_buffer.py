"""Pinned memory of the host, and reading files into it and onto the device."""

import ctypes
import os

import torch

LEAST_CAPACITY = 1 << 16


def read(file, offset, size):
    return os.pread(file if isinstance(file, int) else file.fileno(), size, offset)


def read_file_to_device(file, file_offset, size, stream, device_pointer, device, mark_cold=True):
    ctypes.memmove(device_pointer, read(file, file_offset, size), size)


def cleanup_file_reader():
    pass


class HostBuffer:
    def __init__(self, size, prewarm=0, max_grow_size=0, mark_cold=True):
        self.size = int(size)
        self.tensor = torch.empty(max(self.size, int(max_grow_size), LEAST_CAPACITY), dtype=torch.uint8)

    def get_raw_address(self):
        return self.tensor.data_ptr()

    def extend(self, size, reallocate=False, register=True):
        if self.size + int(size) > self.tensor.numel():
            raise RuntimeError("HostBuffer.extend failed")
        self.size += int(size)
        return self.get_raw_address()

    def read_file_slice(self, file, file_offset, size, offset=0, stream=0, device_ptr=0, device=-1):
        data = read(file, file_offset, size)
        ctypes.memmove(self.get_raw_address() + offset, data, size)
        if device_ptr:
            ctypes.memmove(device_ptr, data, size)
        self.size = max(self.size, offset + size)

    def register(self, offset, size):
        pass

    def unregister(self, offset):
        pass

    def truncate(self, size, do_unregister=True):
        self.size = int(size)
