"""Fixtures: `host`, one real ComfyUI for the whole session; `host_with` for other start flags."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from safetensors.torch import save_file

from harness.comfy import Host, make_base_folder, running_host
from harness.decoding import made_tensors


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    base = make_base_folder(tmp_path_factory.mktemp("comfyui"))
    with running_host(base) as server:
        yield server


@pytest.fixture(scope="session")
def host_with(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Host]]:
    """`host_with("--novram")`: a server with other flags, started once a session per flags.

    A start costs about 15 s: share it between tests.
    """
    servers: dict[tuple[str, ...], Host] = {}
    with ExitStack() as stack:

        def start(*flags: str) -> Host:
            if flags not in servers:
                base: Path = make_base_folder(tmp_path_factory.mktemp("comfyui"))
                servers[flags] = stack.enter_context(running_host(base, *flags))
            return servers[flags]

        yield start


@pytest.fixture(autouse=True)
def remove_hooks(request: pytest.FixtureRequest) -> Iterator[None]:
    """A failing test leaves no simulated failure behind for the next one."""
    yield
    if "host" in request.fixturenames:
        request.getfixturevalue("host").hook()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with the golden features as grids, pictures and a mask."""
    file = str(tmp_path_factory.mktemp("made") / "made.safetensors")
    save_file(made_tensors(), file)
    return file
