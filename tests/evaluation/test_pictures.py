"""Pictures: what is drawn, that files are whole PNGs, and odd inputs."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from alphacl_jax.evaluation import pictures
from alphacl_jax.evaluation.pictures import plot_history, plot_map, plot_spectrum


def saved_figures(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[Figure]:
    """Every figure that a module saves from here on, to look inside."""
    seen: list[Figure] = []
    save = module.write_png_atomically
    monkeypatch.setattr(
        module,
        "write_png_atomically",
        lambda path, figure: (seen.append(figure), save(path, figure)),
    )
    return seen


@pytest.fixture
def figures(monkeypatch):
    return saved_figures(monkeypatch, pictures)


def assert_picture(path: Path) -> None:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert np.asarray(image.convert("L")).std() > 1  # not blank
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half-written


RECORD = {
    "loss": 2.0,
    "energy": -4.0,
    "alignment": 0.5,
    "uniformity": -2.0,
    "effective_rank": 7.0,
    "knn": 0.9,
    "linear": 0.95,
    "learning_rate": 0.1,
    "step": 1,
}


@pytest.mark.parametrize("n", [1, 30])
def test_history(tmp_path, figures, n):
    records = [{"epoch": i / 2} | {k: v * (i + 1) for k, v in RECORD.items()} for i in range(n)]
    plot_history(tmp_path / "history.png", [{"epoch": 5, "accuracy": 1.0}, *records])
    assert_picture(tmp_path / "history.png")
    panels = {ax.get_ylabel(): ax for ax in figures[0].axes}
    assert list(panels) == [
        "loss",
        "alignment",
        "uniformity",
        "effective rank",
        "accuracy of quick probes, %",
        "learning rate",
    ]
    drawn = {"loss": 2.0, "uniformity": -2.0, "effective rank": 7.0, "learning rate": 0.1}
    for label, value in drawn.items():
        (line,) = panels[label].lines
        want = [(i / 2, value * (i + 1)) for i in range(n)]
        np.testing.assert_allclose(line.get_xydata(), want)
        assert panels[label].get_xlabel() == "epoch"
        assert (line.get_marker() == "None") == (n == 30)
    knn, linear = panels["accuracy of quick probes, %"].lines
    np.testing.assert_allclose(knn.get_ydata(), [90.0 * (i + 1) for i in range(n)])
    assert (knn.get_label(), linear.get_label()) == ("kNN", "linear")


def test_history_of_what_there_is_or_of_nothing(tmp_path, figures):
    records = [{"epoch": 1, "loss": 100.0}, {"epoch": 2, "loss": 1.0, "knn": 0.5}, {"epoch": 3}]
    plot_history(tmp_path / "history.png", records)
    loss, probes = figures[0].axes
    assert loss.get_yscale() == "log"  # all but the first would lie on the axis
    assert probes.get_legend() is None
    plot_history(tmp_path / "history.png", [{"epoch": i, "loss": 9.0 - 10 * i} for i in (0, 1)])
    (loss,) = figures[1].axes
    assert loss.get_yscale() == "linear"
    with pytest.raises(ValueError, match="none of 1 records has an epoch and one of loss, align"):
        plot_history(tmp_path / "none.png", [{"step": 1, "loss": 2.0}])


def test_history_of_signs_of_collapse(tmp_path, figures):
    """What methods record of embeddings is beside what probes record of features."""
    record = {"std": 0.1, "healthy_std": 0.2, "embedding_rank": 3.0, "eigenspace_alignment": 0.5}
    records = [{"epoch": 1, **record}, {"epoch": 2, **record, "effective_rank": 9.0}]
    plot_history(tmp_path / "history.png", records)
    panels = {ax.get_ylabel(): ax for ax in figures[0].axes}
    std, healthy = panels["standard deviation of embeddings"].lines
    assert (std.get_ydata()[0], healthy.get_ydata()[0]) == (0.1, 0.2)
    features, embeddings = panels["effective rank"].lines
    assert (features.get_label(), list(features.get_ydata())) == ("features", [9.0])
    assert (embeddings.get_label(), list(embeddings.get_ydata())) == ("embeddings", [3.0, 3.0])
    assert "eigenspace alignment" in panels


def test_spectrum(tmp_path, figures):
    path = tmp_path / "new" / "spectrum.png"
    plot_spectrum(path, {"embedding": [2.0, 2.0, 0.0], "features": [1.0, 1e-3, 1e-20, 0.0]})
    assert_picture(path)
    (ax,) = figures[0].axes
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[0] == "embedding: effective rank 2.0 of 3"
    assert texts[1].startswith("features: effective rank 1.0 of 4")
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] == pytest.approx(2e-10)
    plot_spectrum(path, {"collapsed": [0.0, 0.0]})
    with pytest.raises(ValueError, match="spectra is empty"):
        plot_spectrum(path, {})


@pytest.mark.parametrize("num_classes", [3, 24])
def test_map_by_class(tmp_path, figures, num_classes):
    y = np.arange(48) % num_classes
    x = 5 * np.eye(24)[y] + np.random.default_rng(0).normal(size=(48, 24))
    plot_map(tmp_path / "map.png", x, y, [f"c{i}" for i in range(num_classes)])
    assert_picture(tmp_path / "map.png")
    (ax,) = figures[0].axes
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        f"c{i}" for i in range(num_classes)
    ]
    looks = {
        (tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in ax.collections
    }
    assert len(looks) == num_classes  # colour and marker tell any two classes apart
    assert sum(len(c.get_offsets()) for c in ax.collections) == 48
    assert "48 points" in ax.get_title()


HOSTILE = ["$10_to_$20", r"\frac{a}{", "_hidden", "犬と猫", "x" * 200 + "1", "a\nb", "", "\ud800"]


def test_legend_of_hostile_names(tmp_path, figures):
    y = np.arange(40) % 8
    x = 5 * np.eye(8)[y] + np.random.default_rng(0).normal(size=(40, 8))
    plot_map(tmp_path / "map.png", x, y, HOSTILE)
    assert_picture(tmp_path / "map.png")
    shown = [t.get_text() for t in figures[0].axes[0].get_legend().get_texts()]
    assert shown[:3] == HOSTILE[:3]
    assert shown[3] in (HOSTILE[3], "3: ???")  # as the fonts of this machine can
    assert shown[4].startswith("xxx")
    assert shown[4].endswith("x1")
    assert len(shown[4]) == 28
    assert shown[5] == "a b"
    assert shown[6].startswith("6:")
    assert len(set(shown)) == 8
    assert not any(t.get_parse_math() for t in figures[0].axes[0].get_legend().get_texts())


def test_names_that_would_look_alike_have_their_numbers(tmp_path, figures, caplog):
    names = ["a" * 30 + "1" + "b" * 30, "a" * 30 + "2" + "b" * 30, "c"]
    plot_map(tmp_path / "map.png", np.eye(6), np.arange(6) % 3, names)
    shown = [t.get_text() for t in figures[0].axes[0].get_legend().get_texts()]
    assert shown[0].startswith("0: aaa")
    assert shown[1].startswith("1: aaa")
    assert shown[2] == "c"
    assert max(map(len, shown)) == 28
    assert caplog.messages == [
        f"classes that the legend shows by number: 0 is {names[0]!r}, 1 is {names[1]!r}"
    ]


def test_no_class_is_hidden_in_silence(tmp_path, figures):
    y = np.arange(210) % 105
    x = np.random.default_rng(0).normal(size=(210, 4))
    plot_map(tmp_path / "map.png", x, y, [f"c{i}" for i in range(108)])
    legend = figures[0].axes[0].get_legend()
    shown = [t.get_text() for t in legend.get_texts()]
    assert shown == [*(f"c{i}" for i in range(100)), "and 5 more, with these looks again"]
    assert legend.get_title().get_text() == "class (3 without a point)"
    assert sum(len(c.get_offsets()) for c in figures[0].axes[0].collections) == 210


def test_map_without_labels_is_sampled_and_repeats_by_seed(tmp_path, figures, monkeypatch):
    monkeypatch.setattr(pictures, "_MAX_POINTS", 40)
    x = np.random.default_rng(0).normal(size=(60, 3))
    for seed in (0, 0, 1):
        plot_map(tmp_path / "map.png", x, seed=seed)
    assert "40 of 60 points" in figures[0].axes[0].get_title()
    first, again, other = (f.axes[0].collections[0].get_offsets() for f in figures)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("x", [np.ones((6, 3)), np.arange(4.0)[:, None]])
def test_map_of_collapsed_or_one_dimensional_features(tmp_path, figures, x):
    plot_map(tmp_path / "map.png", x)
    assert np.isfinite(figures[0].axes[0].collections[0].get_offsets()).all()


def test_map_errors(tmp_path):
    x = np.eye(6)
    path = tmp_path / "map.png"
    with pytest.raises(ValueError, match="at least 4 points; got 3"):
        plot_map(path, x[:3])
    with pytest.raises(ValueError, match="give both or neither"):
        plot_map(path, x, np.zeros(6, int))
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\].*from 0 to 5"):
        plot_map(path, x, np.arange(6), ["a", "b"])
    with pytest.raises(ValueError, match="1 of the 36 values in features"):
        plot_map(path, np.where(np.arange(36).reshape(6, 6) == 3, np.nan, x))
    assert not path.exists()


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "history.png"
    path.write_text("old")

    def fails(self, target, **_):
        Path(target).write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fails)
    with pytest.raises(OSError, match="disk full"):
        plot_history(path, [{"epoch": 1, "loss": 2.0}])
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["history.png"]
