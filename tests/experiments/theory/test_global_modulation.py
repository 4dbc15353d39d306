"""The script on global modulation: run tiny, its files, its refusals."""

import pytest
from absl import flags

from alphacl_jax.errors import RunError
from experiments.theory import global_modulation
from experiments.theory import global_modulation_pictures as pictures
from tests.tiny_runs import run_script, script_values


def make_values(*arguments):
    return script_values(global_modulation, *arguments)


def run(tmp_path, *arguments):
    return run_script(global_modulation, tmp_path, *arguments)


@pytest.mark.slow
def test_run_writes_its_files_and_meets_its_closed_forms(tmp_path):
    found = run(tmp_path, "--samples=512", "--steps=20", "--fields=2", "--values=8")
    for title in ("autodiff", "basins", "gradients"):
        assert all(row["agrees"] for row in found["checks"][title]), title
    assert len(found["results"]["training"]["times"]) == 21
    for name in ("trajectories", "samples", "basins", "gradients"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("prior", ["0", "1", "-0.5"])
def test_impossible_prior_is_refused(tmp_path, prior):
    with pytest.raises(RunError, match=rf"--prior={float(prior)} is out of range; it must be in"):
        run(tmp_path, f"--prior={prior}")


@pytest.mark.parametrize("argument", ["--fields=1", "--samples=8", "--tilt=-1", "--steps=0"])
def test_flags_have_bounds(argument):
    with pytest.raises(flags.IllegalFlagValueError, match=argument[2:].split("=")[0]):
        make_values(argument)


def test_pictures_take_what_the_parts_return(tmp_path):
    path = [[0.1, 0.2], [0.3, 0.5]]
    figures = [
        pictures.draw_trajectories(
            {
                "times": [0.0, 1.0],
                "cosines of the flow": path,
                "cosines of the network": path,
                "energy of the flow": [1.0, 2.0],
                "energy of the network": [1.0, 2.1],
            }
        ),
        pictures.draw_samples({"samples": [32.0, 128.0], "mean": [0.4, 0.2], "std": [0.1, 0.05]}),
        pictures.draw_basins(
            {
                "strengths": [0.0, 0.1, 0.5],
                "dim 3": {"found": [0.3, 0.35, 0.5], "predicted": [0.29, None, 0.5]},
            }
        ),
        pictures.draw_gradients({"linear": [[1.0, 0.0]], "ReLU": [[1.0, 0.3]]}),
    ]
    for number, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{number}.png")
    assert [len(figure.axes) for figure in figures] == [2, 1, 1, 1]
