"""The figure and the page of `cmgems explain`: what is drawn, in which files."""

import re
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.explaining.figure import LETTER_COLOURS, Shown, draw_logo, explanation_figure
from cmgems_cli.explaining.summary import profile_of
from cmgems_cli.explaining.summary_output import PAGE_BASES, PAGE_WIDTH
from tests.command_line import CommandLine
from tests.inference.conftest import random_sequence

pytest.importorskip("matplotlib")


def test_a_letter_is_as_high_as_its_value_and_hangs_below_zero() -> None:
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    draw_logo(axes, "AACN", np.array([2, -1, 0.5, 3], np.float32), first=10)
    drawn = [(to_hex(one.get_facecolor()), one.get_path().get_extents().extents) for one in axes.patches]
    colours = [LETTER_COLOURS[letter] for letter in "AAC"]
    assert [colour for colour, _ in drawn] == colours
    boxes = [box for _, box in drawn]
    assert np.allclose([(box[1], box[3]) for box in boxes], [(0, 2), (-1, 0), (0, 0.5)])
    assert np.allclose([(box[0] + box[2]) / 2 for box in boxes], [10, 11, 12])


def test_long_sequences_continue_on_further_lines_with_one_scale() -> None:
    effects = np.zeros((25, 4), np.float32)
    effects[3, 1] = -5
    one = Shown("a sequence", 100, random_sequence(25, 1), effects)
    two = Shown("another", 0, random_sequence(8, 2), effects[:8] / 5)
    figure = explanation_figure([one, two], profile_of([effects[:, 0]]), changed="change", line_bases=10)
    maps = [axes.images[0] for axes in figure.axes if axes.images]
    assert [image.get_array().shape for image in maps] == [(4, 10), (4, 10), (4, 5), (4, 8)]  # type: ignore[union-attr]
    assert {image.get_clim() for image in maps} == {(-5, 5)}
    assert [image.get_extent()[0] for image in maps] == [99.5, 109.5, 119.5, -0.5]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title for title in titles if title] == ["mean of 1 sequences", "a sequence", "another"]


def test_labels_of_a_page_can_be_read_on_a_telephone() -> None:
    from matplotlib.text import Text

    effects = np.full((40, 4), 1e-5, np.float32)
    profile = profile_of([effects[:, 0]])
    for shown, mean in (([Shown("s: class 1", 0, random_sequence(40, 1), effects)], None), ([], profile)):
        figure = explanation_figure(shown, mean, changed="change", width=PAGE_WIDTH, line_bases=PAGE_BASES)
        figure.canvas.draw()
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        # Measured in a browser: a screen of 400 pixels leaves 353 to a picture.
        pixels_per_point = 353 / (PAGE_WIDTH * 72)
        assert min(text.get_fontsize() for text in texts) * pixels_per_point >= 11


def test_the_command_writes_figures_pages_and_motifs(
    cmgems: CommandLine, classifier: Path, tmp_path: Path
) -> None:
    rows = "".join(f">s{n} <b>\n{random_sequence(20, n)}\n" for n in range(4))
    (tmp_path / "in.fa").write_text(rows + ">none\nNNNN\n")
    words = [classifier, tmp_path / "in.fa", "--device", "cpu", "--show", "2", "--motif-bases", "3"]
    page, motifs = tmp_path / "f.html", tmp_path / "new" / "m.meme"
    told = cmgems(
        "explain", *words, "--figure", page, "--motifs", motifs, "--out", tmp_path / "f.tsv", "--json"
    ).json
    assert told["figure"] == str(page)
    assert len(told["motifs"]["kmer"]) == motifs.read_text().count("MOTIF ")
    text = page.read_text()
    # Nothing is fetched, and what is shown is one picture of the mean and one per sequence shown.
    assert not re.search(r'(src|href)="(?!data:)|<script|@import|url\(', text)
    assert len(re.findall(r'<img src="data:image/svg\+xml;base64,', text)) == 3
    assert re.findall(r"<h2>(s\d)", text) == ["s0", "s1"]
    assert "Most important k-mers" in text
    assert "max-width: 44rem" in text
    again = cmgems("explain", *words, "--figure", page, code=4)
    assert "--overwrite" in again.error
    for kind, begin in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        cmgems("explain", *words, "--show", "1", "--figure", tmp_path / f"f.{kind}")
        assert (tmp_path / f"f.{kind}").read_bytes().startswith(begin)
    assert ".png, .svg, .html" in cmgems("explain", *words, "--figure", tmp_path / "f.pdf", code=2).error
