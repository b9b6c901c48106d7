"""What was made is written even if its record cannot be kept, and whatever becomes of the others."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.unit.cli.test_cli import empty_folder, make, vd  # noqa: F401
from versatile_diffusion.cli import job
from versatile_diffusion.cli.writing import UnwrittenOutput, write_outputs
from versatile_diffusion.provenance.stored_record import StoredRecord


def test_one_file_that_cannot_be_written_keeps_none_of_the_others_from_it(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    outputs = [
        UnwrittenOutput(tmp_path / name, Image.new("RGB", (2, 2)), {"prompt": "a \udcff"}, None)
        for name in ("a.png", "folder.png", "b.png")
    ]
    written: list[Path] = []
    with pytest.raises(OSError, match="1 of 3 outputs could not be written"):
        write_outputs("image", outputs, written.append)
    assert written == [tmp_path / "a.png", tmp_path / "b.png"]
    assert Image.open(tmp_path / "a.png").info == {"prompt": "a ?"}


@pytest.mark.usefixtures("empty_folder")
def test_a_record_that_cannot_be_kept_is_told_and_the_picture_is_there(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: StoredRecord) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StoredRecord, "files", full)
    made = make(model, "text-to-image", "a tent", "-n", 2, "--seed", 1, "-o", "made")
    assert made.exit_code == 0 and "written without its recipe" in made.stderr and "No space left" in made.stderr
    assert [Image.open(file).info["seed"] for file in sorted(Path("made").iterdir())] == ["1", "2"]


@pytest.mark.usefixtures("empty_folder")
def test_pictures_may_be_data_urls_and_messages_about_them_are_short(
    model: Path, monkeypatch: pytest.MonkeyPatch, picture: Image.Image
) -> None:
    import base64
    import io

    file = io.BytesIO()
    picture.save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    made = make(model, "image-variation", url, "--seed", 1)
    assert made.exit_code == 0 and made.stdout.split() == ["outputs/image-1.png"], made.output
    monkeypatch.setattr(job, "open_pipeline", None)
    for arguments in (
        ["image-variation", "A" * 2_000_000],
        ["edit", "A" * 2_000_000, "--add", "x"],
        ["blend", "--image", url * 9],
    ):
        refused = vd(*arguments)
        assert refused.exit_code in (1, 2) and len(refused.stderr) < 2000
    assert vd("demo", "--seed", 2**64 - 1).exit_code == 1


def test_all_is_written_even_if_nobody_reads_on(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from PIL import Image
        from versatile_diffusion.cli.console import results
        from versatile_diffusion.cli.writing import UnwrittenOutput, write_outputs

        files = [Path(sys.argv[1]) / f"{number}.png" for number in range(400)]
        outputs = [UnwrittenOutput(file, Image.new("RGB", (2, 2)), {}, None) for file in files]
        write_outputs("image", outputs, lambda file: results.print(f"{file}" * 10))"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode == 0 and len(list(tmp_path.glob("*.png"))) == 400
