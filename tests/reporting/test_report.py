"""`cmgems report`: what the page and the Markdown hold, and that nothing outside them is needed."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import stdev

import pytest

from cmgems_cli.artifacts import finish_artifact, read_manifest
from cmgems_cli.markdown import escaped
from cmgems_cli.reporting.sources import runs_of_workspace
from tests.command_line import CommandLine
from tests.reporting.conftest import Reported, make_classifier, make_model, make_scores

# What a browser fetches by itself, or a reader could be led to.
LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}


class Page(HTMLParser):
    """Every attribute that loads something, every tag, and the words of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attrs if name in LOADING]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(out: Path) -> Page:
    return Page((out / "report.html").read_text(encoding="utf-8"))


def test_the_page_holds_all_it_shows_and_asks_nobody_for_more(written: Path) -> None:
    page = page_of(written)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base"}
    pictures = [url for url in page.loads if not url.startswith("#")]
    assert len(pictures) == len(list((written / "pictures").glob("*.svg"))) >= 6
    prefix = "data:image/svg+xml;base64,"
    assert all(url.startswith(prefix) for url in pictures)
    for url in pictures:
        drawing = base64.b64decode(url.removeprefix(prefix)).decode()
        assert not re.search(r"<image|<script|@font-face|@import|url\((?!#)", drawing)
        assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', drawing))
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert not re.search(r"@import|url\(|https?://", re.sub(r"base64,[^\"]*", "", text))


def test_links_inside_the_page_lead_somewhere(written: Path) -> None:
    page = page_of(written)
    assert len(page.ids) == len(set(page.ids))
    assert {url[1:] for url in page.loads if url.startswith("#")} <= set(page.ids)


def test_markdown_shows_pictures_that_are_there(written: Path) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    linked = re.findall(r"!\[[^]]+\]\((pictures/[^)]+\.png)\)", text)
    assert sorted(linked) == sorted(f"pictures/{path.name}" for path in (written / "pictures").glob("*.png"))
    for name in linked:
        assert (written / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_numbers_are_those_of_the_runs(written: Path, name: str) -> None:
    text = (written / name).read_text(encoding="utf-8")
    # perplexity of the models' last evaluations, fixed and active masks
    for number in ("960.0", "460.0", "860.0", "410.0", "3,032.6"):
        assert number in text
    # mean ± sample sd over seeds of c-switching on tf/0, and its mean over the three tasks
    assert f"62.00 ± {100 * stdev([0.6, 0.64]):.2f}" in text
    assert "50.00" in text
    # the classifier, the corpus, both ends of the ranking
    for number in ("64.16", "0.815", "32,378", "123,456", "0.5000", "61,984"):
        assert number in text


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_every_run_has_its_origin(written: Path, every: list[str], name: str) -> None:
    words = (written / name).read_text(encoding="utf-8")
    for number, folder in enumerate(every, start=1):
        assert f"R{number}: " in words
        assert read_manifest(Path(folder)).digest in words
    for part in ("cmgems pretrain --seed 7", "torch 2.13.0", "Linux-test", "bf16", "12.5"):
        assert part in words


def test_every_table_and_picture_names_its_sources(written: Path) -> None:
    """Up to the chapter on provenance: as many source lines as tables and pictures, but the list of runs."""
    text = (written / "report.md").read_text(encoding="utf-8").split("## Where the numbers come from")[0]
    tables = len(re.findall(r"^\| ---", text, re.M))
    pictures = text.count("![")
    sources = re.findall(r"From (?=\[R\d+\]\(#R\d+\))", text)
    assert len(sources) == tables + pictures - 1


def test_the_switch_is_in_picture_and_text(written: Path) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    assert "the switch came after step 20" in text
    assert "do not compare across strategies" in text


def test_methods_and_references_are_ready(written: Path) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    for words in (
        "LOGO (4.9 M parameters, 6-mers) was pretrained",
        "mask rate 15 %; GENEMASK until validation perplexity fell by less than 1% of its last value",
        "for 40 steps of 250 sequences",
        "(seeds 42 and 43; Card \\<9000\\>, bf16)",
        "123,456 bases of 1 contig were cut into 321 sequences",
    ):
        assert words in text
    references = (written / "references.bib").read_text(encoding="utf-8")
    assert "Roy, Soumyadeep and Sural, Shamik and Ganguly, Niloy" in references
    assert references in text
    assert references.count("{") == references.count("}")


def test_the_same_runs_give_the_same_bytes(every: list[str], written: Path, reported: Reported) -> None:
    again = reported(*every)
    names = sorted(path.relative_to(written) for path in written.rglob("*"))
    assert names == sorted(path.relative_to(again) for path in again.rglob("*"))
    for name in names:
        if (written / name).is_file() and name != Path("manifest.json"):
            assert (written / name).read_bytes() == (again / name).read_bytes(), name
    assert read_manifest(written, "report", verify=True) == replace(
        read_manifest(again, "report", verify=True), environment=read_manifest(written).environment
    )


def test_what_runs_are_called_is_never_markup(tmp_path: Path, reported: Reported) -> None:
    odd = tmp_path / 'a<i>|b&"c'
    make_model(odd)
    scores = tmp_path / "scores"
    make_scores(scores, {"x</td><script>|y": [0.1]}, model="`m` <img src=x>")
    out = reported(odd, scores)
    page = page_of(out)
    assert not page.tags & {"script", "i"}
    assert "x" not in page.loads
    assert 'a<i>|b&"c' in "".join(page.words)
    text = (out / "report.md").read_text(encoding="utf-8")
    assert escaped('a<i>|b&"c') == 'a\\<i\\>\\|b&amp;"c'
    outside = re.sub(r"```.*?```", "", text, flags=re.S)
    assert not re.search(r"(?<!\\)<(i|img|script)\b", outside)
    for table in re.findall(r"(?:^\|.*\n)+", outside, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_one_task_of_one_model(tmp_path: Path, reported: Reported) -> None:
    make_scores(tmp_path / "one", {"tf/0": [0.5]}, model="only")
    text = (reported(tmp_path / "one") / "report.md").read_text(encoding="utf-8")
    assert "One fine-tuning run each (seed 42)" in text
    assert "human, 1 task" not in text  # words of the picture stay in it
    assert "against the others" not in text


def test_two_models_on_one_task_are_compared_without_a_made_up_test(
    tmp_path: Path, reported: Reported
) -> None:
    make_scores(tmp_path / "one", {"tf/0": [0.5]}, model="first")
    make_scores(tmp_path / "two", {"tf/0": [0.6]}, model="second")
    text = (reported(tmp_path / "one", tmp_path / "two") / "report.md").read_text(encoding="utf-8")
    assert "| first | 50.00 ± – | +10.00 | – | 1 |" in text
    assert "| first | – | 1.0000 | 1.0000 | – | – |" in text
    assert "first: only one task in common; at least two are needed for a test." in text
    assert "With 1 task no test has much power" in text


def test_a_benchmark_of_ones_own_is_reported_like_those_of_the_paper(
    tmp_path: Path, reported: Reported
) -> None:
    own = {"bench": "my/bench", "title": "My benchmark", "metric": "accuracy"}
    tasks = {"promoters": "plant", "splice": "animal"}
    blank, first, second = (
        {task: [value + shift, value] for task, value in zip(tasks, (0.6, 0.8), strict=True)}
        for shift in (0.0, 0.03, 0.05)
    )
    make_scores(tmp_path / "blank", blank, model="m", pretrained=None, species=tasks, **own)
    make_scores(tmp_path / "first", first, model="first", species=tasks, **own)
    make_scores(tmp_path / "second", second, model="second", species=tasks, **own)
    out = reported(tmp_path / "blank", tmp_path / "first", tmp_path / "second")
    text = (out / "report.md").read_text(encoding="utf-8").split("## Where the numbers come from")[0]
    assert "## Scores: My benchmark" in text
    assert "### Accuracy on the test split" in text
    assert "| promoters | 0.600 ± 0.000 | 0.615 ± 0.021 | 0.625 ± 0.035 |" in text
    assert "### Accuracy; p of the paired t-test against second" in text
    assert "fine-tuned on 2 tasks of My benchmark (promoters, splice)" in text
    assert (
        "reported is accuracy on the test split. Each task was trained by the recipe of its benchmark."
        in text
    )
    assert "| model | plant (1) | animal (1) | all (2) |" in text
    assert "No baseline" not in text
    for words in ("published", "paper:", "paper's values", "Figure 3", "non-human", "GUE", "Matthews"):
        assert words not in text.split("```bibtex")[0], words
    assert (out / "pictures" / "differences-my-bench-R1-R3.png").is_file()
    assert (out / "pictures" / "mean-ranks-my-bench.png").is_file()


def test_report_and_ttest_compare_alike(cmgems: CommandLine, tmp_path: Path, reported: Reported) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, shift in zip(folders, (0.0, 0.1), strict=True):
        values = {"prom-core": [0.5 + shift], "sil-300": [0.6 + 2 * shift], "splice-40": [0.4 + shift]}
        make_scores(folder, values, model=folder.name, bench="fewshot")
    found = cmgems("ttest", *folders, "--json").json
    row = found["rows"][0]
    assert (found["metric"], found["reference"]) == ("accuracy", "two")
    text = (reported(*folders) / "report.md").read_text(encoding="utf-8")
    assert f"| +{row['difference']:.3f} | {row['p']:.4f} | 3 |" in text
    assert "Accuracy; p of the paired t-test against two" in text


def test_pretrained_models_are_compared_with_random_weights_by_default(
    cmgems: CommandLine, workspace: Path
) -> None:
    # Random weights would be last by name, and the reference.
    make_scores(workspace / "scores" / "a", {"tf/0": [0.6], "tf/1": [0.7]}, model="trained")
    make_scores(workspace / "scores" / "z", {"tf/0": [0.5], "tf/1": [0.5]}, model="blank", pretrained=None)
    cmgems("report", "--quiet")
    text = (workspace / "report" / "report.md").read_text(encoding="utf-8")
    assert "p of the paired t-test against trained" in text
    assert "right of the line trained is better" in text


def test_data_of_ones_own_have_a_name(tmp_path: Path, reported: Reported) -> None:
    make_classifier(tmp_path / "tiny-promoters", bench=None, task=None)
    text = (reported(tmp_path / "tiny-promoters") / "report.md").read_text(encoding="utf-8")
    assert "| tiny-promoters | tiny-promoters | random | 7 |" in text
    assert "A classifier for tiny-promoters was fine-tuned" in text
    assert "None" not in text.split("## Where the numbers come from")[0]

    make_classifier(tmp_path / "second", bench=None, task=None, data="prom_text")
    text = (reported(tmp_path / "second", "--overwrite") / "report.md").read_text(encoding="utf-8")
    assert "| second | prom_text | random | 7 |" in text
    assert "A classifier for prom_text was fine-tuned" in text


def test_fine_tuning_has_a_curve_per_task(tmp_path: Path, reported: Reported) -> None:
    make_classifier(tmp_path / "one", steps=30)
    make_classifier(tmp_path / "two", steps=450)
    make_classifier(tmp_path / "elsewhere", task="tf/1", steps=20)
    make_classifier(tmp_path / "frozen")
    out = reported(*(tmp_path / name for name in ("one", "two", "elsewhere", "frozen")))
    assert [path.name for path in sorted((out / "pictures").glob("*.svg"))] == [
        "fine-tuning-1.svg",
        "fine-tuning-2.svg",
    ]
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "Loss of one and two by step." in text
    assert "means over up to 3 steps" in text
    # The last of 450 steps in windows of 3: 1/448, 1/449 and 1/450.
    assert (
        "two: training loss from 0.611 to 0.002, dev loss from 0.600 to 0.600, tested after step 20" in text
    )
    # One note, not one of each classifier.
    assert "All: train rows that repeat an earlier sequence: 8." in text
    assert text.count("repeat an earlier sequence") == 1 + text.count('"train rows that repeat')


def test_a_summary_comes_first(cmgems: CommandLine, written: Path, runs: Path, tmp_path: Path) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    summary = text.split("## Data")[0]
    assert summary.startswith(
        "# cmgems report\n\n## Summary\n\n1 corpus, 1 ranking of k-mers, 2 pretrained models"
    )
    assert "made 2026-11-27." in summary
    assert (
        "plain: validation perplexity 960 after 40 steps; k-mer frequencies alone give 3,033 (below)."
        in summary
    )
    means = "logo (random weights) 41.33, plain 45.67, switching 50.00"
    assert f"GUE, MCC × 100, mean over 3 tasks: {means}." in summary
    scores = [runs / "scores" / name for name in ("a-blank", "b-plain", "c-switching")]
    first, second = cmgems("ttest", *scores, "--json").json["rows"][:2]
    for row, label in ((first, "logo (random weights)"), (second, "plain")):
        verdict = "significant" if row["holm_p"] < 0.05 else "not significant"
        assert (
            f"switching minus {label}: +{row['difference']:.2f} MCC × 100, {verdict} (Holm-adjusted p"
            f" {row['holm_p']:.4f}, paired t-test over 3 tasks)." in summary
        )
    assert "sorter on tf/0: accuracy 0.815" in summary or "sorter on tf/0: MCC × 100 64.16" in summary
    out = tmp_path / "titled"
    cmgems("report", runs / "pmi", "--out", out, "--title", "Yeast <1>", "--quiet")
    assert (out / "report.md").read_text(encoding="utf-8").startswith("# Yeast \\<1\\>\n")
    assert "<title>Yeast &lt;1&gt;</title>" in (out / "report.html").read_text(encoding="utf-8")


def test_the_reference_is_chosen_by_role(workspace: Path) -> None:
    for strategy in ("random", "cm-gems", "genemask"):
        made = make_model(workspace / "models" / strategy, strategy=strategy, steps=5)
        folder = workspace / "scores" / f"{'z' if strategy == 'random' else 'a'}-{strategy}"
        make_scores(folder, {"tf/0": [0.5]}, model=strategy, pretrained=made.digest)
    make_scores(workspace / "scores" / "zz", {"tf/0": [0.5]}, model="blank", pretrained=None)
    make_scores(workspace / "scores" / "zzz", {"tf/0": [0.5]}, model="kmer-linear", pretrained=None)
    names = [Path(name).name for name in runs_of_workspace(workspace)]
    assert names[-5:] == ["zz", "zzz", "z-random", "a-genemask", "a-cm-gems"]


def test_words_and_kmers_are_not_broken(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    assert re.search(r'<td class="long">[0-9a-f]{64}', text)
    assert re.search(r"<td>AAA</td>", text)
    rules = text.split("<style>")[1].split("</style>")[0].split("}")
    breakable = [rule.split("{")[0] for rule in rules if "overflow-wrap: anywhere" in rule]
    assert [selector.strip() for selector in breakable] == ["td.long", "pre"]


def test_held_out_sequences_are_those_of_the_run(written: Path) -> None:
    """The runs wanted 500 and had 366."""
    text = (written / "report.md").read_text(encoding="utf-8").split("## Where the numbers come from")[0]
    assert "on 366 held-out sequences" in text
    assert "500 held-out" not in text


def test_models_of_one_name_are_told_apart(tmp_path: Path, reported: Reported) -> None:
    for folder, value in (("one", 0.5), ("two", 0.6)):
        make_scores(tmp_path / folder, {"tf/0": [value], "tf/1": [value]}, model="same")
    text = (reported(tmp_path / "one", tmp_path / "two") / "report.md").read_text(encoding="utf-8")
    assert "same (one)" in text
    assert "same (two)" in text


def test_models_that_share_no_task_are_not_compared(tmp_path: Path, reported: Reported) -> None:
    make_scores(tmp_path / "one", {"tf/0": [0.5]}, model="first")
    make_scores(tmp_path / "two", {"tf/1": [0.6]}, model="second")
    text = (reported(tmp_path / "one", tmp_path / "two") / "report.md").read_text(encoding="utf-8")
    assert "Not compared: the rows of mcc do not pair" in text


def test_a_run_named_twice_counts_once(runs: Path, reported: Reported) -> None:
    text = (reported(runs / "pmi", runs / "models" / ".." / "pmi") / "report.md").read_text(encoding="utf-8")
    assert "R2" not in text.replace("R1, R2, …", "")


def test_runs_default_to_the_workspace(
    report: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(work))
    make_scores(work / "scores" / "s", {"tf/0": [0.5]}, model="m")
    make_model(work / "models" / "b", steps=5)
    make_model(work / "models" / "a", steps=5)
    (work / "models" / "unfinished").mkdir()
    found = report("--json", "--quiet").json
    assert [run["named"] for run in found["runs"]] == [
        str(work / name) for name in ("models/a", "models/b", "scores/s")
    ]
    assert found["out"] == str(work / "report")
    assert sorted(found["files"]) == sorted(
        path.relative_to(work / "report").as_posix()
        for path in (work / "report").rglob("*")
        if path.is_file() and path.name != "manifest.json"
    )


# ------------------------------------------------------------------ refusals


def test_without_matplotlib_one_line_says_how_to_get_it(
    report: CommandLine, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    err = report(str(runs / "pmi"), "--out", str(tmp_path / "r"), code=1).error
    assert "pip install 'cmgems[plots]'" in err
    assert not (tmp_path / "r").exists()


def test_unfinished_and_missing_folders_are_refused(report: CommandLine, tmp_path: Path) -> None:
    unfinished = tmp_path / "half"
    unfinished.mkdir()
    (unfinished / "metrics.jsonl").write_text("{}\n")
    out = str(tmp_path / "r")
    assert "unfinished" in report(str(unfinished), "--out", out, code=3).error
    assert "does not exist" in report(str(tmp_path / "nowhere"), "--out", out, code=3).error
    assert "no published column" in report("paper:nobody", "--out", out, code=3).error
    assert not (tmp_path / "r").exists()


def test_an_empty_workspace_is_refused(
    report: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path / "empty"))
    assert "no finished artifact" in report(code=3).error


def test_a_report_is_replaced_on_request_only_and_nothing_else_ever(
    report: CommandLine, runs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r"
    named = [str(runs / "pmi"), "--out", str(out)]
    report(*named)
    before = (out / "report.html").stat().st_mtime_ns
    assert "nothing to do" in report(*named).stderr
    assert (out / "report.html").stat().st_mtime_ns == before
    said = report(*named, "--seed", "7", code=4).error
    assert "was made with seed = 42, this command has 7; add --overwrite" in said
    assert "was made with runs = " in report(str(runs / "corpus"), "--out", str(out), code=4).error
    (out / "notes.txt").write_text("mine")
    report(*named, "--seed", "7", "--overwrite")
    assert (out / "notes.txt").read_text() == "mine"
    assert read_manifest(out, "report", verify=True).params["seed"] == 7
    said = report(str(runs / "pmi"), "--out", str(runs / "pmi"), "--overwrite", code=4).error
    assert "holds a pmi artifact, not a report" in said
    file = tmp_path / "file"
    file.write_text("mine")
    assert "is a file" in report(str(runs / "pmi"), "--out", str(file), "--overwrite", code=4).error
    other = tmp_path / "other"
    other.mkdir()
    (other / "report.html").write_text("<h1>somebody else's</h1>")
    assert (
        "is not a report artifact"
        in report(str(runs / "pmi"), "--out", str(other), "--overwrite", code=4).error
    )
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_run_is_named(report: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "scores"
    folder.mkdir()
    (folder / "scores.csv").write_text("bench,task\n")
    finish_artifact(
        folder,
        "scores",
        params={"bench": "gue", "model": "m"},
        inputs={},
        stats={},
        files=["scores.csv"],
        environment={},
    )
    assert "has no column" in report(str(folder), "--out", str(tmp_path / "r"), code=3).error
