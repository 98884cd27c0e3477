"""Import `fit` and freeze what it imports: a sixth faster, and cheaper for processes that are forked from this one."""

from plant_pathology.core.processes import frozen_imports

with frozen_imports():
    from plant_pathology.training.fit import fit

__all__ = ["fit"]
