"""`cmgems show-masks`: the masks of a run, what is printed, the page, and the fault of ranks by position."""

import html.parser
import re
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.errors import UsageError
from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.intervals import intervals_of
from cmgems_cli.genome.scanner import BLANKS
from cmgems_cli.genome.vocabulary import kmers
from cmgems_cli.mask_viewer.samples import MaskSample, mask_variants_of
from cmgems_cli.mask_viewer.summaries import excerpts
from cmgems_cli.pmi.ranking import read_ranking
from cmgems_cli.training.sequence_order import training_order
from tests.command_line import CommandLine
from tests.mask_viewer.conftest import FASTA
from tests.masking import reference


@pytest.fixture(scope="session")
def show_masks(cmgems: CommandLine, inputs: tuple[Path, Path]) -> CommandLine:
    """Run `cmgems show-masks` on the corpus and its ranking."""
    corpus, pmi = inputs
    return cmgems.of("show-masks", corpus, "--pmi", pmi)


@pytest.fixture(scope="module")
def figures(show_masks: CommandLine) -> dict:
    """The JSON object over all ways."""
    done = show_masks("--strategies", "random,genemask,global,random-mask", "--rank-by", "both", "--json")
    return done.json


def test_ways_of_masking() -> None:
    ways = mask_variants_of(" global, Random,GLOBAL,random-mask", "both")
    assert [way.name for way in ways] == ["global", "random", "random-mask", "global (position)"]
    assert [way.name for way in mask_variants_of("random,genemask", "position")] == [
        "random",
        "genemask (position)",
    ]
    assert [way.uses_ranks for way in ways] == [True, False, False, True]
    for names, words in [
        ("cm-gems", "cm-gems is genemask, then global; name those"),
        ("cm-step", "cm-step is random and global"),
        ("all", "'all' is unknown; choose random, genemask, global, random-mask"),
        ("Globl", "'Globl' is unknown; choose .*; did you mean global\\?"),
        (" , ", "names none"),
    ]:
        with pytest.raises(UsageError, match=words):
            mask_variants_of(names, "content")


def test_masks_are_those_of_the_first_sequences_of_a_run(inputs: tuple[Path, Path]) -> None:
    corpus, ranking = Corpus.open(inputs[0]), read_ranking(inputs[1])
    ways = mask_variants_of("random,genemask,global,random-mask", "both")
    sample = MaskSample.of_run(corpus, ranking.rank_of_token, ways, n_sequences=40, mask_rate=0.3, seed=7)
    indices, _ = training_order(0, 40, corpus.n_train, 7)
    assert sample.sequence_indices.tolist() == indices.tolist()
    token_ids, offsets, masks = sample.masked(0, 40)
    for s, index in enumerate(indices.tolist()):
        ids = corpus.token_ids(np.array([index]))[0].tolist()
        assert token_ids[offsets[s] : offsets[s + 1]].tolist() == ids
        for way, masked in zip(ways, masks, strict=True):
            wanted = reference.mask(
                ids,
                way.strategy,
                ranking.rank_of_token,
                k=6,
                mask_rate=0.3,
                rank_by=way.rank_by,
                seed=7,
                epoch=0,
                index=index,
                span_limit=14,
            )
            assert set(np.flatnonzero(masked[offsets[s] : offsets[s + 1]]).tolist()) == wanted


def test_a_sample_is_no_more_than_the_training_sequences(inputs: tuple[Path, Path]) -> None:
    corpus, ranking = Corpus.open(inputs[0]), read_ranking(inputs[1])
    sample = MaskSample.of_run(
        corpus, ranking.rank_of_token, mask_variants_of("random", "content"), n_sequences=10**9
    )
    assert sorted(sample.sequence_indices.tolist()) == list(range(corpus.n_train))


def test_places_and_bases_are_those_of_the_fasta_file(inputs: tuple[Path, Path]) -> None:
    import gzip

    header, *lines = gzip.decompress(FASTA.read_bytes()).splitlines()
    letters = b"".join(lines).translate(None, BLANKS).decode().upper()
    corpus, ranking = Corpus.open(inputs[0]), read_ranking(inputs[1])
    sample = MaskSample.of_run(
        corpus, ranking.rank_of_token, mask_variants_of("global", "content"), n_sequences=30
    )
    names = kmers(6)
    for place, one in zip(
        intervals_of(corpus, sample.sequence_indices), excerpts(sample, 30, 25), strict=True
    ):
        assert place == one.interval
        assert place.contig == header[1:].split()[0].decode()
        assert place.end - place.start == one.n_tokens + 5
        whole = letters[place.start : place.end]
        assert one.bases == whole[one.first : one.first + 25][: one.n_tokens]
        ranks = [
            ranking.rank_of_token[5 + names.index(whole[p : p + 6])]
            for p in range(one.first, one.first + len(one.bases))
        ]
        wanted = [-1 if rank == 2**31 - 1 else (rank - 1) * 10 // ranking.n_ranked for rank in ranks]
        assert one.tenths.tolist() == wanted


def test_the_fault_of_ranks_by_position_shows(figures: dict) -> None:
    ways = {way["name"]: way for way in figures["variants"]}
    profile = {name: np.array(way["position_fraction"]) for name, way in ways.items()}
    # The same few positions in nearly every sequence, whatever is there …
    assert profile["global (position)"].max() > 0.5
    assert (profile["global (position)"] == 0).sum() > 20
    # … against masks that follow the content.
    assert profile["global"].max() < 0.4
    assert profile["global"].min() > 0.02
    # The best-ranked k-mers are what global is after; by position it does not see them.
    assert ways["global"]["rank_fraction"][0] > 2 * ways["global"]["masked_fraction"]
    assert ways["global (position)"]["rank_fraction"][0] < 1.5 * ways["global (position)"]["masked_fraction"]


def test_figures_of_the_json_object_agree_with_each_other(figures: dict) -> None:
    assert figures["k"] == 6
    assert [way["name"] for way in figures["variants"]] == [
        "random",
        "genemask",
        "global",
        "random-mask",
        "genemask (position)",
        "global (position)",
    ]
    assert sum(figures["kmers"]["count"]) == figures["tokens"]
    for way in figures["variants"]:
        masked = sum(way["kmer_masked"])
        assert way["masked_fraction"] == pytest.approx(masked / figures["tokens"])
        lengths = range(1, len(way["span_lengths"]) + 1)
        assert sum(n * length for n, length in zip(way["span_lengths"], lengths, strict=True)) == masked
        assert way["span_longest"] == lengths[-1]
        assert way["overlap"][way["name"]] == 1
        assert len(way["rank_fraction"]) == 100
    assert figures["variants"][0]["rank_by"] is None
    assert len(figures["shown"]) == 3
    one = figures["shown"][0]
    stretch = range(one["first"], one["first"] + len(one["bases"]))
    assert all(position in stretch for way in one["masked"].values() for position in way)


def test_what_is_printed_fits_80_columns_and_shows_masks_as_letters(show_masks: CommandLine) -> None:
    done = show_masks("--rank-by", "both", "--show", "2", "--sequences", "300")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout
    at = next(i for i, line in enumerate(lines) if line.startswith("bases"))
    bases = lines[at].split()[1]
    assert re.fullmatch("[0-9-]+", lines[at + 1].split()[1])
    for line in lines[at + 2 : at + 7]:
        letters = line[len(line) - len(bases) :]
        assert re.fullmatch("[ACGT·]+", letters)
        assert all(letter in ("·", base) for letter, base in zip(letters, bases, strict=True))
    for words in (
        "tokens masked",
        "bases hidden",
        "positions mostly masked",
        "fraction masked along the sequence",
    ):
        assert words in done.stdout
    assert "300 sequences masked by 5 variants" in done.stderr


def test_colour_is_for_terminals(show_masks: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in show_masks("--show", "1", "--sequences", "10").stdout


def test_without_ranks_no_ranking_is_needed(
    cmgems: CommandLine, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = ["show-masks", str(inputs[0]), "--sequences", "50", "--strategies"]
    env = {"CMGEMS_WORKSPACE": str(tmp_path)}
    found = cmgems(*arguments, "random", env=env)
    assert "tenth" not in found.stdout
    assert "NPMI" not in found.stdout
    assert "needed a pmi artifact" in cmgems(*arguments, "global", env=env, code=3).error


class Reader(html.parser.HTMLParser):
    """Checks that tags close in order, and keeps what could lead elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.leads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.leads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_leads_nowhere(show_masks: CommandLine, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "masks.html"
    done = show_masks("--rank-by", "both", "--sequences", "200", "--html", str(page))
    assert f"page written to {page}" in done.stderr
    text = page.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert reader.leads == []
    assert not reader.tags & {"script", "link", "img", "iframe"}
    assert "url(" not in text
    assert text.count("<polyline") == 10
    assert text.count("<h3>") == 3
    assert text.count("(position): ranks are looked up") == 1
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert list(page.parent.iterdir()) == [page]


def test_r2_what_killed_commands_left_of_a_page_is_removed(show_masks: CommandLine, tmp_path: Path) -> None:
    left = tmp_path / ".masks.html.0123456789abcdef.tmp"
    other = tmp_path / ".masks.html.mine.tmp"
    for path in (left, other, tmp_path / ".masks.html.lock"):
        path.write_text("")
    show_masks("--sequences", "20", "--html", tmp_path / "masks.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "masks.html"]
    # Without masks by position, their explanation is left out.
    assert "(position)" not in (tmp_path / "masks.html").read_text(encoding="utf-8")


def test_a_page_is_not_replaced_unasked(show_masks: CommandLine, tmp_path: Path) -> None:
    page = tmp_path / "masks.html"
    page.write_text("mine")
    done = show_masks("--html", str(page), code=4)
    assert done.stdout == ""
    assert "add --overwrite" in done.stderr
    assert page.read_text() == "mine"
    show_masks("--html", str(tmp_path), code=4)
    show_masks("--html", str(page), "--overwrite", "--sequences", "20")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--strategies", "cm-gems"], 2, "cm-gems is genemask, then global"),
        (["--rank-by", "name"], 2, "'name' is not one of"),
        (["--pmi", "nowhere"], 3, "nowhere does not exist; needed a pmi artifact"),
    ],
)
def test_mistakes_are_one_line(show_masks: CommandLine, arguments: list[str], code: int, words: str) -> None:
    done = show_masks(*arguments, code=code)
    assert done.stdout == ""
    assert words in done.error


def test_a_ranking_of_another_k_is_refused(
    cmgems: CommandLine, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    from cmgems_cli.pmi.stage import build_pmi

    build_pmi(Corpus.open(inputs[0]), tmp_path / "pmi", k=5, min_count=20)
    assert read_manifest(tmp_path / "pmi").params["k"] == 5
    assert "ranks 5-mers" in cmgems("show-masks", inputs[0], "--pmi", tmp_path / "pmi", code=3).error
