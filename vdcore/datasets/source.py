"""Where the files of a data set come from: a folder of the user's, or a download."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """The files of one data set.

    Attributes
    ----------
    name : str
        Folder of the data set, below ``$VDCORE_DATASET_ROOT`` and in the cache.
    url : str
        Address of the folder they are downloaded from.
    sha256 : dict
        File name to checksum (of the file as it is downloaded).
    unpacked : str
        Name of the folder that is in the file, if that is an archive.
    """

    name: str
    url: str
    sha256: dict[str, str]
    unpacked: str = ""

    def find(self, file: str) -> Path:
        """Return the path of `file`, downloaded into the user's cache if need be.

        If the environment variable ``VDCORE_DATASET_ROOT`` is set the file is read from
        there, as it is or unpacked (without ``.gz``, or the folder that an archive
        holds), and nothing is downloaded.

        Raises
        ------
        FileNotFoundError
            If the variable is set and the file is not there.
        ImportError
            If pooch or tqdm, which download it, is not installed.
        OSError
            If it cannot be downloaded, or what comes has another checksum.
        """
        root = os.environ.get("VDCORE_DATASET_ROOT")
        return self._find_in(Path(root) / self.name, file) if root else self._get(file)

    def _find_in(self, folder: Path, file: str) -> Path:
        if self.unpacked and (folder / self.unpacked).is_dir():
            return folder / self.unpacked
        for name in (file, file.removesuffix(".gz")):
            if (folder / name).is_file():
                return folder / name
        there = sorted(path.name for path in folder.glob("*"))
        message = (
            f"{self.name}: VDCORE_DATASET_ROOT makes {folder} the place of {file} "
            f"(packed or not), but that has {', '.join(there) or 'nothing'}; put the "
            f"file there, from {self.url}{file}, or unset the variable to have it "
            "downloaded"
        )
        raise FileNotFoundError(message)

    def _get(self, file: str) -> Path:
        try:
            import pooch
            import tqdm  # noqa: F401  (pooch's progress bar)
        except ImportError as error:
            message = (
                f"{self.name}: downloading needs pooch and tqdm; run "
                '`pip install "vdcore[examples]"`, or set VDCORE_DATASET_ROOT to a '
                f"folder that has {self.name}/{file}"
            )
            raise ImportError(message) from error
        folder = pooch.os_cache("vdcore") / self.name
        try:
            path = pooch.retrieve(
                self.url + file,
                self.sha256[file],
                fname=file,
                path=folder,
                progressbar=True,
            )
        except (OSError, ValueError) as error:  # the network; the checksum
            message = (
                f"{self.name}: could not download {self.url}{file}: {error}. Put the "
                f"file (SHA-256 {self.sha256[file]}) into {folder}, or into the folder "
                f"{self.name} of one that VDCORE_DATASET_ROOT names"
            )
            raise OSError(message) from error
        return Path(path)
