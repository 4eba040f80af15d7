"""All cases by name; a case returns a tensor, or several by name, and may assert what must hold on every device."""

from . import adapters, control, encoder, solvers, storage, turns

CASES = encoder.CASES | solvers.CASES | storage.CASES | adapters.CASES | control.CASES | turns.CASES
