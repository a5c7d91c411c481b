"""A copy of the project in which one module at a time is a mutant, and a process that forks to test it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path


class Tree:
    """A copy of the project's files, with a process that has loaded the large packages."""

    def __init__(self, folder: Path):
        self.folder = folder
        names = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
        )
        for name in filter(lambda name: Path(name).is_file(), names.stdout.splitlines()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, folder / name)
        environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "zygote.py"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def outcome(self, module: Path, source: str, stages: list[list[str]]) -> str:
        """Run stages of tests beside a mutated module until one fails; return "killed", "survived" or "hangs"."""
        place = self.folder / module
        place.write_text(source)
        assert self._process.stdin is not None and self._process.stdout is not None
        answer = "survived"
        for tests in stages:
            print(json.dumps(tests), file=self._process.stdin, flush=True)
            if (answer := self._process.stdout.readline().strip()) != "survived":
                break
        shutil.copyfile(module, place)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
