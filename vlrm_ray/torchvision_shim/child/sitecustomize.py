"""Installs the torchvision shim in child processes, such as the one in which vLLM inspects models.

Python imports this module at startup because its folder is on PYTHONPATH. The shim is installed at the first import of
torchvision, so that child processes without torchvision start as fast as before.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path


class _BeforeTorchvision(MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Install the shim if `name` is torchvision; always return None, so that the next finder locates the module."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            sys.path.append(str(Path(__file__).parents[3]))
            from vlrm_ray import torchvision_shim

            torchvision_shim.install()
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
