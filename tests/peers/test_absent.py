"""The promise: without scikit-learn, `corekit.sklearn` says what to install."""

from __future__ import annotations

from pathlib import Path

from peers import programs


def test_what_to_install_is_named(tmp_path: Path) -> None:
    script = "import sys; sys.modules['sklearn'] = None; import corekit.sklearn"
    done = programs.run("-c", script, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(
        "MissingPackageError: corekit.sklearn needs scikit-learn 1.6 or newer: "
        "pip install 'scikit-learn>=1.6'"
    )


def test_too_old_a_version_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "sklearn" / "utils").mkdir(parents=True)
    for name in ("", "utils/", "utils/validation"):
        file = tmp_path / "sklearn" / (f"{name}__init__.py" if name[-1:] in "/" else f"{name}.py")
        file.touch()
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import corekit.sklearn"
    done = programs.run("-c", script, folder=tmp_path)
    assert "MissingPackageError: corekit.sklearn needs scikit-learn 1.6 or newer" in done.stderr


def test_corekit_does_not_need_it(tmp_path: Path) -> None:
    script = "import sys, corekit; print('sklearn' in sys.modules)"
    assert programs.run("-c", script, folder=tmp_path).stdout == "False\n"
