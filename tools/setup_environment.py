"""Set up the environment that `make` runs in: check what must be there, then install what is missing with pip.

A torch that is there already, in the environment itself or in the Python that it is built from, is kept: its version
is pinned for pip. Needs only the standard library of Python 3.6 or newer, so that an old Python gets a clear word.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 10)


def main() -> None:
    """Set up the environment in a folder, with the versions of a file (constraints.txt), and with further extras."""
    folder = Path(sys.argv[1])
    versions = ROOT / (sys.argv[2] if len(sys.argv) > 2 else "constraints.txt")
    check_python()
    check_compiler()
    if not (folder / "bin" / "python").exists():
        create(folder)
    install(folder / "bin" / "python", versions, ["dev", *sys.argv[3:]])


def check_python() -> None:
    """The interpreter must be new enough and able to make environments."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:2]))
        fail(f"Python {found} is too old, 3.10 or newer is needed", "apt-get install python3; or PYTHON=python3.12")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail("this Python can't make virtual environments", "apt-get install python3-venv")


def check_compiler() -> None:
    """TVM links what it compiles with the system's C++ compiler."""
    if not any(shutil.which(name) for name in ("g++", "c++", "clang++")):
        fail("no C++ compiler", "apt-get install g++")


def create(folder: Path) -> None:
    """Make the environment, over the Python's own packages if torch is among them."""
    print(f"setting up {folder} with Python {sys.version.split()[0]}", flush=True)
    over = ["--system-site-packages"] if torch_version(sys.executable) else []
    done = subprocess.run([sys.executable, "-m", "venv", *over, str(folder)], check=False)
    if done.returncode:
        fail(f"the environment {folder} could not be created; the reason is above", "another folder with VENV=DIR")


def install(python: Path, versions: Path, extras: "list[str]") -> None:
    """Install never-slower and what it and its extras need; versions as in the file, but torch as it is, if there."""
    there = torch_version(str(python))
    constraints = versions.read_text(encoding="utf-8")
    if there:
        print(f"using the torch {there} that is there", flush=True)
        # numpy belongs to the torch that was built against it.
        kept = [line for line in constraints.splitlines() if not line.startswith(("torch==", "numpy==", "scipy=="))]
        constraints = "\n".join([*kept, f"torch=={there}"])
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
        file.write(constraints + "\n")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run([*command, "-c", file.name, "-e", f"{ROOT}[{','.join(extras)}]"], check=False)
    finally:
        Path(file.name).unlink()
    if done.returncode:
        fail("pip could not install what never-slower needs; its message is above", "fix that, and run make again")


def torch_version(python: str) -> str:
    """The version of the torch that an interpreter finds, or nothing; torch itself is not imported."""
    code = "import importlib.metadata as m; print(m.version('torch'))"
    done = subprocess.run(
        [python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def fail(what: str, remedy: str) -> None:
    """End with one line that names what is wrong and what fixes it."""
    sys.exit(f"never-slower: {what}. Remedy: {remedy}")


if __name__ == "__main__":
    main()
