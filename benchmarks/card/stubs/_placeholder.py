"""A package that imports, with any name and any submodule in it, but does nothing."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types


class Names(type):
    """A class on which every name is another such class."""

    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return Names(name, (Placeholder,), {"__module__": f"{cls.__module__}.{cls.__name__}"})


class Placeholder(Exception, metaclass=Names):
    """What every name of a stub is: good in annotations and in `except`; a call says what is missing."""

    def __new__(cls, *args, **kwargs):
        raise ImportError(f"{cls.__module__}.{cls.__name__} is a stub: this package does not travel")


def attribute(module: str):
    """The module's __getattr__: another module under a small letter, else a class."""

    def get(name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        if name[0].islower():
            return importlib.import_module(f"{module}.{name}")
        return Names(name, (Placeholder,), {"__module__": module})

    return get


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every submodule of a stub."""

    def __init__(self, package: str):
        self.prefix = package + "."

    def find_spec(self, name, path=None, target=None):
        if name.startswith(self.prefix):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = attribute(spec.name)
        return module

    def exec_module(self, module):
        pass


def install(package: str) -> None:
    sys.meta_path.append(Finder(package))
    module = sys.modules[package]
    module.__path__, module.__getattr__ = [], attribute(package)
