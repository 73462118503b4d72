"""Pictures for the shipped workflows, in the input folder, where Load Image finds them."""

import logging
from pathlib import Path

import folder_paths

from ...blip3u_core.atomic_files import write_atomically

# Host: it would take a folder `examples` for one of templates, and hide `workflows` with it.
EXAMPLES = Path(__file__).resolve().parents[2] / "example_images"


def put_examples() -> None:
    """Copy what is not there yet; a folder that cannot be written to is told in the log."""
    folder = Path(folder_paths.get_input_directory())
    for picture in sorted(EXAMPLES.glob("*.png")):
        target = folder / picture.name
        if target.exists():
            continue
        content = picture.read_bytes()
        try:
            write_atomically(target, lambda file, content=content: file.write(content))
        except OSError as error:
            logging.warning("BLIP3-U: no example pictures in %s: %s", folder, error)
            return
