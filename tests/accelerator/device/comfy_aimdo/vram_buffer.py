"""Memory on the device that grows."""

import torch


class VRAMBuffer:
    def __init__(self, max_size, device):
        self.device, self.tensor = torch.device("cuda", device or 0), None

    def size(self):
        return 0 if self.tensor is None else self.tensor.numel()

    def get(self, size, offset=0):
        if self.size() < offset + size:
            grown = torch.empty(offset + size, dtype=torch.uint8, device=self.device)
            if self.tensor is not None:
                grown[: self.size()] = self.tensor
            self.tensor = grown
        return self, offset, size
