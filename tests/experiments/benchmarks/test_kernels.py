"""The kernel benchmark: our side measured at a tiny size, its table, aims, JSON and picture."""

import json
import re

import jax
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax.errors import RunError
from experiments.benchmarks import benchmarking, kernel_entries
from experiments.benchmarks import kernels as benchmark_kernels
from tests.tiny_runs import assert_picture, measure_here, script_values

ENTRIES = [
    "three products",
    "ours, alpha_direct, dense",
    "ours, alpha_direct, block 4",
]


def values_of(*arguments):
    return script_values(benchmark_kernels, *arguments)


@pytest.fixture(scope="module")
def in_this_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarking, "measure_in_turn", measure_here)
        yield


@pytest.fixture(scope="module")
def measured(tmp_path_factory, in_this_process):
    folder = tmp_path_factory.mktemp("kernels")
    report, picture = folder / "kernels.json", folder / "kernels.png"
    values = values_of(
        "--sizes=8",
        "--dim=4",
        "--objectives=alpha_direct",
        "--block_sizes=4",
        "--peers=",
        "--rounds=1",
        "--seconds=0.01",
        f"--json={report}",
        f"--plot={picture}",
    )
    benchmark_kernels.run(values)
    return report, picture


def test_our_side_is_measured_without_peers(measured):
    report = json.loads(measured[0].read_text())
    assert [row["entry"] for row in report["results"]] == ENTRIES
    assert all(row["seconds"] > 0 and row["size"] == 8 for row in report["results"])
    assert report["machine"]["cores"] == benchmarking.usable_cores()
    assert report["versions"]["jax"] == jax.__version__


def test_time_and_memory_are_drawn(measured):
    assert_picture(measured[1])


def test_results_can_be_shown_and_drawn_again(measured, tmp_path, capsys):
    picture = tmp_path / "again.png"
    benchmark_kernels.run(values_of(f"--from_json={measured[0]}", f"--plot={picture}"))
    shown = capsys.readouterr().out
    assert all(entry in shown for entry in ENTRIES)
    assert_picture(picture)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes=7"], "--sizes=7: use even numbers >= 4"),
        (["--sizes=big"], "--sizes=big: use even numbers"),
        (["--block_sizes=0", "--peers="], "--block_sizes=0: use whole numbers >= 1, or auto"),
        (["--peers=keras"], "--peers=keras is unknown; use some of lightly"),
        (["--from_json=absent.json"], "--from_json=absent.json is not what --json writes"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(RunError, match=re.escape(message)):
        benchmark_kernels.run(values_of(*arguments))


def test_a_missing_peer_is_named_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(benchmarking, "_version", lambda package: None)
    with pytest.raises(RunError, match=r"lightly not installed.*'\.\[bench\]'.*--peers="):
        benchmark_kernels.run(values_of("--sizes=8", "--peers=lightly"))


def test_dense_forms_beyond_the_limit_are_skipped(monkeypatch):
    asked = []

    def measure_in_turn(makers, **settings):
        asked.extend(makers)
        return {name: benchmarking.Measurement((1.0,), 10**6) for name in makers}

    monkeypatch.setattr(benchmarking, "measure_in_turn", measure_in_turn)
    values = values_of("--sizes=65536", "--objectives=mine", "--peers=")
    rows = benchmark_kernels.measure(values)["results"]
    assert asked == ["ours, mine, block auto"]
    lines = benchmark_kernels.table(rows).splitlines()
    needed = kernel_entries.Entry("", "ours", "mine", "dense", None).needs_bytes(65536)
    assert needed > 17e9
    assert f"skipped (needs ~{needed / 1e9:.0f} GB)" in lines[3]


def row(size, entry, side, objective, form, seconds, peak=10**6):
    return {
        "size": size,
        "entry": entry,
        "side": side,
        "objective": objective,
        "form": form,
        "seconds": seconds,
        "peak_bytes": peak,
    }


def test_aims_compare_what_was_measured():
    def at(size, products, dense, blocked, lightly, peak):
        return [
            row(size, "three products", "reference", "", "dense", products),
            row(size, "ours, info_nce, dense", "ours", "info_nce", "dense", dense),
            row(size, "ours, info_nce, block auto", "ours", "info_nce", "auto", blocked, peak),
            row(size, "lightly", "peer", "info_nce", "lightly", lightly),
        ]

    rows = [
        *at(512, 1.0, 2.0, 1.8, 9.0, 1),
        *at(4096, 10.0, 30.0, 8.0, 48.0, 1),
        *at(8192, 40.0, 90.0, 32.0, 200.0, 1),
        row(65536, "ours, info_nce, block auto", "ours", "info_nce", "auto", 3072.0, 2 * 10**9),
    ]
    found = {aim.name: (aim.value, aim.met) for aim in benchmark_kernels.aims(rows)}
    assert found == {
        "info_nce, 2n = 512: blocked / dense, 5 % noise": (0.9, True),
        "info_nce, 2n = 4,096: blocked / three products": (0.8, True),
        "info_nce, 2n = 4,096: lightly / blocked": (6.0, True),
        "info_nce, 2n = 65,536: time / square law of 8,192": (1.5, False),
        "ours, info_nce, block auto, 2n = 65,536: peak GB": (2.0, False),
    }
    assert (
        benchmark_kernels.aims([r for r in rows if r["size"] == 512 and r["side"] != "ours"]) == []
    )


def test_the_loss_that_is_timed_is_the_library_s():
    z, z_pos = kernel_entries.example_views(8, 4)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-6)
    value, gradient = kernel_entries.make_ours("alpha_direct", None, 8, 4)()
    wanted = acl.alpha_cl_loss(z, z_pos, acl.rules.direct(0.5, 4))
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    assert [g.shape for g in gradient] == [(4, 4), (4, 4)]


@pytest.mark.parametrize("peer", kernel_entries.PEERS)
def test_peers_compute_the_same_number(peer):
    pytest.importorskip(kernel_entries.PEERS[peer][0].replace("-", "_"))
    kernel_entries.check_peer(peer)
