"""`cmgems score-variants`: rows in input order, formats, what is refused and how, resumed runs."""

import csv
import gzip
import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cmgems_cli
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.bgzf import BgzfWriter
from cmgems_cli.genome.random_access import GenomeFile
from cmgems_cli.inference.loading import load_model
from cmgems_cli.variants import scoring
from cmgems_cli.variants.alleles import Allele
from cmgems_cli.variants.chain_scores import ChainScorer
from cmgems_cli.variants.classifier_scores import ClassifierScorer
from cmgems_cli.variants.composition import composition_score
from cmgems_cli.variants.scoring import finder_of
from cmgems_cli.variants.variant_options import VariantOptions
from tests.command_line import CommandLine
from tests.inference.conftest import as_standard_input
from tests.kills import Killed
from tests.variants.conftest import COLUMNS, HEADER, base, other, vcf

# Positions of every kind: substitutions, several alternatives, indels, and what has no score.
RECORDS: list[tuple[object, ...]] = [
    ("20", 100, base(100), f"{other(base(100))},{other(base(100), 2)}"),
    ("chr20", 60, base(60), base(60) + "GT"),
    ("chr20", 61, base(61), "<DEL>"),
    ("chr20", 62, other(base(62)), base(62)),
    ("scaffold", 90, base(90, "scaffold"), other(base(90, "scaffold"))),
    ("scaffold", 91, base(91, "scaffold"), "."),
    ("chr20", 3, base(3), f"{other(base(3))},*"),
    ("chrM", 3, "A", "C"),
    ("chr20", 303, "CAC", "C"),
]


@pytest.fixture
def score(cmgems: CommandLine, genome: Path) -> Callable[..., Any]:
    """Run the command with the genome on the CPU."""

    def command(model: Path, variants: object, *more: object, **options: Any) -> Any:
        words = ("--genome", genome, "--device", "cpu", "--max-batch-tokens", "40", *more)
        return cmgems("score-variants", model, variants, *words, **options)

    return command


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(), delimiter="\t"))


def info_of(line: str) -> dict[str, str]:
    info = line.split("\t")[7]
    return dict(entry.partition("=")[::2] for entry in info.split(";"))


def read_vcf(path: Path) -> tuple[list[str], dict[str, dict[str, str]], list[str]]:
    """Read a VCF strictly: its header, its INFO definitions and its records, every value checked against them."""
    lines = path.read_text().splitlines()
    assert re.fullmatch(r"##fileformat=VCFv4\.\d", lines[0])
    header = [line for line in lines if line.startswith("#")]
    records = lines[len(header) :]
    assert header[-1].startswith(COLUMNS)
    assert all(line.startswith("##") for line in header[:-1])
    kinds = {}
    for line in header:
        if line.startswith("##INFO"):
            pattern = (
                r'##INFO=<ID=([A-Za-z_][\w.]*),Number=([\dARG.]),Type=(\w+),Description="((?:[^"\\]|\\.)*)">'
            )
            match = re.fullmatch(pattern, line)
            assert match, line
            assert match[1] not in kinds
            kinds[match[1]] = {"number": match[2], "type": match[3], "words": match[4]}
    for record in records:
        fields = record.split("\t")
        assert len(fields) == len(header[-1].split("\t"))
        assert re.fullmatch(r"[1-9]\d*", fields[1])
        for key, value in info_of(record).items():
            if key == ".":
                continue
            values = value.split(",")
            if kinds[key]["number"] == "A":
                assert len(values) == len(fields[4].split(","))
            if kinds[key]["type"] == "Float":
                assert all(re.fullmatch(r"\.|-?\d+(\.\d+)?", one) for one in values), record
    return header, kinds, records


def test_every_allele_has_its_row_in_input_order(
    score: Callable[..., Any], tmp_path: Path, pretrained: Path, classifier: Path, genome: Path
) -> None:
    calls = vcf(tmp_path / "calls.vcf", *RECORDS)
    out = tmp_path / "s.tsv"
    said = score(classifier, calls, "--out", out, "--label", "yes").stderr
    rows = rows_of(out)
    expected = [(c, str(p), r, a) for c, p, r, alts in RECORDS for a in str(alts).split(",")]
    assert [(row["chrom"], row["pos"], row["ref"], row["alt"] or ".") for row in rows] == expected
    assert [row["reason"] for row in rows] == [
        *["", "", "", "symbolic", "ref_mismatch", "", "symbolic", "contig_end", "symbolic", "no_contig", ""]
    ]
    for row in rows:
        assert bool(row["log_odds_change_yes"]) == bool(row["composition"]) == (not row["reason"])
    for words in (
        "20 → chr20",
        "is not sorted by position",
        "3 allele(s) without a score, symbolic",
        f"chr20:62 {other(base(62))} > {base(62)}, the genome has {base(62)}",
        "chrM:3 A > C, the genome has chr20, scaffold",
        "r = ",
        "windows of up to 32 bases",
    ):
        assert words in said, said
    # The values are those of the scorer, asked for one allele at a time.
    scorer = ClassifierScorer(load_model(classifier, device="cpu"), "yes")
    with GenomeFile(genome) as opened:
        finder = finder_of(scorer, opened, VariantOptions())
        for row in rows:
            found = finder.find(row["chrom"], int(row["pos"]), row["ref"], row["alt"] or None)
            if isinstance(found, Allele):
                assert float(row["log_odds_change_yes"]) == pytest.approx(
                    scorer.score([found])[0, 0], abs=2e-4
                )
                assert float(row["composition"]) == pytest.approx(composition_score(found), abs=1e-6)


def test_a_masked_model_scores_substitutions(
    score: Callable[..., Any], tmp_path: Path, pretrained: Path, genome: Path
) -> None:
    calls = vcf(tmp_path / "calls.vcf", *RECORDS)
    result = score(pretrained, calls, "--out", tmp_path / "s.tsv", "--json").json
    rows = rows_of(tmp_path / "s.tsv")
    assert [row["reason"] for row in rows if "GT" in row["alt"] or row["ref"] == "CAC"] == ["indel", "indel"]
    assert result["without_score"] == {
        "indel": 2,
        "symbolic": 3,
        "ref_mismatch": 1,
        "contig_end": 1,
        "no_contig": 1,
    }
    assert (result["records"], result["alleles"], result["scored"], result["window"]) == (9, 11, 3, 40)
    scored = [row for row in rows if row["llr"]]
    for row in scored:
        ratio = np.log(float(row["p_alt"]) / float(row["p_ref"]))
        assert float(row["llr"]) == pytest.approx(ratio, abs=1e-2)
    s, c = (np.array([float(row[name]) for row in scored]) for name in ("llr", "composition"))
    assert result["correlation_with_composition"] == pytest.approx(np.corrcoef(s, c)[0, 1], abs=1e-4)


def test_vcf_keeps_its_records_and_gets_valid_fields(
    score: Callable[..., Any], tmp_path: Path, classifier: Path
) -> None:
    calls = vcf(tmp_path / "calls.vcf", *RECORDS)
    out, again = tmp_path / "s.vcf", tmp_path / "again.vcf"
    score(classifier, calls, "--out", out)
    header, kinds, records = read_vcf(out)
    assert header[: len(HEADER)] == HEADER
    names = ("no", "yes", "perhaps")
    ours = [f"CMGEMS_log_odds_change_{name}" for name in names]
    assert list(kinds) == ["DP", *ours, "CMGEMS_composition", "CMGEMS_reason"]
    before = calls.read_text().splitlines()[len(HEADER) + 1 :]
    assert [line.split("\t")[:7] for line in records] == [line.split("\t")[:7] for line in before]
    assert all(line.split("\t")[7].startswith("DP=3") for line in records)
    score(classifier, calls, "--out", tmp_path / "s.tsv")
    rows = iter(rows_of(tmp_path / "s.tsv"))
    for line in records:
        alts = line.split("\t")[4].split(",")
        for number, _ in enumerate(alts):
            row, info = next(rows), info_of(line)
            for name in (*(f"log_odds_change_{name}" for name in names), "composition", "reason"):
                found = info.get(f"CMGEMS_{name}", ",".join("." for _ in alts)).split(",")[number]
                if alts != ["."]:
                    assert (found if found != "." else "") == row[name].removesuffix(".0")
    # Scored again, the fields are replaced.
    score(classifier, out, "--out", again)
    assert again.read_bytes() == out.read_bytes()


def members_of(content: bytes) -> list[bytes]:
    """Split a bgzip file at the sizes that its members name (SAM specification 4.1); return their contents."""
    members = []
    while content:
        assert content[:4] == b"\x1f\x8b\x08\x04"
        assert content[10:16] == b"\x06\x00BC\x02\x00"
        size = int.from_bytes(content[16:18], "little") + 1
        members.append(gzip.decompress(content[:size]))
        content = content[size:]
    return members


def test_a_compressed_vcf_is_made_of_the_members_that_tabix_needs(
    score: Callable[..., Any], tmp_path: Path, classifier: Path
) -> None:
    calls = vcf(tmp_path / "calls.vcf", *RECORDS)
    score(classifier, calls, "--out", tmp_path / "s.vcf")
    score(classifier, calls, "--out", tmp_path / "s.vcf.gz")
    *members, last = members_of((tmp_path / "s.vcf.gz").read_bytes())
    assert b"".join(members) == (tmp_path / "s.vcf").read_bytes()
    assert last == b""
    # The same 28 bytes end every file of bgzip.
    end = "1f8b08040000000000ff0600424302001b0003000000000000000000"
    assert (tmp_path / "s.vcf.gz").read_bytes().hex().endswith(end)
    noise = np.random.default_rng(1).bytes(200_000)
    BgzfWriter(stream := BytesIO()).write(noise)
    members = members_of(stream.getvalue())
    assert len(members) == 4
    assert b"".join(members) == noise


def test_a_table_becomes_a_vcf(
    score: Callable[..., Any], tmp_path: Path, classifier: Path, genome: Path
) -> None:
    table = tmp_path / "calls.csv"
    table.write_text(f"Chr,Position,Reference,Alternative,rsID\nchr20,60,{base(60)},{other(base(60))},rs 1\n")
    score(classifier, table, "--out", tmp_path / "s.vcf")
    header, _, (record,) = read_vcf(tmp_path / "s.vcf")
    assert "##contig=<ID=chr20,length=600>" in header
    assert record.split("\t")[:7] == ["chr20", "60", "rs_1", base(60), other(base(60)), ".", "."]


def test_every_form_of_a_file_gives_the_same_rows(
    score: Callable[..., Any], tmp_path: Path, pretrained: Path
) -> None:
    plain = vcf(tmp_path / "calls.vcf", *RECORDS)
    windows = vcf(tmp_path / "crlf.vcf", *RECORDS, end="\r\n")
    zipped = tmp_path / "calls.vcf.gz"
    half = len(plain.read_bytes()) // 2
    # Several members, as bgzip writes.
    zipped.write_bytes(gzip.compress(plain.read_bytes()[:half]) + gzip.compress(plain.read_bytes()[half:]))
    table = tmp_path / "calls.tsv"
    rows = [f"{c}\t{p}\t{r}\t{a}" for c, p, r, a in RECORDS]
    table.write_text("\n".join(["chrom\tpos\tref\talt", *rows]) + "\n")
    expected = score(pretrained, plain).stdout
    assert len(expected.splitlines()) == 12
    for path in (windows, zipped, table):
        assert score(pretrained, path).stdout == expected
    with as_standard_input(plain.read_bytes()):
        assert score(pretrained, "-").stdout == expected


LINE = f"chr20\t60\t.\t{base(60)}\t{other(base(60))}\t.\t.\t.\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LINE, "no column 'chrom'.*names the columns chrom, pos, ref and alt"),
        (f"{COLUMNS}\n{LINE}", r"has no header.*##fileformat=VCFv4.*bcftools reheader"),
        (f"{HEADER[0]}\n{LINE}", r"line 2 is 'chr20\\t60.*needed the line of columns"),
        (f"{HEADER[0]}\n", "ends within its header"),
        (f"{HEADER[0]}\n{COLUMNS}\n", "has no variants"),
        (f"{HEADER[0]}\n{COLUMNS}\nchr20 60 . A C . . .\n", "line 3 has 1 columns separated by tabs"),
        (f"{HEADER[0]}\n{COLUMNS}\n{LINE.replace('60', '6e1')}", "line 3 has the position '6e1'"),
        (f"{HEADER[0]}\n{COLUMNS}\nchr20\t60\t.\t\tA\t.\t.\t.\n", "line 3 has the reference allele ''"),
        (
            f"{HEADER[0]}\n{COLUMNS}\nchr20\t60\t.\t{other(base(60))}\t{base(60)}\t.\t.\t.\n",
            "no allele can be scored: 1 × REF is not what the genome has",
        ),
        ("chrom,pos,ref,alt\nchr20,60,A\n", "line 2 has 3 fields, its header 4"),
        ("chrom,pos,ref,alt\n,60,A,C\n", "line 2 names no chromosome"),
        ("", "is empty"),
        (">a\nACGT\n", "is FASTA"),
        ("BCF\x02\x02", "is a BCF file.*bcftools view"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(
    score: Callable[..., Any], tmp_path: Path, pretrained: Path, content: str, words: str
) -> None:
    path = tmp_path / "calls"
    path.write_text(content)
    assert re.search(words, score(pretrained, path, code=3).error)


def test_a_truncated_file_is_refused(score: Callable[..., Any], tmp_path: Path, pretrained: Path) -> None:
    path = tmp_path / "calls.vcf.gz"
    path.write_bytes(gzip.compress(vcf(tmp_path / "c.vcf", *RECORDS).read_bytes())[:-9])
    assert "truncated gzip" in score(pretrained, path, "--out", tmp_path / "s.tsv", code=3).error
    assert not (tmp_path / "s.tsv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--window", "41"), "--window 41 does not fit the model: needed 7 to 40 bases"),
        (("--window", "6"), "--window 6 does not fit the model"),
        (("--label", "yes"), "--label yes was given, but .* has no classes"),
        (("--json",), "--json prints one object"),
        (("--out", "s.bcf"), r"does not end in \.vcf, \.vcf\.gz, \.tsv"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    score: Callable[..., Any], tmp_path: Path, pretrained: Path, words: tuple[str, ...], message: str
) -> None:
    calls = vcf(tmp_path / "calls.vcf", *RECORDS)
    assert re.search(message, score(pretrained, calls, *words, code=2).error)


def test_the_genome_has_to_be_given(cmgems: CommandLine, tmp_path: Path, pretrained: Path) -> None:
    calls = vcf(tmp_path / "calls.vcf", *RECORDS)
    assert "--genome FASTA is missing" in cmgems("score-variants", pretrained, calls, code=2).error


@pytest.mark.parametrize("form", ["vcf.gz", "tsv"])
def test_a_killed_run_resumes_to_the_same_bytes(
    score: Callable[..., Any], tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    positions = range(30, 75)
    calls = vcf(
        tmp_path / "calls.vcf",
        *(("chr20", p, base(p), f"{other(base(p))},{other(base(p), 2)}") for p in positions),
    )
    whole, out = tmp_path / f"whole.{form}", tmp_path / f"s.{form}"
    expected = score(pretrained, calls, "--out", whole, "--json").json
    monkeypatch.setattr("cmgems_cli.inference.resumable_output.SECONDS_BETWEEN_CHECKPOINTS", 0)
    added: list[int] = []
    add = scoring.VariantTally.add

    def killed_after_three(tally: scoring.VariantTally, block: scoring.ScoredBlock) -> None:
        added.append(len(block.alts))
        if len(added) == 4:
            raise Killed
        add(tally, block)

    with monkeypatch.context() as patch:
        patch.setattr(scoring.VariantTally, "add", killed_after_three)
        patch.setattr("cmgems_cli.staging.Staging.remove", lambda staging: None)
        with pytest.raises(Killed):
            score(pretrained, calls, "--out", out)
    assert not out.exists()
    changed = score(pretrained, calls, "--out", out, "--max-allele", "3", code=4).stderr
    assert "was begun with max_allele = 50" in changed
    resumed = score(pretrained, calls, "--out", out, "--json")
    result, before = resumed.json, sum(added[:3])
    assert f"90 with the {before} of the earlier run" in resumed.stderr
    assert out.read_bytes() == whole.read_bytes()
    for name in ("scored", "alleles", "correlation_with_composition"):
        assert result[name] == expected[name]


def test_the_python_api_gives_the_same(
    score: Callable[..., Any], tmp_path: Path, pretrained: Path, genome: Path
) -> None:
    calls = vcf(tmp_path / "calls.vcf", *RECORDS)
    rows = [json.loads(line) for line in score(pretrained, calls, "--format", "jsonl").stdout.splitlines()]
    model = load_model(pretrained, device="cpu", max_batch_tokens=40)
    listed = [(str(c), p, str(r), str(a)) for c, p, r, alts in RECORDS for a in str(alts).split(",")]
    for variants in (calls, str(calls), listed):
        scores = cmgems_cli.score_variants(model, variants, genome)  # type: ignore[arg-type]
        assert repr(scores) == "<VariantScores: 11 alleles, 3 with llr, p_ref, p_alt>"
        table = scores.columns()
        assert list(table) == list(scores.to_frame().columns) == list(rows[0])
        for number, row in enumerate(rows):
            values = {name: column[number] for name, column in table.items()}
            assert values["reason"] == row["reason"]
            for name in ("llr", "p_alt", "composition"):
                expected = np.nan if row[name] is None else row[name]
                np.testing.assert_allclose(values[name], expected, atol=1e-5)
    with pytest.raises(InputError, match="variant 1 has 3 values"):
        cmgems_cli.score_variants(model, [("chr20", 60, "A")], genome)  # type: ignore[list-item]
    with pytest.raises(UsageError, match="window"):
        cmgems_cli.score_variants(model, listed, genome, window=3)  # type: ignore[arg-type]


def test_a_chain_scorer_needs_the_head_of_its_folder(classifier: Path) -> None:
    with pytest.raises(InputError):
        ChainScorer(load_model(classifier, device="cpu"))
