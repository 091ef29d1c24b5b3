"""Pictures: splits without leaks, the idx format, picture files, folders of classes, errors."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import train_test_split
from torch import Tensor

import vit.image_data
from vit.idx_format import read_idx
from vit.image_data import few, load_image_data
from vit.image_files import LARGEST, read_image
from vit.image_set import SPLITS, ImageData, ImageSplit, channel_statistics


def pictures_of(split: ImageSplit) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_set(folder: Path, n_train: int = 48, n_test: int = 8, ending: str = "") -> None:
    """Writes a set in the format of MNIST: three classes, random pictures of 6 x 6."""
    folder.mkdir(exist_ok=True)
    numbers = np.random.default_rng(0)
    for start, count in (("train", n_train), ("t10k", n_test)):
        write_idx(
            folder / f"{start}-images-idx3-ubyte{ending}", numbers.integers(0, 256, (count, 6, 6))
        )
        write_idx(folder / f"{start}-labels-idx1-ubyte{ending}", np.arange(count) % 3)


def write_picture(
    path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (10, 10)
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_classes(folder: Path, count: int = 10, mode: str = "RGB") -> Path:
    for label, name in enumerate(("cat", "dog")):
        for number in range(count):
            write_picture(folder / name / f"{number}.png", 100 * label + number, mode)
    return folder


def refusal(name: Path | str, **options: int) -> str:
    """Returns the one line with which a set is refused."""
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_image_data(str(name), **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# The sets that are known by name


def test_digits_are_split_once_for_all() -> None:
    data = load_image_data("digits")
    assert [len(getattr(data, split).labels) for split in SPLITS] == [1197, 150, 450]
    assert (data.image_size, data.channels, data.classes[7]) == (8, 1, "7")
    everything = [pictures_of(getattr(data, split)) for split in SPLITS]
    assert len(set.union(*everything)) == 1797 == sum(map(len, everything))
    other = load_image_data("digits", seed=1)
    assert torch.equal(other.test.images, data.test.images)
    assert pictures_of(other.validation) != pictures_of(data.validation)
    assert data.test.labels.bincount().min() >= 43 and data.test.labels.bincount().max() <= 46


def test_anybody_gets_the_test_digits_with_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    _, x_test, _, y_test = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    data = load_image_data("digits")
    assert np.array_equal(16 * data.test.images.flatten(1).numpy(), x_test)
    assert np.array_equal(data.test.labels.numpy(), y_test)


def test_mean_and_deviation_are_those_of_the_training_pictures() -> None:
    data = load_image_data("digits")
    std, mean = torch.std_mean(data.train.images, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(data.mean, mean)
    torch.testing.assert_close(data.std, std)


def test_statistics_of_bytes_and_of_a_constant_channel() -> None:
    images = torch.randint(256, (9, 2, 5, 5), dtype=torch.uint8)
    images[:, 1] = 255
    mean, std = channel_statistics(images)
    torch.testing.assert_close(mean[0], images[:, 0].float().mean() / 255)
    assert mean[1] == 1 and std[1] == 1, "nothing is divided by zero"


def test_small_digits_are_balanced_parts_of_the_splits() -> None:
    whole, small = load_image_data("digits"), load_image_data("digits-small")
    for split in SPLITS:
        part = getattr(small, split)
        assert pictures_of(part) <= pictures_of(getattr(whole, split))
        assert len(set(part.labels.bincount().tolist())) == 1


def test_fingerprint_follows_the_pictures() -> None:
    data = load_image_data("digits-small")
    assert data.fingerprint == load_image_data("digits-small").fingerprint
    assert data.fingerprint != few(data, 100, 0).fingerprint
    assert few(data, 100, 0).fingerprint != few(data, 100, 1).fingerprint


def test_fashion_mnist_has_names_and_a_validation_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path, ending=".gz")
    files = vit.image_data.find_idx_files(tmp_path)
    monkeypatch.setattr(vit.image_data, "dataset_files", lambda name: files)
    data = load_image_data("fashion_mnist")
    assert data.classes[9] == "Ankle boot" and len(data.classes) == 10
    assert [len(getattr(data, split).labels) for split in SPLITS] == [44, 4, 8]


# A part of the training pictures


def test_few_is_balanced_nested_and_leaves_the_rest_alone() -> None:
    data = load_image_data("digits")
    small, large = few(data, 25, seed=3), few(data, 0.1, seed=3)
    assert sorted(small.train.labels.bincount().tolist()) == [2] * 5 + [3] * 5
    assert len(large.train.labels) == 120
    assert pictures_of(small.train) < pictures_of(large.train) < pictures_of(data.train)
    assert small.test is data.test and small.validation is data.validation
    torch.testing.assert_close(small.mean, small.train.images.mean(dim=(0, 2, 3)))
    assert pictures_of(few(data, 25, seed=4).train) != pictures_of(small.train)


def test_few_of_unequal_classes_takes_what_there_is() -> None:
    labels = torch.tensor([0] * 20 + [1] * 3 + [3] * 7)  # class 2 has no picture
    split = ImageSplit(torch.rand(30, 1, 2, 2), labels)
    data = ImageData("made up", tuple("abcd"), split, split, split, torch.ones(1), torch.ones(1))
    assert few(data, 15, 0).train.labels.bincount().tolist() == [6, 3, 0, 6]
    assert pictures_of(few(data, 30, 0).train) == pictures_of(split)


@pytest.mark.parametrize("amount", [9, 201, 0.01])
def test_few_of_too_few_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="Use 10 to 200"):
        few(load_image_data("digits-small"), amount, 0)


# What no model can learn from


def make(labels: Tensor, classes: str = "ab", shape: tuple[int, ...] = (1, 4, 4)) -> ImageData:
    good = ImageSplit(torch.zeros(4, 1, 4, 4), torch.tensor([0, 1, 0, 1]))
    bad = ImageSplit(torch.zeros(4, *shape), labels)
    return ImageData("made up", tuple(classes), good, good, bad, torch.ones(1), torch.ones(1))


def test_impossible_data_is_refused() -> None:
    right = torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match="test split: label 2 is out of range"):
        make(torch.tensor([0, 1, 2, 1]))
    with pytest.raises(ValueError, match="label -1 is out of range"):
        make(torch.tensor([0, -1, 0, 1]))
    with pytest.raises(ValueError, match="1 class"):
        make(right * 0, classes="a")
    with pytest.raises(ValueError, match="4 pictures and 3 labels"):
        make(right[:3])
    with pytest.raises(ValueError, match="1 x 4 x 6.*squares"):
        make(right, shape=(1, 4, 6))
    with pytest.raises(ValueError, match="3 x 4 x 4, those of training 1 x 4 x 4"):
        make(right, shape=(3, 4, 4))


def test_unknown_name_says_what_there_is() -> None:
    assert "digits, digits-small, fashion_mnist" in refusal("fashion-mnist")


# The format of MNIST


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_folder_in_the_format_of_mnist(tmp_path: Path, ending: str) -> None:
    write_set(tmp_path, ending=ending)
    data = load_image_data(str(tmp_path))
    assert [len(getattr(data, split).labels) for split in SPLITS] == [44, 4, 8]
    assert data.classes == ("0", "1", "2") and data.train.images.dtype == torch.uint8
    assert not pictures_of(data.train) & pictures_of(data.validation)
    again = load_image_data(str(tmp_path), seed=1)
    assert torch.equal(again.test.images, data.test.images)
    assert again.fingerprint != data.fingerprint


def test_idx_reads_what_was_written(tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    write_idx(tmp_path / "x", array)
    assert np.array_equal(read_idx(tmp_path / "x", 3).numpy(), array)


def test_damaged_idx_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    for content, expected in (
        (b"\x89PNG and more", "begins with the bytes 89504e47"),
        (b"", "an empty file"),
        (b"\0\0\x0d\x03" + b"\0" * 12, "00000d03"),  # numbers with a decimal point
        (b"\0\0\x08\x01" + struct.pack(">I", 3) + b"abc", "3 dimension"),  # labels
        (b"\0\0\x08\x03\0\0", "within its header"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2, 2, 2) + b"1234567", "holds 7"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2, 2, 2) + b"123456789", "holds 9"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "holds 0"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 0, 6, 6), "0 x 6 x 6 numbers: it is empty"),
        (gzip.compress(b"x" * 1000)[:20], "cannot be unpacked"),
    ):
        write_set(tmp_path)
        path.write_bytes(content)
        assert expected in refusal(tmp_path)


def test_idx_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write_set(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(40) % 3)
    assert "48 pictures and train-labels-idx1-ubyte 40 labels" in refusal(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(48) % 2)
    assert "label 2 is out of range" in refusal(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert "no t10k-labels-idx1-ubyte" in refusal(tmp_path)


# Picture files


def test_picture_of_the_right_size_is_read_as_it_is(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", 0)
    image = read_image(path, 3, 10)
    expected = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
    assert image.shape == (3, 10, 10) and torch.equal(image, expected)


def test_the_middle_square_is_used_and_scaled(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60), np.uint8)
    pixels[:, 20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    for size in (5, 20, 40):
        assert torch.equal(read_image(tmp_path / "wide.png", 1, size), torch.ones(1, size, size))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_kind_of_file_becomes_gray(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (8, 8), "white").convert(mode).save(path)
    assert torch.equal(read_image(path, 1, 4), torch.ones(1, 4, 4))


def test_what_is_transparent_is_white_and_16_bits_keep_their_scale(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert torch.equal(read_image(tmp_path / "clear.png", 3, 4), torch.ones(3, 4, 4))
    Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert torch.equal(read_image(tmp_path / "deep.png", 1, 4), torch.full((1, 4, 4), 128) / 255)


def test_photo_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16), np.uint8)
    pixels[:8] = 255  # bright above
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was held upside down
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg", 1, 16)
    assert image[0, 12:].mean() > 0.9 > 0.1 > image[0, :4].mean()


def test_gray_where_color_is_expected(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "gray.png", 0, mode="L")
    with pytest.raises(ValueError, match="is gray and the model reads color"):
        read_image(path, 3, 8)
    with pytest.raises(ValueError, match="4 channels"):
        read_image(path, 4, 8)


def announce(path: Path, width: int, height: int) -> Path:
    """Writes a PNG file of 57 bytes that claims to have so many pixels."""
    import zlib

    def block(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", b"") + block(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(
    ("width", "height", "seen"),
    [(1, 1, "1 x 1"), (1, 50, "1 x 50"), (LARGEST + 1, 8, "4,097 x 8"),
     (10_000, 10_000, "10,000 x 10,000"), (20_000, 20_000, "hundreds of millions of pixels")],
)  # fmt: skip
def test_size_is_refused_before_decoding(
    tmp_path: Path, width: int, height: int, seen: str, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(ValueError, match=f"{seen}.*2 to 4,096"):
        read_image(announce(tmp_path / "a.png", width, height), 1, 8)
    assert not recwarn.list


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"GIF89a" + b"\0" * 40, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ValueError, match="no picture that can be read"):
            read_image(tmp_path / "a.png", 1, 8)
    for path in (tmp_path, tmp_path / "none.png"):
        with pytest.raises(FileNotFoundError, match="is no file"):
            read_image(path, 1, 8)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_file_cut_anywhere_or_changed_gives_one_line(tmp_path: Path, ending: str) -> None:
    whole = write_picture(tmp_path / f"whole.{ending}", 0, size=(40, 40)).read_bytes()
    path = tmp_path / f"a.{ending}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        read_image(path, 3, 8)
    numbers = np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(whole[: numbers.integers(1, len(whole) + 1)])
        content[numbers.integers(len(content))] ^= int(numbers.integers(1, 256))
        path.write_bytes(content)
        try:
            assert read_image(path, 3, 8).shape == (3, 8, 8)  # some changes are harmless
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)


# Folders of classes


def test_folder_of_classes(tmp_path: Path) -> None:
    data = load_image_data(str(write_classes(tmp_path)), image_size=6)
    assert (data.classes, data.image_size, data.channels) == (("cat", "dog"), 6, 3)
    for split, count in (("train", 6), ("validation", 2), ("test", 2)):
        assert getattr(data, split).labels.bincount().tolist() == [count, count]
    everything = [pictures_of(getattr(data, split)) for split in SPLITS]
    assert len(set.union(*everything)) == 20
    assert load_image_data(str(tmp_path)).image_size == 10, "that of the first picture"


def test_split_follows_the_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_classes(tmp_path / "set")
    before = load_image_data(str(folder))
    for number, path in enumerate(sorted(folder.glob("cat/*.png"))):
        path.rename(path.with_name(f"x{97 - number}.PNG"))
    copied = folder / "cat" / "copy.png"
    with Image.open(folder / "cat" / "x97.PNG") as picture:
        picture.save(copied, compress_level=0)  # other bytes, the same pixels
    (folder / "cat" / "notes.txt").write_text("no picture", encoding="utf-8")
    (folder / ".hidden").mkdir()
    after = load_image_data(str(folder), seed=1)
    assert "1 copies were left out" in capsys.readouterr().err
    assert pictures_of(after.test) == pictures_of(before.test)
    seen = [pictures_of(getattr(after, split)) for split in SPLITS]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 20
    other_size = load_image_data(str(folder), image_size=5)
    assert len(other_size.test.labels) == len(before.test.labels)


def test_folders_that_cannot_be_learned_from(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    assert "holds 0 folder(s)" in refusal(folder)
    write_picture(folder / "cat" / "1.png", 1)
    assert "holds 1 folder(s)" in refusal(folder)
    (folder / "dog").mkdir()
    assert "its class would be empty" in refusal(folder)
    write_classes(folder, count=2)
    assert "holds 2 different picture(s): 3 are the least" in refusal(folder)
    write_classes(folder, count=4)
    write_picture(folder / "dog" / "same.png", 1)
    assert "the same picture in two classes" in refusal(folder)
    write_picture(folder / "dog" / "same.png", 7, mode="L")
    assert "is gray" in refusal(folder)
    (folder / "dog" / "same.png").write_bytes(b"nothing")
    assert "same.png is no picture" in refusal(folder)
    write_picture(folder / "dog" / "same.png", 7)
    assert "--image-size 1 is not possible" in refusal(folder, image_size=1)


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit.image_folder.MAX_BYTES", 1000)
    assert "Use a smaller --image-size" in refusal(write_classes(tmp_path))
    assert load_image_data(str(tmp_path), image_size=4).image_size == 4


def test_gray_folder_is_read_in_gray(tmp_path: Path) -> None:
    assert load_image_data(str(write_classes(tmp_path, mode="L"))).channels == 1
