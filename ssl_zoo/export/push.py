"""An export on the Hugging Face hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ssl_zoo.export._base import ExportError


def push(folder: Path, name: str, private: bool = True) -> str:
    """Upload an export, which makes the repository where there is none; the address of it.

    Args:
        name: USER/NAME.

    Raises:
        ExportError: huggingface_hub is not installed, the name is none, or the hub refuses.
    """
    if name.count("/") != 1 or not all(name.split("/")):
        raise ExportError(f"push={name} names no repository: it takes USER/NAME")
    if find_spec("huggingface_hub") is None:
        raise ExportError("push= needs huggingface_hub: pip install 'ssl-zoo[hf]'")
    import huggingface_hub

    hub = huggingface_hub.HfApi()
    try:
        address = hub.create_repo(name, private=private, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="ssl-zoo export")
    except Exception as error:  # its errors, and those of the network, have no common class
        first = (str(error).strip().splitlines() or [repr(error)])[0]
        raise ExportError(
            f"push={name}: the hub refuses ({first}). Log in by `hf auth login`; the export stays in {folder}"
        ) from error
    return str(address)
