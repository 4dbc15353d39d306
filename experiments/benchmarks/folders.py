"""Images per second from a folder of JPEG files, beside torchvision's ImageFolder in a DataLoader.

    pip install -e '.[bench]'
    python -m experiments.benchmarks.folders

Ours is what `alphacl pretrain --dataset=folder` streams a folder with that memory does not hold.
Both sides shuffle, read, decode, scale the shorter side to the size asked for, crop at the centre
and make uint8 batches, with as many workers (threads of ours, processes of the loader). ImageFolder
runs in three forms: its usual loader, that loader with Pillow told to decode large JPEGs at a
fraction of their size, as ours does, and torchvision's own decoder. Ours should be as fast as the
usual form, and as the fastest.

Each side runs in fresh processes, which take turns: what one reads ahead never costs another time.
Stretches of batches are timed once the workers have started and nothing read ahead is left, and the
median over all of a side's counts. The files are in the system's cache. They are made here: sums of
noise whose amplitude falls as 1/frequency, as that of photographs does.
"""

import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from PIL import Image

from alphacl_jax.errors import RunError
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking
from experiments.benchmarks.benchmarking import Aim

_PACKAGES = ("jax", "jaxlib", "grain", "torch", "torchvision", "pillow", "numpy")
_OURS = "ours"
_FORMS = ("Pillow", "Pillow, reduced", "decode_jpeg")
_AIM = 1.0
_CLASSES, _QUALITY = 10, 90
_FIELDS, _FIELD_SIDE = 16, 1024
_STRETCHES = 5
_ENDLESS = 10**9

Read = Callable[[], Any]  # the next batch


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_integer("images", 4000, "Files made.", 1, flag_values=values)
    flags.DEFINE_list("sides", ["256", "500"], "Least and most of a file's.", flag_values=values)
    flags.DEFINE_list("sizes", ["64", "224"], "Sides of the images read.", flag_values=values)
    flags.DEFINE_list("workers", ["1", "2"], "Threads, or processes.", flag_values=values)
    flags.DEFINE_integer("batch", 64, "Images per batch.", 1, flag_values=values)
    flags.DEFINE_integer("phases", 3, "Processes of each side.", 1, flag_values=values)
    flags.DEFINE_float("seconds", 4.0, "Timed in each process.", 0, flag_values=values)
    flags.DEFINE_list("peers", ["torchvision"], "torchvision, or empty.", flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)


def make_folder(folder: Path, count: int, sides: Sequence[int]) -> None:
    """Writes `count` JPEGs into `folder`/train/CLASS/, each side between the two of `sides`."""
    rng = np.random.default_rng(0)
    fields = np.stack([_natural_field(rng) for _ in range(_FIELDS)])
    for label in range(_CLASSES):
        (folder / "train" / f"{label}").mkdir(parents=True)

    def write(number: int) -> None:
        path = folder / "train" / f"{number % _CLASSES}" / f"{number:06}.jpg"
        pixels = _photograph(np.random.default_rng((0, number)), fields, sides)
        Image.fromarray(pixels).save(path, quality=_QUALITY)

    with ThreadPoolExecutor(benchmarking.usable_cores()) as pool:
        list(pool.map(write, range(count)))


def _natural_field(rng: np.random.Generator) -> np.ndarray:
    """Noise of amplitude 1/frequency: float32 `[side, side]` of mean 0 and deviation 1."""
    frequencies = np.fft.fftfreq(_FIELD_SIDE)
    radius = np.hypot(frequencies[:, None], frequencies[None, : _FIELD_SIDE // 2 + 1])
    radius[0, 0] = np.inf  # no mean
    spectrum = np.fft.rfft2(rng.standard_normal((_FIELD_SIDE, _FIELD_SIDE))) / radius
    field = np.fft.irfft2(spectrum, (_FIELD_SIDE, _FIELD_SIDE))
    return (field / field.std()).astype(np.float32)


def _photograph(rng: np.random.Generator, fields: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """uint8 `[height, width, 3]`: brightness from one field, and weaker colours from three."""
    height, width = rng.integers(sides[0], sides[1], 2, endpoint=True)

    def crop() -> np.ndarray:
        top, left = (rng.integers(0, _FIELD_SIDE - side, endpoint=True) for side in (height, width))
        return fields[rng.integers(_FIELDS), top : top + height, left : left + width]

    values = 120 + 45 * crop()[..., None] + 15 * np.stack([crop() for _ in range(3)], axis=-1)
    return np.clip(values, 0, 255).astype(np.uint8)


def _warm(folder: Path) -> float:
    """Reads every file once, into the system's cache; returns the mean of their bytes."""
    return statistics.fmean(len(path.read_bytes()) for path in folder.rglob("*.jpg"))


def read_ours(folder: str, size: int, workers: int, batch: int) -> Read:
    """Batches of the trainer's own stream, up to arrays on the device."""
    import jax

    from alphacl_jax.data.batches import streamed_batches
    from alphacl_jax.data.folder import open_folder
    from alphacl_jax.training.mesh import data_mesh

    source, _, _ = open_folder(folder, (size, size), 3)
    stream = streamed_batches(source, batch, data_mesh(), seed=0, threads=workers)
    return lambda: jax.block_until_ready(next(stream))


def read_peer(form: str, folder: str, size: int, workers: int, batch: int) -> Read:
    """Batches of ImageFolder in a DataLoader: tensors."""
    from torch.utils.data import DataLoader, RandomSampler

    dataset = image_folder(form, folder, size)
    # One long epoch: the pause between epochs is not counted.
    sampler = RandomSampler(dataset, replacement=True, num_samples=_ENDLESS)
    stream: Iterator[Any] = iter(DataLoader(dataset, batch, sampler=sampler, num_workers=workers))
    return lambda: next(stream)


def image_folder(form: str, folder: str, size: int) -> Any:
    """torchvision's ImageFolder of the training images in one of `_FORMS`: uint8 tensors."""
    from torchvision import io as decoders
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import pil_loader
    from torchvision.transforms import v2

    loaders: dict[str, Callable[[str], Any]] = {
        "Pillow": pil_loader,
        "Pillow, reduced": functools.partial(_reduced_loader, size),
        "decode_jpeg": functools.partial(decoders.decode_image, mode=decoders.ImageReadMode.RGB),
    }
    steps = [v2.Resize(size, antialias=True), v2.CenterCrop(size)]
    if form != "decode_jpeg":
        steps.append(v2.PILToTensor())
    return ImageFolder(f"{folder}/train", v2.Compose(steps), loader=loaders[form])


def _reduced_loader(size: int, path: str) -> Image.Image:
    with Image.open(path) as image:
        image.draft(None, (2 * size, 2 * size))
        return image.convert("RGB")


def time_stretches(
    make: Callable[[], Read], warm_up: int, batch: int, seconds: float
) -> list[float]:
    """Images/s of stretches that take `seconds` together; runs in a process of its own."""
    read = make()
    for _ in range(warm_up):
        read()
    rates = []
    for _ in range(_STRETCHES):
        started, batches, passed = time.perf_counter(), 0, 0.0
        while batches == 0 or passed < seconds / _STRETCHES:
            read()
            batches, passed = batches + 1, time.perf_counter() - started
        rates.append(batches * batch / passed)
    return rates


def measure(folder: str, size: int, workers: int, values: flags.FlagValues) -> dict[str, Any]:
    """Both sides in turn, of one size and number of workers."""
    how = {"folder": folder, "size": size, "workers": workers, "batch": values.batch}
    makers: dict[str, Callable[[], Read]] = {_OURS: functools.partial(read_ours, **how)}
    if values.peers:
        makers |= {form: functools.partial(read_peer, form, **how) for form in _FORMS}
    rates: dict[str, list[float]] = {name: [] for name in makers}
    warm_up = 2 * (workers + 2)  # more than either side reads ahead
    for _ in range(values.phases):
        for name, make in makers.items():
            rates[name] += benchmarking.alone(
                time_stretches, make, warm_up, values.batch, values.seconds
            )
            print(f"{size} px, {name}: {rates[name][-1]:,.0f} images/s", file=sys.stderr)
    found: dict[str, Any] = {"size": size, "workers": workers}
    found["images_per_second"] = {name: _summary(of) for name, of in rates.items()}
    if values.peers:
        medians = {form: found["images_per_second"][form]["median"] for form in _FORMS}
        ours = found["images_per_second"][_OURS]["median"]
        found["ratios"] = {form: ours / median for form, median in medians.items()}
    return found


def _summary(rates: Sequence[float]) -> dict[str, float]:
    return {"low": min(rates), "median": statistics.median(rates), "high": max(rates)}


def show(found: dict[str, Any]) -> None:
    """Prints one size and number of workers."""
    rates = found["images_per_second"]
    lines = [[f"{found['size']} px, workers: {found['workers']}", "images/s", "range", "ours"]]
    for name, rate in rates.items():
        full = name if name == _OURS else f"ImageFolder, {name}"
        spread = f"{rate['low']:,.0f} to {rate['high']:,.0f}"
        ratio = f"{rates[_OURS]['median'] / rate['median']:.2f}x"
        lines.append([full, f"{rate['median']:,.0f}", spread, ratio])
    print("\n" + align(lines), flush=True)


def judge(found: dict[str, Any]) -> list[Aim]:
    """Our speed beside ImageFolder's usual form and its fastest, where they were measured."""
    if "ratios" not in found:
        return []
    case, ratios = f"{found['size']} px, workers: {found['workers']}", found["ratios"]
    fastest = min(ratios, key=lambda form: ratios[form])
    usual = f"{case}: ours / ImageFolder as it comes"
    best = f"{case}: ours / ImageFolder at its fastest ({fastest})"
    return [
        Aim(usual, ratios[_FORMS[0]], _AIM, at_most=False),
        Aim(best, ratios[fastest], _AIM, at_most=False),
    ]


def run(values: flags.FlagValues) -> None:
    """Makes the folder, then measures and shows every size and number of workers.

    Raises:
      RunError: for flags or packages that cannot be used.
    """
    sides, sizes, workers = (_numbers(values, name) for name in ("sides", "sizes", "workers"))
    if len(sides) != 2 or not sides[0] <= sides[1] <= _FIELD_SIDE:
        raise RunError(
            f"--sides={','.join(values.sides)}: give the least and the most, at most {_FIELD_SIDE}"
        )
    if values.images < max(values.batch, _CLASSES):
        raise RunError(
            f"--images={values.images} are fewer than a batch of {values.batch}, or than "
            f"{_CLASSES} classes"
        )
    if unknown := sorted(set(values.peers) - {"torchvision"}):
        raise RunError(f"--peers={unknown[0]} is unknown; use torchvision, or none")
    benchmarking.require_installed(["torch", "torchvision"] if values.peers else [])
    report = {"unit": "images per second", **benchmarking.describe(_PACKAGES)}
    print(benchmarking.heading(report), flush=True)
    results, aims = [], []
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder), values.images, sides)
        kilobytes = _warm(Path(folder)) / 1000
        print(
            f"{values.images:,} JPEGs of {sides[0]} to {sides[1]} px, quality {_QUALITY}, "
            f"{kilobytes:.0f} kB on average; batches of {values.batch}"
        )
        for size in sizes:
            for count in workers:
                found = measure(folder, size, count, values)
                show(found)
                for aim in judge(found):
                    print(f"  {aim}", flush=True)
                    aims.append(aim)
                results.append(found)
    if values.json:
        judged = [aim.as_json() for aim in aims]
        benchmarking.write_report(values.json, {**report, "results": results, "aims": judged})


def _numbers(values: flags.FlagValues, name: str) -> list[int]:
    given: list[str] = values[name].value or []
    if not given or not all(text.isdecimal() and int(text) >= 1 for text in given):
        raise RunError(f"--{name}={','.join(given)}: whole numbers >= 1 needed")
    return list(map(int, given))


if __name__ == "__main__":
    from alphacl_jax.cli.start import run_main

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
