"""The packages of npm that hold the emoji: fetched as `npm pack` writes them, checked, and read as they are."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A package of npm, pinned.

    Attributes:
        name, version: as npm knows them.
        sha256: of the file that `npm pack` writes.
    """

    name: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """The name of the file that `npm pack` writes."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def read(self, folder: Path, members: Callable[[str], bool]) -> dict[str, bytes]:
        """Returns the contents of some files of the package, by their names in it.

        Args:
            folder: where the package is.
            members: chooses them by name.

        Raises:
            FileNotFoundError: if the package is not there.
            ValueError: if it is not the pinned one.
        """
        path = folder / self.file
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing. Fetch it with `npm pack {self.name}@{self.version}`, or leave out --packages."
            )
        found = sha256(path.read_bytes()).hexdigest()
        if found != self.sha256:
            raise ValueError(
                f"{path} has the checksum {found[:12]}… where {self.sha256[:12]}… is pinned: it is damaged or another "
                "file. Remove it, and fetch it again."
            )
        with tarfile.open(path) as archive:
            return {
                member.name.removeprefix("package/"): file.read()
                for member in archive
                if members(member.name.removeprefix("package/")) and (file := archive.extractfile(member)) is not None
            }


def fetch(packages: Iterable[Package], folder: Path, say: Callable[[str], None]) -> None:
    """Fetches packages that are missing in a folder, with `npm pack`.

    Args:
        packages: to fetch.
        folder: is made if missing.
        say: is told of each that is fetched.

    Raises:
        FileNotFoundError: if npm is not installed.
        OSError: if npm cannot fetch one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in packages if not (folder / package.file).is_file()]
    npm = shutil.which("npm")
    if missing and npm is None:
        names = " ".join(f"{package.name}@{package.version}" for package in missing)
        raise FileNotFoundError(
            f"npm, which fetches the emoji, is not installed. Install it, or fetch them where it is with `npm pack "
            f"{names}`, and name their folder with --packages."
        )
    for package in missing:
        say(f"npm pack {package.name}@{package.version}")
        done = subprocess.run(
            [str(npm), "pack", "--silent", "--pack-destination", str(folder), f"{package.name}@{package.version}"],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reason = " ".join(done.stderr.split()[-30:]) or f"it ended with {done.returncode}"
            raise OSError(f"npm could not fetch {package.name}@{package.version}: {reason}")
