"""Found through PYTHONPATH by child processes (vLLM inspects models in one): installs the shim there.

It waits for the first import of torchvision, so that other children pay nothing.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path


class _BeforeTorchvision(MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Never finds anything itself; the shim is in place before the next finder looks."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            sys.path.append(str(Path(__file__).parents[3]))
            from vlrm_ray import torchvision_shim

            torchvision_shim.install()
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
