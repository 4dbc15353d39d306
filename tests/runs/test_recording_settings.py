"""Settings of runs on recordings: ranges, text and back, and the flags that methods share."""

import dataclasses
import subprocess
import sys

import pytest

from alphacl_jax.cli.pretrain import groups
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs.fields import kind_of
from alphacl_jax.runs.flag_file import (
    METHODS,
    as_mapping,
    fields_of,
    from_mapping,
    from_text,
    groups_of,
    kind_of_run,
    of_images,
    of_recordings,
    to_text,
)
from alphacl_jax.runs.in_memory import of_arrays
from alphacl_jax.runs.recording_methods import resolved
from alphacl_jax.runs.recording_settings import (
    CEBRAOptimizerSettings,
    CEBRARunSettings,
    CEBRASettings,
    CPCOptimizerSettings,
    CPCRunSettings,
    CPCSettings,
    RecordingDataSettings,
)
from alphacl_jax.runs.settings import DataSettings, EvaluationSettings, RunSettings
from tests.tiny_runs import make_settings, make_values

RECORDING_METHODS = ("cpc", "cebra")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RecordingDataSettings(held_out=1.0), "held_out=1 is out of range; .* < 1"),
        (lambda: RecordingDataSettings(rate=0), "rate=0 is out of range; .* >= 1"),
        (lambda: RecordingDataSettings(normalize=1), "normalize=1 must be True or False"),
        (lambda: RecordingDataSettings(signal_columns=("a",)), "signal_columns=a must be a string"),
        (lambda: CPCSettings(encoder="resnet18"), "encoder=resnet18 is unknown. It must be one of"),
        (
            lambda: CPCSettings(encoder="wave", encoder_layers=3),
            "encoder_layers=3 is set, and only the encoder features read it",
        ),
        (lambda: CPCSettings(window=1), "window=1 is out of range; .* >= 2"),
        (lambda: CPCSettings(prediction_steps=0), "prediction_steps=0 is out of range; .* >= 1"),
        (lambda: CPCSettings(negatives="both_views"), "negatives=both_views is unknown. It must"),
        (lambda: CPCSettings(temperature=0), "temperature=0 is out of range; .* > 0"),
        (lambda: CEBRASettings(positives="behaviour"), "positives=behaviour is unknown"),
        (
            lambda: CEBRASettings(positives="label", time_offset=3),
            "time_offset=3 is set, and only the positives time and time_delta, and hybrid ones, re",
        ),
        (lambda: CEBRASettings(spread=2.0), "spread=2.0 is set, and only the positives gaussian"),
        (lambda: CEBRASettings(prior="uniform"), "prior=uniform is set, and only the positives l"),
        (
            lambda: CEBRASettings(positives="label", within_labels=True),
            "within_labels=True is set, and only the positives time_delta and gaussian",
        ),
        (lambda: CEBRASettings(hybrid=True), "hybrid=True is set, and only the positives label, "),
        (
            lambda: CEBRASettings(temperature=0.5, min_temperature=0.6),
            "min_temperature=0.6 is above 0.5, the temperature that learning starts from",
        ),
        (lambda: CEBRASettings(output_dim=0), "output_dim=0 is out of range; .* >= 1"),
        (lambda: CPCRunSettings(method=CEBRASettings()), "method=.* must be of type CPCSettings"),
        (lambda: CEBRARunSettings(data=DataSettings()), "data=.* must be of type RecordingData"),
        (
            lambda: CPCRunSettings(evaluation=EvaluationSettings()),
            "evaluation=.* must be of type AnyEvaluationSettings",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        make()


@pytest.mark.parametrize("method", RECORDING_METHODS)
def test_each_setting_has_a_text_and_its_default_fits(method):
    for name, (owner, field) in fields_of(method).items():
        assert len(field.metadata["text"]) > 3, name
        kind_of(owner, name)
        owner()


@pytest.mark.parametrize(
    "settings",
    [
        CPCRunSettings(
            seed=3,
            data=RecordingDataSettings("npz", "/some where/a=b, c", held_out=0.3, normalize=False),
            method=CPCSettings(window=64, negatives="current", block_size=64),
            optimizer=CPCOptimizerSettings(clip_norm=1.0),
        ),
        CEBRARunSettings(
            data=RecordingDataSettings("table", "t.csv", signal_columns="a,b", time_column="t"),
            method=CEBRASettings(positives="gaussian", spread=0.5, hybrid=True, time_offset=2),
            optimizer=CEBRAOptimizerSettings(batch_size=64),
        ),
    ],
    ids=RECORDING_METHODS,
)
def test_a_mapping_a_text_and_flags_give_the_settings_back(settings, tmp_path):
    assert from_mapping(as_mapping(settings)) == settings
    assert from_text(to_text(settings)) == settings
    path = tmp_path / "flags.txt"
    path.write_text(to_text(settings).replace("--data_dir=t.csv", "--data_dir=/t.csv"))
    read = make_settings(f"--flagfile={path}")
    assert dataclasses.replace(read, data=settings.data) == settings


def test_no_setting_is_kept_that_nobody_reads():
    """What is of images alone is in no run of recordings, nor the other way round."""
    for method in RECORDING_METHODS:
        names = set(as_mapping(kind_of_run(method)()))
        assert not names & {"micro_batch", "activations_mb", "supervised", "augmentation", "stem"}
    assert not set(as_mapping(RunSettings())) & {"held_out", "normalize", "window"}


def test_methods_have_settings_of_their_own_data():
    assert make_settings("--method=cpc").data.dataset == "japanese_vowels"
    assert make_settings("--method=cpc").optimizer.batch_size == 64
    assert make_settings("--method=cebra").optimizer.batch_size == 512
    assert make_settings().data.dataset == "digits"
    for arguments, name in (
        (["--method=cpc", "--supervised"], "supervised=True is set, and the method cpc does not"),
        (["--method=cpc", "--micro_batch=4"], "micro_batch=4 is set, and the method cpc does not"),
        (["--method=cebra", "--window=9"], "window=9 is set, and the method cebra does not read"),
        (["--held_out=0.3"], "held_out=0.3 is set, and the method contrastive does not read it"),
    ):
        with pytest.raises(ArgumentError, match=name):
            make_settings(*arguments)


def test_a_flag_that_methods_share_is_read_alike_by_all():
    """Its parser is the first method's, whose choices are not asked."""
    kinds = {}
    for method in METHODS:
        for name, (owner, _) in fields_of(method).items():
            kinds.setdefault(name, set()).add(kind_of(owner, name)[0])
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}
    assert make_settings("--method=cpc", "--negatives=current").method.negatives == "current"
    with pytest.raises(ArgumentError, match="negatives=current is unknown"):
        make_settings("--negatives=current")


def test_the_help_has_every_flag_and_says_which_data_a_method_takes():
    shown = groups()
    names = [getattr(entry, "name", entry) for group in shown.values() for entry in group]
    assert set(names) >= {name for method in METHODS for name in fields_of(method)}
    assert any(title.startswith("data of cpc and cebra") for title in shown)
    assert any(title.startswith("method cebra") for title in shown)
    of_cpc = next(of for title, of in shown.items() if title.startswith("method cpc"))
    encoder = next(entry for entry in of_cpc if getattr(entry, "name", "") == "encoder")
    assert encoder.default == "auto"
    assert "features" in encoder.text
    text = make_values()["method"].help
    assert "on images contrastive, supervised" in text
    assert text.endswith("on recordings over time cpc, cebra.")


def test_settings_and_help_wait_for_no_jax():
    code = "import sys, alphacl_jax.cli.pretrain as p; p.groups(); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_runs_are_told_apart():
    assert of_images(RunSettings()) == RunSettings()
    assert of_recordings(CPCRunSettings()) == CPCRunSettings()
    with pytest.raises(RunError, match="method cebra is trained on recordings over time, and this"):
        of_images(CEBRARunSettings())
    with pytest.raises(RunError, match="method contrastive is trained on images, and this is for"):
        of_recordings(RunSettings())
    assert groups_of("cpc")["optimizer"] is CPCOptimizerSettings


@pytest.mark.parametrize(
    ("own", "channels", "rate", "filled"),
    [
        ({}, 12, 156.0, ("features", 128, 128, 12, 3)),
        ({}, 1, 16000.0, ("wave", 512, 256, 20480, 12)),
        ({}, 1, None, ("features", 128, 128, 12, 3)),
        ({}, 2, 16000.0, ("features", 128, 128, 12, 3)),
        ({"window": 7, "encoder": "wave"}, 3, None, ("wave", 512, 256, 7, 12)),
        ({"encoder_width": 5, "context_width": 6}, 1, 1999.0, ("features", 5, 6, 12, 3)),
    ],
)
def test_what_follows_from_the_recordings(own, channels, rate, filled):
    found = resolved(CPCSettings(**own), channels, rate)
    names = ("encoder", "encoder_width", "context_width", "window", "prediction_steps")
    assert tuple(getattr(found, name) for name in names) == filled


def test_options_of_the_source_are_those_that_are_given():
    own = RecordingDataSettings("table", "t.csv", signal_columns="a, b", label_column="c")
    assert own.options == {"signal_columns": ["a", "b"], "label_column": "c"}
    assert RecordingDataSettings().options == {}


def test_settings_of_arrays_are_those_that_no_source_reads():
    assert (
        of_arrays(RecordingDataSettings(normalize=False), "normalize", "recordings").dataset
        == "arrays"
    )
    assert not of_arrays(
        RecordingDataSettings(normalize=False), "normalize", "recordings"
    ).normalize
    for own, name in (({"rate": 3}, "rate=3"), ({"dataset": "wav"}, "dataset=wav")):
        with pytest.raises(ArgumentError, match=f"{name} is set, and recordings in memory are"):
            of_arrays(RecordingDataSettings(**own), "normalize", "recordings")


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        (["--method=cpc"], "cpc"),
        (["--method=cebra"], "cebra-time"),
        (["--method=cebra", "--positives=label", "--hybrid"], "cebra-label-hybrid"),
    ],
)
def test_labels(arguments, label):
    assert make_settings(*arguments).method.label == label
