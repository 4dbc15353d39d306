"""A run folder remembers its flags, repeats them, and is nobody else's."""

import re
import shutil

import pytest

from alphacl_jax.cli.launch import HOSTS
from alphacl_jax.cli.run_flags import settings_of
from alphacl_jax.data.policies import Policy
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs.description import Description, read_description, write_description
from alphacl_jax.runs.flag_file import METHODS, as_mapping, fields_of, from_text, to_text
from alphacl_jax.runs.folder import (
    OtherDataError,
    OtherRunError,
    claim_workdir,
    how_far,
    is_in_use,
    locked,
    read_settings,
    saved_steps,
)
from alphacl_jax.runs.naming import as_file_name, default_workdir
from alphacl_jax.runs.optimizer import optimizer_of
from alphacl_jax.runs.settings import OptimizerSettings
from tests.tiny_runs import make_settings, make_values

# Every type of flag, away from its default; None, lists and commas among them.
UNUSUAL = [
    "--seed=7",
    "--dataset=folder",
    "--data_dir=/some where/with spaces, and = signs",
    "--image_size=16",
    "--pixel_range=-1024:3071",
    "--max_megapixels=1.5",
    "--augmentation_overrides=cutout_prob=0.5,crop_scale=0.2:1",
    "--widths=3,5,7",
    "--nostop_gradient",
    "--temperature=0.1234567890123",
    "--learning_rate=1e-7",
    "--clip_norm=3",
    "--margin=-0.25",
    "--block_size=64",
]


@pytest.mark.parametrize("arguments", [[], UNUSUAL], ids=["none", "many"])
def test_a_run_is_repeated_by_its_flag_file(tmp_path, arguments):
    settings = make_settings(*arguments)
    claim_workdir(tmp_path / "run", settings)
    path = tmp_path / "run" / "flags.txt"
    again = make_settings(f"--flagfile={path}")
    assert again == settings
    assert read_settings(tmp_path / "run") == settings
    assert to_text(again) == path.read_text()
    assert from_text(path.read_text()) == settings
    assert default_workdir(again, "digits") == default_workdir(settings, "digits")
    claim_workdir(tmp_path / "run", again)


def test_settings_hold_every_flag_but_where_the_run_lies_and_what_it_shows():
    values = make_values()
    held = as_mapping(settings_of(values))
    launch = {"workdir", "allow_changed_data", "preview", "seeds_as"}
    of_other_methods = {name for method in METHODS for name in fields_of(method)} - set(held)
    assert set(values) - set(held) == {*launch, *HOSTS, *of_other_methods}
    changed = as_mapping(make_settings(*UNUSUAL))
    same = [name for name, value in held.items() if changed[name] == value]
    assert len(same) == len(held) - len(UNUSUAL)


def test_a_flag_after_the_file_wins(tmp_path):
    claim_workdir(tmp_path / "run", make_settings("--seed=3"))
    assert make_settings(f"--flagfile={tmp_path}/run/flags.txt", "--seed=4").seed == 4


def test_the_default_folder_is_named_by_what_is_computed():
    def named(*arguments):
        return default_workdir(make_settings(*arguments), "digits")

    plain = named()
    assert re.fullmatch(r"runs/digits-alpha_direct-[0-9a-f]{8}", str(plain))
    assert named() == plain
    # Where the run lies, what is looked at, and defaults that are spelled out make no other run.
    assert named("--workdir=x", "--temperature=0.5", "--log_every=3", "--evaluate=none") == plain
    data = UNUSUAL[1]  # the only kind that has a range of pixels
    assert data == "--dataset=folder"
    computed = [argument for argument in UNUSUAL if not argument.startswith("--data_dir")]
    names = [
        named(data, argument) if argument.startswith("--pixel_range") else named(argument)
        for argument in computed
    ]
    assert len({plain, *names}) == len(computed) + 1
    assert named("--dataset=folder", "--data_dir=/a") == named("--dataset=folder", "--data_dir=/b")
    title = "imagenet_resized/32x32"
    assert default_workdir(make_settings(), title).parent.name == "runs"


def _described(num_images=24, fingerprint="a", classes=("cat", "dog"), mean=0.5, shape=(8, 8, 1)):
    colours = Preprocessing(shape, (mean,) * shape[2], (0.25,) * shape[2])
    return Description(colours, Policy(), classes, "data", num_images, fingerprint)


def _begun(workdir, data, *arguments):
    claim_workdir(workdir, make_settings(*arguments), data)
    write_description(workdir, data)


def test_images_that_were_moved_find_their_run_and_others_do_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here, there = ["--dataset=folder", "--data_dir=/a"], ["--dataset=folder", "--data_dir=/b"]
    data, other = _described(), _described(fingerprint="b")
    plain = default_workdir(make_settings(*here), "data", data)
    _begun(plain, data, *here)
    assert default_workdir(make_settings(*there), "data", data) == plain
    # What changed where it lies is to be refused, not to begin another run in silence.
    assert default_workdir(make_settings(*here), "data", other) == plain
    # Other images of another place that has the same name are another run's, and stay it.
    placed = default_workdir(make_settings(*there), "data", other)
    assert placed != plain
    _begun(placed, other, *there)
    assert default_workdir(make_settings(*there), "data", data) == placed


def test_long_titles_and_those_of_other_encodings_name_folders():
    assert as_file_name("imagenet_resized/32x32") == "imagenet_resized_32x32"
    for title in ("x" * 255, "犬" * 85, "\udcff" * 200):
        name = default_workdir(make_settings("--loss=alpha_from_n_plus_one_tuplet"), title).name
        assert len(name.encode()) < 200


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (_described(num_images=20), "images 24 then, 20 now"),
        (_described(classes=("cat", "fox")), "classes that are gone: dog; new classes: fox"),
        (_described(fingerprint="b"), "as many images, but not the same ones by their names and"),
        (_described(mean=0.75), "mean of the colours 0.500 then, 0.750 now"),
    ],
)
def test_changed_data_is_described_and_allowed_on_request(tmp_path, now, said):
    workdir = tmp_path / "run"
    _begun(workdir, _described())
    with pytest.raises(OtherDataError, match=f"trained on other images: {said}") as error:
        claim_workdir(workdir, make_settings(), now)
    assert "or allow changed data to go on with these" in str(error.value)
    news = claim_workdir(workdir, make_settings(), now, allow_changed_data=True)
    assert f"the run in {workdir} goes on with other images ({said}" in news
    kept = read_description(workdir)
    assert (kept.num_images, kept.fingerprint, kept.class_names) == (
        now.num_images,
        now.fingerprint,
        now.class_names,
    )
    # The encoder is given what it was given from the start.
    assert kept.preprocessing == _described().preprocessing
    assert len(kept.data_changes) == 1
    assert claim_workdir(workdir, make_settings(), now) == ""


def test_small_differences_of_colours_are_none():
    assert _described().changes(_described(mean=0.5005)) == []


def test_images_of_another_shape_are_never_gone_on_with(tmp_path):
    _begun(tmp_path, _described())
    with pytest.raises(OtherDataError, match=r"image shape \(8, 8, 1\) then, \(9, 8, 1\) now") as e:
        claim_workdir(
            tmp_path, make_settings(), _described(shape=(9, 8, 1)), allow_changed_data=True
        )
    assert e.value.impossible
    assert "allow" not in str(e.value)


def test_a_folder_that_lost_its_settings_says_what_to_restore(tmp_path):
    claim_workdir(tmp_path, make_settings())
    (tmp_path / "checkpoints" / "30").mkdir(parents=True)
    for state in ("empty", "missing"):
        (tmp_path / "flags.txt").write_text("")
        if state == "missing":
            (tmp_path / "flags.txt").unlink()
        for read in (read_settings, lambda workdir: claim_workdir(workdir, make_settings())):
            with pytest.raises(RunError) as error:
                read(tmp_path)
            assert str(error.value).startswith(
                f"{tmp_path} holds checkpoints, the last of step 30, and its flags.txt is {state}"
            )
            assert f"Restore {tmp_path / 'flags.txt'} from a copy" in str(error.value)


def test_a_folder_of_runs_that_are_called_as_seeds_are_is_none(tmp_path):
    for name in ("seed-0", "seed-1"):
        claim_workdir(tmp_path / name, make_settings())
        (tmp_path / name / "checkpoints" / "30").mkdir(parents=True)
    for read in (read_settings, lambda workdir: claim_workdir(workdir, make_settings())):
        with pytest.raises(RunError) as error:
            read(tmp_path)
        assert str(error.value) == (
            f"{tmp_path} holds no run of its own (flags.txt is missing), but those in "
            f"{tmp_path}/seed-0, {tmp_path}/seed-1. Use one of these run folders; or, where they "
            f"are the seeds of one run, restore {tmp_path}/flags.txt from a copy of the folder"
        )
    (tmp_path / "seed-1" / "flags.txt").unlink()
    with pytest.raises(RunError, match=r"holds checkpoints, the last of step 30, .* is missing"):
        read_settings(tmp_path)


def test_a_folder_whose_settings_a_power_cut_emptied_is_taken(tmp_path):
    claim_workdir(tmp_path, make_settings())
    with locked(tmp_path):
        (tmp_path / "flags.txt").write_text("")
    with pytest.raises(RunError, match=r"holds no run: .*flags.txt is empty"):
        read_settings(tmp_path)
    claim_workdir(tmp_path, make_settings("--seed=5"))
    assert read_settings(tmp_path).seed == 5


def test_how_far_a_run_is(tmp_path):
    assert how_far(tmp_path, 40) == f"The run in {tmp_path} has saved no step yet"
    for name in ("8", "30", "40.orbax-checkpoint-tmp", "damaged"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert saved_steps(tmp_path) == [8, 30]
    assert how_far(tmp_path, 40) == f"Saved is step 30 of 40 of the run in {tmp_path}"
    (tmp_path / "seed-1" / "checkpoints" / "40").mkdir(parents=True)
    assert how_far(tmp_path, 40) == (
        f"Saved are step 30 of 40 of the run in {tmp_path}, "
        f"step 40 of 40 of the run in {tmp_path}/seed-1"
    )


def test_who_trains_in_a_folder_is_seen(tmp_path):
    assert not is_in_use(tmp_path)
    with locked(tmp_path):
        assert is_in_use(tmp_path)
    assert not is_in_use(tmp_path)


def test_a_value_of_several_lines_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"data_dir='/a\\nb' must be one line"):
        claim_workdir(tmp_path / "run", make_settings("--data_dir=/a\nb"))


def test_a_folder_with_other_settings_is_refused(tmp_path):
    workdir = tmp_path / "run"
    claim_workdir(workdir, make_settings("--seed=1", "--widths=4,8"))
    with pytest.raises(OtherRunError) as error:
        claim_workdir(workdir, make_settings("--seed=2", "--widths=4,8", "--clip_norm=1"))
    assert str(error.value) == (
        f"{workdir} holds a run with other settings: clip_norm is None there and 1.0 here; "
        "seed is 1 there and 2 here"
    )
    assert error.value.differing == {"clip_norm": (None, 1.0), "seed": (1, 2)}
    claim_workdir(workdir, make_settings("--seed=1", "--widths=4,8", "--preview=x.png"))


def test_what_changes_nothing_that_is_computed_may_differ(tmp_path):
    workdir = tmp_path / "run"
    claim_workdir(workdir, make_settings())
    other = make_settings("--log_every=3", "--save_every=7", "--evaluate=quick", "--probe_every=2")
    assert claim_workdir(workdir, other) == ""
    assert read_settings(workdir) == other


def test_epochs_may_be_raised_and_not_lowered(tmp_path):
    workdir = tmp_path / "run"
    claim_workdir(workdir, make_settings("--epochs=20"))
    news = claim_workdir(workdir, make_settings("--epochs=30"))
    assert news.startswith(f"the run in {workdir} is raised from 20 to 30 epochs: from its last ")
    assert read_settings(workdir).optimizer.epochs == 30
    with pytest.raises(OtherRunError, match="epochs is 30 there and 20 here"):
        claim_workdir(workdir, make_settings("--epochs=20"))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not empty and holds no run \(no flags.txt\)"):
        claim_workdir(tmp_path, make_settings())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_and_one_whose_making_was_cut_off_are_taken(tmp_path):
    claim_workdir(tmp_path, make_settings())
    shutil.move(tmp_path / "flags.txt", tmp_path / "flags.txt.1.partial")
    claim_workdir(tmp_path, make_settings("--seed=5"))
    assert read_settings(tmp_path).seed == 5


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"the run folder {tmp_path}/file/run cannot be made: "):
        claim_workdir(tmp_path / "file" / "run", make_settings())


def test_no_run(tmp_path):
    with pytest.raises(
        RunError, match=r"holds no run: .*flags.txt is missing. Check the run folder"
    ):
        read_settings(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "--seed=1\n--from_a_later_version=3\n",
            "unknown setting 'from_a_later_version'",
        ),
        ("--seed=one\n", "seed=one must be a whole number"),
        (
            "--loss=alpha_dir",
            "loss=alpha_dir is unknown. Did you mean alpha_direct? It must",
        ),
        ("--seed\n", "'seed' has no value"),
        ("--nosupervised=1\n", "unknown setting 'nosupervised'"),
        ("--method=byol\n", "method=byol is none of contrastive"),
        (b"\xff\xfe\x00", "cannot be read as flags"),
        ("seed 1\n", "cannot be read as flags: it holds 'seed 1'"),
    ],
)
def test_flags_that_cannot_be_read(tmp_path, text, message):
    path = tmp_path / "flags.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (read_settings, lambda workdir: claim_workdir(workdir, make_settings())):
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
    with pytest.raises(ValueError, match="warmup_epochs=3 is part of the 3 epochs"):
        OptimizerSettings(warmup_epochs=3, epochs=3)


@pytest.mark.parametrize(("epochs", "warm"), [(60, 50), (20, 20), (15, 10), (4, 4), (1, 1)])
def test_the_default_warm_up_is_a_tenth_of_the_run_and_at_most_five_epochs(epochs, warm):
    learning_rate = optimizer_of(OptimizerSettings(epochs=epochs, learning_rate=1.0), 10)[1]
    assert float(learning_rate(warm)) == 1.0
    assert float(learning_rate(warm - 1)) < 1.0
