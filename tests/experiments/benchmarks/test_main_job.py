"""The stages of the main job, and its benchmark at a toy size."""

import json

import pytest

from alphacl_jax.errors import RunError
from experiments.benchmarks import main_job
from tests.tiny_runs import script_values

SHOWN = [
    (
        12.0,
        "info_nce on digits: 4 images, 20 steps on 1 cpu device, run folder run\n",
    ),
    (13.0, "augmentation: none\n"),
    (16.0, "step 10/20, loss 0.1\n"),
    (17.0, "step 12/20, loss 0.1\n"),
    (21.0, "step 20/20, loss 0.1\n"),
    (26.0, "pictures and figures: run\n"),
]


def test_a_stage_ends_with_what_it_shows():
    assert main_job.stage_times(SHOWN, 10.0, 27.0) == (2, 4, 5, 5, 1)


def test_a_stage_without_an_end_is_named():
    with pytest.raises(RunError, match=r"no end of its stage 'training': info_nce on digits"):
        main_job.stage_times(SHOWN[:4], 10.0, 27.0)


@pytest.mark.slow
def test_the_job(tmp_path, capsys):
    path = tmp_path / "main_job.json"
    main_job.run(script_values(main_job, "--quick", "--rounds=1", f"--json={path}"))
    shown = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert list(report["jobs"]) == ["memory kept", "memory given back"]
    for (job,) in report["jobs"].values():
        assert len(job["stages"]) == len(report["stages"])
        assert min(job["stages"]) > 0
        assert job["table"] == report["jobs"]["memory kept"][0]["table"]  # the same numbers
        assert job["table"][0] in shown
    assert [aim["name"] for aim in report["aims"]] == ["the whole job, s", "evaluation / training"]
