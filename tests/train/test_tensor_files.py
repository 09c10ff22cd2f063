"""Files of tensors are read without running what is in them."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import recipe
from safetensors.torch import save_file
from torch import Tensor, nn

from acl_runtime.files.errors import InputError
from acl_train.pickles import PickleError, PickleReader, Storage, View
from acl_train.tensor_files import read_state

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning"
)


def torchscript(module: nn.Module, path: Path) -> Path:
    torch.jit.script(module).save(path)
    return path


class Shared(nn.Module):
    """Parameters, buffers, a tensor that is neither, and a submodule under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4).half())
        self.register_buffer("input_resolution", torch.tensor(224))
        self.extra = torch.ones(2)
        self.first = nn.Linear(2, 3)
        self.second = nn.Sequential(self.first, nn.LayerNorm(3))
        self.turned = nn.Parameter(torch.randn(4, 3).t())

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.extra.sum() + self.input_resolution  # type: ignore[no-any-return]


def test_an_archive_is_read_as_its_own_state_dict(tmp_path: Path) -> None:
    recipe.write_clip_jit("tiny", str(tmp_path / "openai.pt"))
    torchscript(Shared(), tmp_path / "shared.pt")
    for name in ("openai.pt", "shared.pt"):
        expected = torch.jit.load(tmp_path / name).state_dict()
        found = read_state(tmp_path / name)
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            assert (found[key].dtype, found[key].shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(found[key], tensor), key


class ActsInSetState(nn.Module):
    """Writes a file when torch.jit.load makes it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.weight = torch.ones(2)
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, str, bool]:
        return self.weight, self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, str, bool]) -> None:
        self.path = state[1]
        self.training = state[2]
        self.weight = torch.from_file(self.path, True, 4).fill_(1.0)


class ActsInForward(nn.Module):
    """Writes a file when it is called."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_file(self.path, True, 4).fill_(1.0)


class Holds(nn.Module):
    """Has another one as a submodule."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_an_archive_that_acts_when_it_is_made_is_refused_and_does_not_act(tmp_path: Path) -> None:
    for number in range(2):
        written = tmp_path / f"written{number}"
        acts = ActsInSetState(str(written))
        path = torchscript(Holds(acts) if number else acts, tmp_path / f"evil{number}.pt")
        with pytest.raises(
            InputError, match="asks to run code, or is damaged: it sets the state of a __torch__"
        ):
            read_state(path)
        assert not written.exists()
        torch.jit.load(path)  # which is what is never called
        assert written.read_bytes() == struct.pack("<4f", 1, 1, 1, 1)


def test_an_archive_that_acts_when_it_is_called_is_read_as_the_tensors_it_has(tmp_path: Path) -> None:
    path = torchscript(Holds(ActsInForward(str(tmp_path / "written"))), tmp_path / "evil.pt")
    assert torch.equal(read_state(path)["inner.weight"], torch.ones(2))
    assert not (tmp_path / "written").exists()


def test_torch_s_own_loaders_occur_nowhere_in_the_product() -> None:
    root = Path(__file__).parents[2]
    for package in ("acl_runtime", "acl_train", "acl_export"):
        for file in (root / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert "jit.load" not in text, file
            assert "torch.load(" not in text, file
            assert "pickle.load" not in text, file


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before 1.6"])
def test_both_formats_of_torch_save_are_read_exactly(tmp_path: Path, is_zip: bool) -> None:
    base = torch.arange(24, dtype=torch.float32)
    state: dict[str, Any] = OrderedDict(
        a=base.view(4, 6).t(),
        b=base[3:9],
        half=torch.randn(3).half(),
        brain=torch.randn(3).bfloat16(),
        ids=torch.arange(5),
        empty=torch.empty(0, 3),
        scalar=torch.tensor(2.5),
        learned=nn.Parameter(torch.ones(2)),
    )
    torch.save(state, tmp_path / "s.pt", _use_new_zipfile_serialization=is_zip)
    found = read_state(tmp_path / "s.pt")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name], tensor)


def test_a_checkpoint_with_an_optimiser_gives_its_state_dict(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(
        {"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()},
        tmp_path / "c.pt",
    )
    assert read_state(tmp_path / "c.pt").keys() == {"weight", "bias"}


class Calls:
    """A pickle that calls something when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda folder: Calls(os.mkdir, str(folder / "ran")),
        lambda folder: Calls(eval, "1"),
        lambda folder: Calls(torch.load, str(folder / "x")),
        lambda folder: Calls(getattr, "text", "upper"),
        lambda folder: {("a", "tuple"): torch.ones(1)},
        lambda folder: nn.Linear(2, 2),
    ],
    ids=["mkdir", "eval", "load", "getattr", "odd key", "module"],
)
def test_pickles_that_ask_for_anything_else_are_refused(tmp_path: Path, is_zip: bool, make: Any) -> None:
    content = {"a": torch.ones(1), "evil": make(tmp_path)}
    torch.save(content, tmp_path / "e.pt", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(InputError, match=r"e\.pt: not a plain file of tensors \(its pickle asks to run code"):
        read_state(tmp_path / "e.pt")
    assert not (tmp_path / "ran").exists()


def test_names_must_be_texts(tmp_path: Path) -> None:
    torch.save({1: torch.ones(1), 2: torch.ones(1)}, tmp_path / "ints.pth")
    with pytest.raises(InputError, match=r"ints\.pth: names of tensors must be texts, got 1"):
        read_state(tmp_path / "ints.pth")


def rezip(source: Path, target: Path, change: Any, *, compression: int = zipfile.ZIP_STORED) -> Path:
    """The same archive with records changed; None leaves a record out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            if (data := change(name, old.read(name))) is not None:
                new.writestr(name, data)
    return target


def test_archives_are_bounded_by_what_they_hold(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pt")
    bomb = rezip(
        tmp_path / "a.pt", tmp_path / "bomb.pt", lambda _, data: data, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(InputError, match="is compressed or encrypted, which torch never does"):
        read_state(bomb)
    short = rezip(
        tmp_path / "a.pt", tmp_path / "short.pt", lambda name, data: data[:40] if "data/0" in name else data
    )
    with pytest.raises(InputError, match="its tensors claim 4,000 bytes|a storage has 40 bytes, not 4000"):
        read_state(short)
    lost = rezip(
        tmp_path / "a.pt", tmp_path / "lost.pt", lambda name, data: None if "data/0" in name else data
    )
    with pytest.raises(InputError, match=r"lost\.pt: "):
        read_state(lost)
    torch.save({f"{name}": torch.zeros(1).expand(1000) for name in range(2)}, tmp_path / "repeated.pt")
    with pytest.raises(InputError, match="describes a tensor that is larger than its storage"):
        read_state(tmp_path / "repeated.pt")
    values = torch.zeros(100_000)
    torch.save({f"{name}": values for name in range(100)}, tmp_path / "shared.pt")
    with pytest.raises(InputError, match="its tensors claim 20,000,000 bytes, more than the file has"):
        read_state(tmp_path / "shared.pt")


def read(*operations: bytes) -> Any:
    return PickleReader().read(io.BytesIO(b"\x80\x02" + b"".join(operations)))


def test_a_deep_key_does_not_overflow_the_stack() -> None:
    deep = b")" + b"\x85" * 300_000  # a tuple in a tuple in a tuple
    with pytest.raises(PickleError, match="has a key that is a tuple"):
        read(b"}", deep, b"Ns.")


def test_a_huge_memo_needs_no_memory() -> None:
    assert read(b"Nr\xff\xff\xff\x7f.") is None


def test_a_text_that_claims_gigabytes_sets_nothing_aside(tmp_path: Path) -> None:
    (tmp_path / "long.pt").write_bytes(b"\x80\x02X\xff\xff\xff\xff")
    with pytest.raises(InputError, match="has a text of 4,294,967,295 bytes"):
        read_state(tmp_path / "long.pt")


@pytest.mark.parametrize(
    "operations",
    [
        b"",
        b".",
        b"(",
        b"h\x05.",
        b"s.",
        b"R.",
        b"NNR.",
        b"t.",
        b"Q.",
        b"(NQ.",
        b"cos\nsystem\n)R.",
        b"}Nb.",
        b"\x95",
    ],
)
def test_damaged_pickles_are_one_kind_of_error(operations: bytes) -> None:
    with pytest.raises(PickleError):
        read(operations)


def test_a_view_must_lie_in_its_storage() -> None:
    reader = PickleReader()
    pickled = io.BytesIO()

    class Saver(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 6) if obj == "here" else None

    def saved(offset: int, shape: Any, strides: Any) -> io.BytesIO:
        pickled.seek(0)
        pickled.truncate()
        hooks: OrderedDict[str, int] = OrderedDict()
        Saver(pickled, 2).dump(
            Calls(torch._utils._rebuild_tensor_v2, "here", offset, shape, strides, False, hooks)
        )
        pickled.seek(0)
        return pickled

    storage = Storage("FloatStorage", "0", 6)
    assert reader.read(saved(0, (2, 3), (3, 1))) == View(storage, 0, (2, 3), (3, 1))
    for odd in (
        (1, (2, 3), (3, 1)),
        (0, (2, 4), (0, 1)),
        (-1, (1,), (1,)),
        (0, (2,), (1, 1)),
        (0, (2.0,), (1,)),
    ):
        with pytest.raises(PickleError):
            reader.read(saved(*odd))


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.pth")
    with pytest.raises(FileNotFoundError, match=r"fifo\.pth: no such file"):
        read_state(tmp_path / "fifo.pth")


def test_a_safetensors_file_has_no_entries(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    assert read_state(tmp_path / "a.safetensors").keys() == {"a"}
    assert read_state(tmp_path / "a.safetensors", inside="prompt_learner") == {}
