"""A file mapped into memory."""

import ctypes
import mmap
import os


class ModelMMAP:
    def __init__(self, path):
        self.descriptor = os.open(path, os.O_RDONLY)
        self.map = mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_COPY)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))

    def get(self):
        return self.address

    def get_file_handle(self):
        return self.descriptor

    def bounce(self):
        return True
