"""A run folder remembers its flags, repeats them, and is nobody else's."""

import re
import shutil
from types import SimpleNamespace

import pytest

from alphacl_jax.errors import RunError
from experiments import runs
from experiments.run_flags import (
    claim_workdir,
    default_workdir,
    flag_file,
    locked,
    read_run,
    settings,
)
from tests.experiments.tiny_runs import make_values

# Every type of flag, away from its default; None, lists and commas among them.
UNUSUAL = [
    "--seed=7",
    "--dataset=folder",
    "--data_dir=/some where/with spaces, and = signs",
    "--image_size=16",
    "--augmentation_overrides=cutout_prob=0.5,crop_scale=0.2:1",
    "--widths=3,5,7",
    "--nostop_gradient",
    "--temperature=0.1234567890123",
    "--learning_rate=1e-7",
    "--clip_norm=3",
    "--margin=-0.25",
    "--block_size=64",
]
# They say where a run runs, and on how many hosts.
WHERE = (
    "distributed",
    "coordinator_address",
    "num_processes",
    "process_id",
    "join_timeout",
    "heartbeat_timeout",
)


@pytest.mark.parametrize("arguments", [[], UNUSUAL, ["--widths="]], ids=["none", "many", "empty"])
def test_a_run_is_repeated_by_its_flag_file(tmp_path, arguments):
    values = make_values(*arguments)
    claim_workdir(tmp_path / "run", values)
    path = tmp_path / "run" / "flags.txt"
    again = make_values(f"--flagfile={path}")
    assert settings(again) == settings(values)
    assert settings(read_run(tmp_path / "run")) == settings(values)
    assert flag_file(again) == path.read_text()
    assert default_workdir(again) == default_workdir(values)
    claim_workdir(tmp_path / "run", again)


def test_settings_hold_every_flag_but_where_the_run_lies_and_what_it_shows():
    values = make_values()
    assert set(values) - set(settings(values)) == {"workdir", "preview", "seeds_as", *WHERE}
    changed = settings(make_values(*UNUSUAL))
    same = [name for name, value in settings(values).items() if changed[name] == value]
    assert len(same) == len(settings(values)) - len(UNUSUAL)


def test_a_flag_after_the_file_wins(tmp_path):
    claim_workdir(tmp_path / "run", make_values("--seed=3"))
    assert make_values(f"--flagfile={tmp_path}/run/flags.txt", "--seed=4").seed == 4


def test_the_default_folder_is_named_by_all_flags():
    plain = default_workdir(make_values())
    assert re.fullmatch(r"runs/digits-alpha_direct-[0-9a-f]{8}", str(plain))
    assert default_workdir(make_values()) == plain
    # Where the run lies, and defaults that are spelled out, make no other run.
    assert default_workdir(make_values("--workdir=x", "--temperature=0.5")) == plain
    names = [default_workdir(make_values(argument)) for argument in UNUSUAL]
    assert len({plain, *names}) == len(UNUSUAL) + 1
    assert default_workdir(make_values("--dataset=imagenet_resized/32x32")).parent.name == "runs"


def test_a_folder_with_other_flags_is_refused(tmp_path):
    workdir = tmp_path / "run"
    claim_workdir(workdir, make_values("--seed=1", "--widths=4,8"))
    with pytest.raises(RunError) as error:
        claim_workdir(workdir, make_values("--seed=2", "--widths=4,8", "--clip_norm=1"))
    assert str(error.value) == (
        f"{workdir} holds a run with other flags: --clip_norm is None there and 1.0 here; "
        f"--seed is 1 there and 2 here. Use another --workdir, or go on with that run "
        f"by --flagfile={workdir}/flags.txt --workdir={workdir}"
    )
    claim_workdir(workdir, make_values("--seed=1", "--widths=4,8", "--preview=x.png"))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not empty and holds no run \(no flags.txt\)"):
        claim_workdir(tmp_path, make_values())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_and_one_whose_making_was_cut_off_are_taken(tmp_path):
    claim_workdir(tmp_path, make_values())
    shutil.move(tmp_path / "flags.txt", tmp_path / "flags.txt.partial")
    claim_workdir(tmp_path, make_values("--seed=5"))
    assert read_run(tmp_path).seed == 5


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"the run folder {tmp_path}/file/run cannot be made: "):
        claim_workdir(tmp_path / "file" / "run", make_values())


def test_no_run(tmp_path):
    with pytest.raises(RunError, match=r"holds no run: .*flags.txt is missing. Check --workdir"):
        read_run(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "--seed=1\n--from_a_later_version=3\n",
            "Unknown command line flag 'from_a_later_version'",
        ),
        ("--seed=one\n", "flag --seed=one"),
        ("--loss=alpha_dir", "flag --loss=alpha_dir: value should be one of"),
        (b"\xff\xfe\x00", "cannot be read as flags"),
        ("seed 1\n", "cannot be read as flags: it holds 'seed 1'"),
    ],
)
def test_flags_that_cannot_be_read(tmp_path, text, message):
    path = tmp_path / "flags.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (read_run, lambda workdir: claim_workdir(workdir, make_values())):
        with pytest.raises(RunError) as error:
            read(tmp_path)
        assert str(error.value).startswith(f"{path} cannot be read as flags: ")
        assert message in str(error.value)


def test_every_flag_has_a_help_text():
    values = make_values()
    for name in values:
        assert len(values[name].help) > 3, name


def test_a_run_folder_is_one_processs_at_a_time(tmp_path):
    refused = pytest.raises(RunError, match=f"another process is training in {tmp_path}")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_the_warm_up_follows_the_epochs_and_both_are_named_where_they_clash():
    run = SimpleNamespace(flag=lambda name: {"warmup_epochs": 3, "epochs": 3}[name])
    with pytest.raises(ValueError, match="--warmup_epochs=3 is part of --epochs=3"):
        runs._optimizer(run, 10)
