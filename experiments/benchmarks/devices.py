"""What is measured on: JAX's device and its driver."""

import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from experiments.benchmarks import benchmarking


def describe() -> dict[str, Any]:
    """JAX's default device, and the driver of NVIDIA's; this process holds no memory of either."""
    return {**benchmarking.alone(_seen_by_jax), "driver": _nvidia_driver()}


def _seen_by_jax() -> dict[str, Any]:
    import jax

    device = jax.local_devices()[0]
    return {
        "platform": device.platform,
        "name": device.device_kind,
        "count": jax.local_device_count(),
        "memory_bytes": (device.memory_stats() or {}).get("bytes_limit"),
        "runtime": " ".join(device.client.platform_version.split()),
    }


def _nvidia_driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None


def is_accelerator(device: Mapping[str, Any]) -> bool:
    """Whether a device that was described is something else than the processor."""
    return bool(device["platform"] != "cpu")


def line(device: Mapping[str, Any]) -> str:
    """One line that names a device that was described."""
    if not is_accelerator(device):
        return "no accelerator: JAX runs on the processor"
    parts = [f"{device['count']} x {device['name']} ({device['platform']})"]
    if device["memory_bytes"]:
        parts.append(f"JAX takes up to {device['memory_bytes'] / 1e9:.0f} GB")
    if device["driver"]:
        parts.append(f"driver {device['driver']}")
    return ", ".join([*parts, device["runtime"]])
