"""One file over HTTP, through everything that goes wrong on the way."""

import hashlib
import random
import resource
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.errors import CmgemsError, OverwriteError
from cmgems_cli.fetching import transfer
from cmgems_cli.fetching.transfer import Checksum, RemoteFile, check_space, check_target, fetch, is_there
from tests.fetching.server import Server, serving

CONTENT = random.Random(1).randbytes(3_000_000)


def remote(server: Server, folder: Path, content: bytes = CONTENT, size: int | None = None) -> RemoteFile:
    """Serve `content` as /file, and describe it."""
    server.contents["/file"] = content
    checksum = Checksum("md5", hashlib.md5(content).hexdigest())
    return RemoteFile(f"{server.url}/file", folder / "file", size or len(content), checksum)


class Told:
    """What a transfer told its caller."""

    def __init__(self) -> None:
        self.n_bytes = 0.0
        self.words: list[str] = []
        self.waits: list[float] = []

    def fetch(self, file: RemoteFile) -> None:
        fetch(file, advance=self.advance, retrying=self.words.append, sleep=self.waits.append)

    def advance(self, n_bytes: float) -> None:
        self.n_bytes += n_bytes


def test_a_file_arrives_whole_and_is_told_byte_for_byte(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path / "new" / "folder")
    told = Told()
    told.fetch(file)
    assert file.path.read_bytes() == CONTENT
    assert told.n_bytes == len(CONTENT)
    assert told.waits == []
    assert [entry.name for entry in file.path.parent.iterdir()] == ["file"]
    assert is_there(file)


def test_a_broken_transfer_goes_on_at_the_byte_where_it_broke(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path)
    server.faults["/file"] = [1_000_000, 500_001]
    told = Told()
    told.fetch(file)
    assert file.path.read_bytes() == CONTENT
    assert told.n_bytes == len(CONTENT)
    assert [asked for _, asked in server.asked] == [None, "bytes=1000000-", "bytes=1500001-"]
    assert told.waits == [1.0, 1.0]
    assert told.words[0].startswith("file: the connection ")


def test_what_an_earlier_process_left_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path)
    file.partial.write_bytes(CONTENT[:2_000_000])
    told = Told()
    told.fetch(file)
    assert file.path.read_bytes() == CONTENT
    assert told.n_bytes == 1_000_000
    assert server.asked == [("/file", "bytes=2000000-")]


def test_a_link_in_the_place_of_the_partial_file_is_not_followed(server: Server, tmp_path: Path) -> None:
    file, precious = remote(server, tmp_path), tmp_path / "precious"
    precious.write_text("keep")
    file.partial.symlink_to(precious)
    Told().fetch(file)
    assert file.path.read_bytes() == CONTENT
    assert not file.path.is_symlink()
    assert precious.read_text() == "keep"


def test_a_whole_partial_file_needs_no_request(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path)
    file.partial.write_bytes(CONTENT)
    Told().fetch(file)
    assert file.path.read_bytes() == CONTENT
    assert server.asked == []


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path)
    server.ranges = False
    server.faults["/file"] = [1_000_000]
    told = Told()
    told.fetch(file)
    assert file.path.read_bytes() == CONTENT
    assert told.n_bytes == len(CONTENT)


def test_starting_over_and_over_without_ranges_comes_to_an_end(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path)
    server.ranges = False
    server.faults["/file"] = [1_000_000] * 50
    told = Told()
    with pytest.raises(CmgemsError, match=r"1\.0 of 3\.0 MB are saved.*run the command again"):
        told.fetch(file)
    assert server.ask_count() == transfer.TRIES


def test_headway_sets_the_tries_back(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path)
    server.faults["/file"] = [100_000] * (3 * transfer.TRIES)
    Told().fetch(file)
    assert file.path.read_bytes() == CONTENT


@pytest.mark.parametrize("start", [0, 1_000])
def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path, start: int) -> None:
    file = remote(server, tmp_path)
    file.partial.write_bytes(CONTENT[:start])
    server.contents["/file"] = CONTENT[:-1] + b"!"
    with pytest.raises(CmgemsError, match="needed " + file.checksum.hexdigest):
        Told().fetch(file)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_size_is_refused_before_it_is_fetched(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path, b"<html>Please log in</html>", size=3_000_000)
    told = Told()
    with pytest.raises(CmgemsError, match=r"has 26 bytes; needed a file of 3,000,000.*proxy"):
        told.fetch(file)
    assert told.n_bytes == 0
    assert list(tmp_path.iterdir()) == []


def test_a_remote_file_shorter_than_what_is_here_is_refused(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path, CONTENT[:1_000], size=2_000)
    file.partial.write_bytes(CONTENT[:1_500])
    told = Told()
    with pytest.raises(CmgemsError, match="has 1,000 bytes; needed a file of 2,000"):
        told.fetch(file)
    assert told.n_bytes == -1_500


def test_a_partial_file_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path)
    file.partial.write_bytes(CONTENT + b"more")
    Told().fetch(file)
    assert file.path.read_bytes() == CONTENT


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_asked_again_after_longer_and_longer_waits(
    server: Server, tmp_path: Path, code: int
) -> None:
    file = remote(server, tmp_path)
    server.faults["/file"] = [("status", code)] * 3
    told = Told()
    told.fetch(file)
    assert file.path.read_bytes() == CONTENT
    assert told.waits == [1.0, 2.0, 4.0]


def test_a_server_that_stays_busy_is_given_up(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path)
    server.faults["/file"] = [("status", 503)] * 50
    with pytest.raises(CmgemsError, match="the server answered 503 Service Unavailable"):
        Told().fetch(file)
    assert server.ask_count() == transfer.TRIES


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_final_answer_is_not_asked_for_again(server: Server, tmp_path: Path, code: int) -> None:
    file = remote(server, tmp_path)
    server.faults["/file"] = [("status", code)]
    with pytest.raises(CmgemsError, match=f"the server answered {code} .*`mirror`"):
        Told().fetch(file)
    assert server.ask_count() == 1


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        told = Told()
        with pytest.raises(CmgemsError, match=r"no connection.*check the network"):
            told.fetch(RemoteFile(url, tmp_path / "file", 10, Checksum("md5", "")))
    assert told.waits == [1.0, 2.0, 4.0, 8.0]


def test_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CmgemsError, match="is not a valid URL"):
        Told().fetch(RemoteFile("hgdownload", tmp_path / "file", 10, Checksum("md5", "")))


def test_a_disk_error_keeps_what_came(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        with pytest.raises(CmgemsError, match=r"cannot write .*file \(File too large\); free disk space"):
            Told().fetch(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 1_000_000 <= file.bytes_here <= 1_500_000
    told = Told()
    told.fetch(file)
    assert file.path.read_bytes() == CONTENT
    assert told.n_bytes <= 2_000_000


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CmgemsError, match="cannot write"):
        Told().fetch(remote(server, tmp_path / "taken"))


def test_a_disk_too_small_is_found_before_the_start(tmp_path: Path) -> None:
    file = RemoteFile("http://nowhere", tmp_path / "a" / "file", 10**18, Checksum("md5", ""))
    with pytest.raises(CmgemsError, match=r"GB free, the download needs 1000000000\.00 GB"):
        check_space([file], file.path)


def test_another_file_of_the_name_is_not_replaced_unasked(server: Server, tmp_path: Path) -> None:
    file = remote(server, tmp_path)
    file.path.write_text("mine")
    with pytest.raises(OverwriteError, match="exists and is not what"):
        check_target(file, overwrite=False)
    assert check_target(file, overwrite=True)
    Told().fetch(file)
    assert check_target(file, overwrite=False) is False


def test_checksums(tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_text("hello\n")
    # git hash-object, md5sum and sha256sum of the same file.
    assert Checksum("git", "").of(path) == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert Checksum("md5", "").of(path) == "b1946ac92492d2347c6235b4d2611184"
    assert (
        Checksum("sha256", "").of(path) == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    )


@settings(max_examples=25)
@given(
    size=st.integers(1, 5_000),
    cuts=st.lists(st.one_of(st.integers(0, 3_000), st.just(("status", 503))), max_size=4),
    left=st.integers(0, 5_000),
    ranges=st.booleans(),
)
def test_whatever_breaks_the_file_is_right(
    size: int, cuts: list[int | tuple[str, int]], left: int, ranges: bool
) -> None:
    content = CONTENT[:size]
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        server.ranges = ranges
        file = remote(server, Path(folder), content)
        server.faults["/file"] = list(cuts)
        left = min(left, size)
        file.partial.write_bytes(content[:left])
        told = Told()
        told.fetch(file)
        assert file.path.read_bytes() == content
        assert told.n_bytes == size - left
