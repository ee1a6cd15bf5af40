"""What `pixelsleuth detect` says to 29 kinds of broken or odd files, as a Markdown table.

python experiments/bad_inputs.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.badfiles import BAD, ODD, write_bad_files
from tests.videofiles import broken_videos
from tests.volumefiles import bad_volumes

from pixelsleuth.errors import InputError
from pixelsleuth.sources.volumes import read_volume


def main() -> None:
    print("| file | verdict | code | sentence | exit code alone |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        write_bad_files(Path(folder))
        videos = [path.name for path in broken_videos(Path(folder))]
        for name in (*BAD, *ODD, *videos):
            done = subprocess.run(
                [sys.executable, "-m", "pixelsleuth", "detect", str(Path(folder) / name)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            # A folder is read as one: it has no record of its own.
            record = json.loads(done.stdout) if done.stdout.strip() else {"verdict": "no input", "reason": None}
            reason = record["reason"] or {"code": "", "sentence": ""}
            print(f"| {name} | {record['verdict']} | {reason['code']} | {reason['sentence']} | {done.returncode} |")
        # The bundled model judges no volumes; what a model for them says of these is said by their reader.
        print("\n| volume | code | sentence |\n| --- | --- | --- |")
        for path in bad_volumes(Path(folder) / "volumes").values():
            try:
                read_volume(path)
            except InputError as error:
                print(f"| {path.name} | {error.code} | {error.sentence} |")


if __name__ == "__main__":
    main()
