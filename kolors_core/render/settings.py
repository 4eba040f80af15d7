"""How a run is made: what each worker needs to know, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass

BESIDE = 2  # jobs of a worker at a time: one is drawn while the other is prepared or saved


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know. out: where it all ends up. comfyui: folder, None for the one around this package;
    options: of that process; server: URL of one that runs already. silence: seconds, see `Client.run`."""

    out: str
    comfyui: str | None = None
    options: tuple[str, ...] = ()
    server: str | None = None
    silence: float = 900.0


@dataclass(frozen=True)
class Ray:
    """How the workers of a cluster are made.

    address: None for one of this machine's own. workers, encoders, decoders: fewest and most of each; None for no
    workers of that kind. gpus, cpus: of each worker; None where Ray is to be asked.
    """

    address: str | None
    workers: tuple[int, int]
    gpus: float | None = None
    cpus: float = 1.0
    encoders: tuple[int, int] | None = None
    decoders: tuple[int, int] | None = None
    encoder_gpus: float = 0.0
