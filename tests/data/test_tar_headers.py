"""Headers of tar archives, as tarfile reads them."""

import io
import tarfile
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitbench.data.tar_headers import BLOCK_BYTES, LONGEST_EXTENSION_BYTES, TarReader, number

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
NAMES = [
    "ü\n",
    "a.png",
    "b/c.png",
    "ä/ö.cls",
    "x" * 99,
    "d/" + "y" * 98,
    "z" * 70 + "/" + "w" * 90,
    "no suffix",
    "n\u0142.cls",
]
LONG = ["v" * 300 + ".png", "f/" * 120 + "u.png", "语" * 60 + "/" + "t" * 120]
SIZES = [0, 1, 511, 512, 513, 9000, 20_000]


def archive(path, members, form, **options):
    with tarfile.open(path, "w", format=form, **options) as tar:
        for name, size, time_s in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = size, time_s
            tar.addfile(member, io.BytesIO(bytes(index % 251 for index in range(size))))


def by_tarfile(path):
    with tarfile.open(path) as tar:
        return [(m.name.encode("utf-8", "surrogateescape"), m.offset_data, m.size) for m in tar if m.isfile()]


def ours(path):
    with TarReader(path) as tar:
        return list(tar)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("time_s", [1_700_000_000, 1_700_000_000.25])
def test_members_are_tarfiles(tmp_path, form, time_s):
    names = NAMES if form == tarfile.USTAR_FORMAT else NAMES + LONG
    time_s = int(time_s) if form == tarfile.USTAR_FORMAT else time_s
    archive(
        tmp_path / "a.tar", [(name, SIZES[i % len(SIZES)], time_s) for i, name in enumerate(names * 3)], form
    )
    found = ours(tmp_path / "a.tar")
    assert found == by_tarfile(tmp_path / "a.tar")
    assert len(found) == 3 * len(names)


@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(
        st.tuples(
            st.text(
                st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]),
                min_size=1,
                max_size=280,
            ),
            st.integers(0, 3000),
            st.floats(0, 2e9),
        ),
        max_size=12,
    ),
    form=st.sampled_from(FORMATS[1:]),
)
def test_any_archive_of_tarfiles(tmp_path_factory, members, form):
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    members = [(name.strip("/") or "x", size, time_s) for name, size, time_s in members]
    archive(path, members, form)
    assert ours(path) == by_tarfile(path)


def test_what_is_no_regular_file_is_passed_over(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("other")
            member.type, member.linkname = kind, "k" * 150
            tar.addfile(member)
        old_folder = tarfile.TarInfo("folder/")
        old_folder.type = tarfile.AREGTYPE
        tar.addfile(old_folder)
        for kind in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
            member = tarfile.TarInfo("file.png")
            member.size, member.type = 3, kind
            tar.addfile(member, io.BytesIO(b"abc"))
    assert ours(path) == by_tarfile(path)
    assert len(ours(path)) == 3


def test_pax_headers_for_all_and_sizes_in_pax_headers(tmp_path):
    archive(
        tmp_path / "a.tar", [("a.png", 700, 1)], tarfile.PAX_FORMAT, pax_headers={"comment": "path=size=1"}
    )
    assert ours(tmp_path / "a.tar") == by_tarfile(tmp_path / "a.tar")
    archive(tmp_path / "g.tar", [("a.png", 7, 1)], tarfile.PAX_FORMAT, pax_headers={"path": "b"})
    with pytest.raises(ValueError, match="for all files"):
        ours(tmp_path / "g.tar")
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("b.png")
        member.size, member.pax_headers = 700, {"size": "700", "path": "c/d.png", "note": "x\npath=y"}
        tar.addfile(member, io.BytesIO(bytes(700)))
        tar.addfile(tarfile.TarInfo("e.png"))
    found = ours(tmp_path / "b.tar")
    assert found == by_tarfile(tmp_path / "b.tar")
    assert [name for name, *_ in found] == [b"c/d.png", b"e.png"]


def test_numbers_in_octal_and_binary():
    for value in (0, 7, 8**11 - 1, 8**11, 2**40):
        assert number(tarfile.itn(value, 12, tarfile.GNU_FORMAT)) == value
    assert number(b"    644 \0\0\0\0") == 0o644
    with pytest.raises(ValueError, match="where a number belongs"):
        number(b"12x\0")


def test_bytes_are_read_where_they_lie(tmp_path):
    archive(tmp_path / "a.tar", [("a", 9000, 1), ("b", 20_000, 1)], tarfile.PAX_FORMAT)
    with TarReader(tmp_path / "a.tar") as tar, tarfile.open(tmp_path / "a.tar") as reference:
        for name, offset, size in reversed(list(tar)):
            assert tar.read(offset, size) == reference.extractfile(name.decode()).read()


def test_an_archive_cut_anywhere_is_refused(tmp_path):
    archive(tmp_path / "a.tar", [(f"{i}.png", 600 * i, 1.5) for i in range(4)], tarfile.PAX_FORMAT)
    whole = (tmp_path / "a.tar").read_bytes()
    end = len(whole.rstrip(b"\0")) // BLOCK_BYTES * BLOCK_BYTES + 2 * BLOCK_BYTES  # with one block of zeros
    for length in [*range(0, end, 97), *range(0, end, BLOCK_BYTES)]:
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is it whole"):
            ours(tmp_path / "cut.tar")


def test_a_damaged_header_anywhere_is_refused(tmp_path):
    archive(tmp_path / "a.tar", [(f"{i}.png", 600, 1.5) for i in range(3)], tarfile.PAX_FORMAT)
    whole = (tmp_path / "a.tar").read_bytes()
    starts = [0, *(offset - BLOCK_BYTES for _, offset, _ in ours(tmp_path / "a.tar"))]
    for start in starts:
        for place in (0, 100, 130, 150, 156, 260, 340, 511):
            damaged = bytearray(whole)
            damaged[start + place] ^= 0x15
            (tmp_path / "bad.tar").write_bytes(damaged)
            with pytest.raises(ValueError, match=r"checksum|number|cut|whole|names of|literal"):
                ours(tmp_path / "bad.tar")


def test_sums_of_signed_bytes_are_taken(tmp_path):
    archive(tmp_path / "a.tar", [("ä.png", 5, 1), ("b.png", 5, 1)], tarfile.GNU_FORMAT)
    data = bytearray((tmp_path / "a.tar").read_bytes())
    signed = sum(byte - 256 if byte > 127 else byte for byte in data[:148] + data[156:512]) + 256
    data[148:156] = b"%06o\0 " % signed
    (tmp_path / "a.tar").write_bytes(data)
    assert ours(tmp_path / "a.tar") == by_tarfile(tmp_path / "a.tar")


def test_sparse_files_and_endless_names_are_refused(tmp_path):
    for kind, size, said in ((b"S", 5, "sparse"), (b"L", LONGEST_EXTENSION_BYTES, "over a million")):
        header = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.GNU_FORMAT))
        header[124:136], header[156:157] = b"%011o\0" % size, kind
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(size + 4096))
        with pytest.raises(ValueError, match=said):
            ours(tmp_path / "a.tar")


def test_the_order_is_the_archives(tmp_path):
    archive(tmp_path / "a.tar", [(f"{i}", 10, 1) for i in range(9000)], tarfile.GNU_FORMAT)
    assert all(one < other for (_, one, _), (_, other, _) in pairwise(ours(tmp_path / "a.tar")))
    assert len(ours(tmp_path / "a.tar")) == 9000
