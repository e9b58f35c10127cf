"""The settings of a pod: checks its environment before the pod runs.

The one module outside `serve` that imports from it. `mesh` and `manifests` go through here.
"""

from mockservice.serve.settings import SettingError, Settings

__all__ = ["SettingError", "Settings"]
