"""Policies: choice by data set, overrides, one line for people, and storing."""

import dataclasses
import json

import pytest

from alphacl_jax.data import policies
from alphacl_jax.data.policies import Policy
from alphacl_jax.errors import ArgumentError


def test_policy_of_each_data_set():
    assert policies.default_policy("digits", (8, 8, 1)) == policies.DIGITS
    assert policies.default_policy("mnist", (28, 28, 1)).flip_prob == 0
    assert policies.default_policy("emnist/letters", (28, 28, 1)) == policies.DIGITS
    assert policies.default_policy("fashion_mnist", (28, 28, 1)) == policies.SIMCLR_GRAY
    small = policies.default_policy("cifar10", (32, 32, 3))
    assert (small.crop_scale, small.jitter_prob, small.grayscale_prob) == ((0.08, 1.0), 0.8, 0.2)
    assert small.blur_prob == 0
    assert policies.default_policy("folder", (64, 64, 3)).blur_prob == 0
    assert policies.default_policy("stl10", (96, 96, 3)).blur_prob == 0.5
    with pytest.raises(
        ValueError, match=r"augmentation=moco .*: choose from simclr, simclr_gray, digits, none"
    ):
        policies.named_policy("moco", (32, 32, 3))


def test_policies_are_static_arguments():
    assert hash(Policy(hue=0.2)) == hash(Policy(hue=0.2))
    assert Policy(hue=0.2) == Policy(hue=0.2) != Policy(hue=0.1)


def test_override_changes_the_named_fields_only():
    changed = policies.override(
        policies.SIMCLR, " cutout_prob=0.5, noise_std=5e-2,crop_scale=0.2:1 "
    )
    want = dataclasses.replace(
        policies.SIMCLR, cutout_prob=0.5, noise_std=0.05, crop_scale=(0.2, 1.0)
    )
    assert changed == want
    assert policies.override(policies.DIGITS, "") == policies.DIGITS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("cut_prob=0.5", "unknown augmentation field 'cut_prob': choose from crop_prob, "),
        ("cutout_prob", "setting 'cutout_prob': write field=value"),
        ("hue=lots", "hue=lots: one number is needed"),
        ("hue=0.1:0.2", "hue=0.1:0.2: one number is needed"),
        ("crop_scale=0.2", r"crop_scale=0.2: a range such as 0.2:1.0 is needed"),
        ("hue=0.1,hue=0.2", "'hue' is set twice"),
        ("flip_prob=1.5", r"flip_prob=1.5 must be a probability in \[0, 1\]"),
        ("flip_prob=nan", r"flip_prob=nan must be a probability in \[0, 1\]"),
        ("crop_scale=1:0.2", r"crop_scale=\(1.0, 0.2\) must be a range 0 < low <= high"),
        ("crop_scale=0.2:2", r"crop_scale=\(0.2, 2.0\) must be at most 1, a share of the area"),
        ("crop_ratio=0:1", "crop_ratio=.*0 < low <= high"),
        ("noise_std=-1", "noise_std=-1.0 must be finite and not negative"),
        ("hue=0.6", "hue=0.6 must be at most 0.5"),
    ],
)
def test_override_says_what_is_wrong(settings, message):
    with pytest.raises(ArgumentError, match=message) as error:
        policies.override(policies.SIMCLR, settings)
    assert (error.value.argument, error.value.value) == ("augmentation_overrides", settings)


def test_the_second_view_has_changes_of_its_own():
    first, second = policies.of_views(policies.SIMCLR, "solarize_prob=0.2")
    assert first == policies.SIMCLR
    assert second == dataclasses.replace(policies.SIMCLR, solarize_prob=0.2)
    # Where nothing is changed there is one policy, and so one way to draw.
    for changes in ("", "grayscale_prob=0.2"):
        assert policies.of_views(policies.SIMCLR, changes) is policies.SIMCLR
    with pytest.raises(ArgumentError, match="unknown augmentation field 'solar'") as error:
        policies.of_views(policies.SIMCLR, "solar=1")
    assert (error.value.argument, error.value.value) == ("second_view_overrides", "solar=1")


def test_the_policy_of_a_run():
    grey, colour = (28, 28, 1), (96, 96, 3)
    assert policies.policy_for("folder", grey) == policies.SIMCLR_GRAY
    assert policies.policy_for("stl10", colour).blur_prob == 0.5
    assert policies.policy_for("cifar10", grey, "none") == policies.NONE
    changed = policies.policy_for("cifar10", colour, "simclr", "hue=0.2")
    assert (changed.hue, changed.blur_prob, changed.name) == (0.2, 0.5, "simclr (changed)")
    with pytest.raises(ArgumentError) as error:
        policies.policy_for("cifar10", colour, "moco")
    assert (error.value.argument, error.value.value) == ("augmentation", "moco")


def test_a_name_is_for_people_alone():
    assert {name: policy.name for name, policy in policies.POLICIES.items()} == {
        name: name for name in ("simclr", "simclr_gray", "digits", "none")
    }
    renamed = dataclasses.replace(policies.SIMCLR, name="mine")
    assert renamed == policies.SIMCLR
    assert hash(renamed) == hash(policies.SIMCLR)
    assert policies.override(policies.SIMCLR, "hue=0.1").name == "simclr"  # as it was
    twice = policies.override(policies.override(policies.SIMCLR, "hue=0.2"), "hue=0.3")
    assert twice.name == "simclr (changed)"
    with pytest.raises(ArgumentError, match="unknown augmentation field 'name'"):
        policies.override(policies.SIMCLR, "name=1")


def test_a_policy_is_described_by_what_it_does():
    assert policies.describe(policies.NONE) == "none: no augmentation"
    assert policies.describe(policies.SIMCLR) == (
        "simclr: crop_prob=1 crop_scale=0.08:1 crop_ratio=0.75:1.33 flip_prob=0.5 jitter_prob=0.8 "
        "brightness=0.4 contrast=0.4 saturation=0.4 hue=0.1 grayscale_prob=0.2"
    )
    assert policies.describe(policies.SIMCLR_GRAY, channels=1) == (
        "simclr_gray: crop_prob=1 crop_scale=0.2:1 crop_ratio=0.75:1.33 flip_prob=0.5 "
        "jitter_prob=0.8 brightness=0.4 contrast=0.4"
    )
    assert policies.describe(Policy(noise_prob=0.5)) == "custom: no augmentation"
    pair = policies.of_views(policies.NONE, "flip_prob=0.5")
    assert policies.describe(pair) == (
        "view 1 by none: no augmentation; view 2 by none (changed): flip_prob=0.5"
    )
    everything = {f.name: 0.5 for f in dataclasses.fields(Policy) if f.name.endswith("_prob")}
    text = policies.describe(Policy(**everything, noise_std=0.1))
    for field in dataclasses.fields(Policy):
        assert f" {field.name}=" in text or field.name == "name"


@pytest.mark.parametrize(
    "policy",
    [*policies.POLICIES.values(), Policy(crop_ratio=(0.1, 1 / 3), hue=0.1 + 0.2, name="mine")],
)
def test_a_stored_policy_comes_back(policy):
    back = policies.from_dict(json.loads(json.dumps(policies.as_dict(policy))))
    assert back == policy
    assert back.name == policy.name
    assert hash(back) == hash(policy)
