"""The benchmark of convolutions, tiny: its forms, what it leaves out, and what ended."""

import json

import jax
import numpy as np
import pytest

from alphacl_jax.errors import RunError
from experiments.benchmarks import benchmarking, conv, conv_forms
from experiments.benchmarks.benchmarking import Measurement
from tests.tiny_runs import measure_here, script_values

TINY = {"tiny": ((2,), (4, 4, 4, 1))}


def run(monkeypatch, tmp_path, *arguments, onednn=True, torch=None):
    """The report of a run on the tiny encoder, with the process's answers made here."""
    answers = {conv_forms.calls_onednn: lambda: onednn}
    monkeypatch.setattr(
        benchmarking, "alone", lambda function, *of: answers.get(function, function)(*of)
    )
    monkeypatch.setattr(benchmarking, "_version", lambda package: torch)
    path = tmp_path / "conv.json"
    arguments = ["--cases=tiny", "--rounds=1", "--seconds=0.01", f"--json={path}", *arguments]
    conv.run(script_values(conv, *arguments), TINY)
    return json.loads(path.read_text())


def answers_without(*ended):
    """Stands in for `measure_in_turn`: competitors of 1, 2, ... ms, but for those that ended."""

    def measure(makers, *, rounds, seconds, may_end=()):
        del rounds, seconds
        assert may_end
        return {
            name: Measurement((1e-3 * number,), 10**6)
            for number, name in enumerate(makers, start=1)
            if name not in ended
        }

    return measure


@pytest.mark.slow
def test_both_forms_of_the_convolution_are_timed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmarking, "measure_in_turn", measure_here)
    report = run(monkeypatch, tmp_path, "--nobfloat16", onednn=False)
    (found,) = report["results"]
    assert "sums" not in report
    assert found["ratio"] == found["seconds"]["plain"] / found["seconds"]["ours"]
    shown = capsys.readouterr().out
    assert "without oneDNN: this XLA calls it for no convolution" in shown
    assert shown.splitlines()[-1].split()[:3] == ["2", "4x4x4x1", "float32"]


def test_a_form_that_ended_is_shown_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmarking, "measure_in_turn", answers_without("onednn"))
    monkeypatch.setattr(benchmarking, "has_bfloat16", lambda: True)
    results = run(monkeypatch, tmp_path)["results"]
    assert [found["dtype"] for found in results] == ["float32", "bfloat16"]
    assert results[0]["seconds"] == {
        "plain": 0.001, "ours": 0.002, "onednn": None, "onednn, apart": 0.004
    }  # fmt: skip
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[2:] == ["bfloat16", "1.0", "2.0", "ended", "4.0", "0.50", "1", "1", "n/a", "1"]


def test_layers_are_summed_as_often_as_the_encoder_has_them(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmarking, "measure_in_turn", answers_without("onednn"))
    arguments = ("--layers", "--nobfloat16")
    (found,) = run(monkeypatch, tmp_path, *arguments, torch="2.0")["results"]
    first, second = found["layers"][0], found["layers"][3]
    assert (first["kernel"], first["times"]) == ([3, 3, 1, 2], 1)
    assert (second["kernel"], second["times"]) == ([3, 3, 2, 2], 2)
    assert second["seconds"]["PyTorch"] == 0.005
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last == [
        "all",
        "of",
        "them",
        "kernel",
        "gradient",
        "3.0",
        "6.0",
        "ended",
        "12.0",
        "15.0",
    ]


def test_layers_go_without_a_pytorch_that_is_not_there(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmarking, "measure_in_turn", answers_without())
    (found,) = run(monkeypatch, tmp_path, "--layers", "--nobfloat16")["results"]
    assert "PyTorch" not in found["layers"][0]["seconds"]
    assert "without PyTorch: pip install" in capsys.readouterr().out


def test_a_sum_that_ended_is_told(monkeypatch, tmp_path, capsys):
    ended = "onednn: a sum of 64"
    monkeypatch.setattr(benchmarking, "measure_in_turn", answers_without(ended))
    sums = run(monkeypatch, tmp_path, "--nobfloat16")["sums"]
    assert [name for name, lived in sums.items() if not lived] == [ended]
    shown = capsys.readouterr().out.splitlines()
    assert {f"{ended} ended", "onednn, apart: a sum of 64 lived"} <= set(shown)


def test_a_sum_is_the_gradient_of_a_kernel_used_so_often(monkeypatch):
    monkeypatch.setattr(conv_forms, "_options", lambda form: None)
    one, three = (
        np.asarray(conv_forms.make_sum(form, count)())
        for form, count in (("onednn", 1), ("onednn, apart", 3))
    )
    assert one[1, 1, 0, 0] == 2 * 8 * 8
    np.testing.assert_allclose(three, 3 * one)


def test_an_unknown_case_is_named():
    with pytest.raises(RunError, match="--cases=vgg is unknown; use some of tiny"):
        conv.run(script_values(conv, "--cases=vgg"), TINY)


LAYER = ((8, 6, 6, 3), (3, 3, 3, 4), (2, 2), ((1, 1), (1, 1)))


def test_whether_onednn_is_called_is_seen_in_the_program(monkeypatch):
    monkeypatch.setattr(conv_forms, "_options", lambda form: None)
    assert not conv_forms.calls_onednn()
    monkeypatch.setattr(conv_forms, "_options", lambda form: {"xla_cpu_no_such_option": True})
    assert not conv_forms.calls_onednn()


@pytest.mark.parametrize("part", conv_forms.PARTS)
def test_all_forms_compute_the_same_part(monkeypatch, part):
    # oneDNN's own calls may end the process; the form is what is compared.
    monkeypatch.setattr(conv_forms, "_options", lambda form: None)
    values = [
        np.asarray(conv_forms.make_part(form, part, LAYER, "float32")())
        for form in ("plain", "ours", "onednn, apart")
    ]
    assert values[0].shape == ((8, 3, 3, 4), LAYER[0], LAYER[1])[conv_forms.PARTS.index(part)]
    for value in values[1:]:
        np.testing.assert_allclose(value, values[0], rtol=1e-5, atol=1e-5)


def test_the_parts_are_kept_apart_from_their_sum():
    x, kernel = (jax.numpy.ones(of) for of in ((256, 8, 8, 3), LAYER[1]))

    def text(form):
        with conv_forms._convolution(form) as function:
            gradient = jax.grad(lambda kernel: function(x, kernel, *LAYER[2:]).sum())
            return jax.jit(gradient).lower(kernel).as_text()

    assert "optimization_barrier" in text("onednn, apart")
    assert "optimization_barrier" not in text("ours")


def test_pytorch_s_parts_have_the_shapes_of_ours():
    pytest.importorskip("torch")
    shapes = {}
    for part in conv_forms.PARTS:
        value = conv_forms.make_torch_part(part, LAYER, "float32")()
        shapes[part] = tuple((value[0] if isinstance(value, tuple) else value).shape)
    assert list(shapes.values()) == [(8, 4, 3, 3), (8, 3, 6, 6), (4, 3, 3, 3)]
