"""The fixtures of runs."""

from tests.run_fixtures import class_folder, compiled_once, flat_folder, one_device

__all__ = ["class_folder", "compiled_once", "flat_folder", "one_device"]
