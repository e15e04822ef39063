"""The hook in a real interpreter: Databento's clients are pointed at the guard, and nothing else is changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipapp
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from budget_guard.streaming.child import HOOK_DIR

RELAY = "127.0.0.1:13999"
DOOR = "http://127.0.0.1:8999"
TOKEN = "db-0123456789ABCDEFGHJKLMNPQRSTU"
GUARDED = {"DATABENTO_API_KEY": TOKEN, "BUDGET_GUARD_RELAY": RELAY, "BUDGET_GUARD_HTTP": DOOR}

# A package that looks like databento from outside, to see the hook without the weight.
LOOKALIKE = """
class Live:
    def __init__(self, key=None, gateway=None, port=13000, ts_out=False):
        self.key, self.gateway, self.port, self.ts_out = key, gateway, port, ts_out

class Part:
    def __init__(self, key, gateway):
        self.key, self._gateway = key, gateway

class Historical:
    def __init__(self, key=None, gateway="https://hist.databento.com"):
        self.key, self._gateway = key or "env", gateway
        for name in ("batch", "metadata", "symbology", "timeseries"):
            setattr(self, name, Part(self.key, gateway))
"""


def python(
    code: str,
    *path: Path,
    env: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    interpreter: str = sys.executable,
) -> subprocess.CompletedProcess[str]:
    """Run code as a guarded child runs it: the hook's folder first on PYTHONPATH, then `path`."""
    return start([interpreter, *options, "-c", code], *path, env=env)


def start(
    command: Sequence[str], *path: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(HOOK_DIR), *map(str, path), *inherited]),
        **(GUARDED if env is None else env),
    }
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def result_of(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture
def lookalike(tmp_path: Path) -> Path:
    package = tmp_path / "libraries" / "databento"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(LOOKALIKE)
    (package / "data.txt").write_text("a resource")
    return package.parent


def test_an_unchanged_program_is_pointed_at_the_relay_and_the_door() -> None:
    """With the real client: no gateway, a gateway given, and a class made from one of the client's own."""
    code = """
import json, pickle, databento
from databento.live.client import Live as Deep

class Own(databento.Live):
    def __init__(self):
        super().__init__(ts_out=True)

def live(client):
    return [client.gateway, client.port, client.key]

def historical(client):
    parts = (client.batch, client.metadata, client.symbology, client.timeseries)
    return [client.gateway, client.key, *(part._gateway for part in parts), *(part._key for part in parts)]

print(json.dumps({
    "live": live(databento.Live()),
    "own": [*live(Own()), Own().ts_out],
    "deep": live(Deep(key="db-mine-000000000000000000000000")),
    "chosen": live(databento.Live(gateway="10.1.2.3", port=1234)),
    "positional": live(databento.Live(None, "10.1.2.3", 1234)),
    "historical": historical(databento.Historical()),
    "elsewhere": historical(databento.Historical(gateway="10.1.2.3")),
    "names": [databento.Live.__name__, databento.Live.__init__.__doc__ == Deep.__init__.__doc__],
}))
"""
    found = result_of(python(code))
    relay = ["127.0.0.1", 13999, TOKEN]
    assert found["live"] == relay
    assert found["own"] == [*relay, True]
    assert found["deep"] == ["127.0.0.1", 13999, "db-mine-000000000000000000000000"]
    assert found["chosen"] == found["positional"] == ["10.1.2.3", 1234, TOKEN]
    assert found["historical"] == [DOOR, TOKEN, *[DOOR] * 4, *[TOKEN] * 4]
    assert found["elsewhere"][0] == "https://10.1.2.3"
    assert set(found["elsewhere"][2:6]) == {"https://10.1.2.3"}
    assert found["names"] == ["Live", True]


USE = "import databento as d, json; l, h = d.Live(), d.Historical(); print(json.dumps([l.gateway, l.port, h._gateway]))"


def test_the_module_looks_as_if_nobody_had_touched_it(lookalike: Path) -> None:
    """Its loader is its own, so that resources and sources are found."""
    code = """
import databento, importlib, importlib.resources, inspect, json
source = inspect.getsource(databento.Historical)
again = importlib.reload(databento)
print(json.dumps([
    type(databento.__loader__).__name__, type(databento.__spec__.loader).__name__,
    importlib.resources.files("databento").joinpath("data.txt").read_text(),
    "class Historical" in source, again.Live().gateway,
]))
"""
    found = result_of(python(code, lookalike))
    assert found == ["SourceFileLoader", "SourceFileLoader", "a resource", True, "127.0.0.1"]


def test_only_what_the_guard_gave_is_pointed(lookalike: Path) -> None:
    only_relay = result_of(python(USE, lookalike, env={"BUDGET_GUARD_RELAY": RELAY}))
    assert only_relay == ["127.0.0.1", 13999, "https://hist.databento.com"]
    only_door = result_of(python(USE, lookalike, env={"BUDGET_GUARD_HTTP": DOOR}))
    assert only_door == [None, 13000, DOOR]


def test_without_the_guards_variables_the_hook_does_nothing(lookalike: Path) -> None:
    assert result_of(python(USE, lookalike, env={})) == [None, 13000, "https://hist.databento.com"]


def test_a_relay_on_an_ipv6_address_is_understood(lookalike: Path) -> None:
    found = result_of(python(USE, lookalike, env={"BUDGET_GUARD_RELAY": "::1:13999"}))
    assert found[:2] == ["::1", 13999]


def test_a_program_without_databento_runs_as_ever(tmp_path: Path) -> None:
    (tmp_path / "databento.py").write_text("raise ImportError('broken')")
    code = """
import json
try:
    import databento
except ImportError as error:
    print(json.dumps(str(error)))
"""
    assert result_of(python(code, tmp_path)) == "broken"
    missing = "import importlib.util, json; print(json.dumps(importlib.util.find_spec('databento') is None))"
    # Without site-packages nothing is installed.
    assert result_of(python(missing, options=("-I", "-S"))) is True


def test_a_library_that_is_found_late_is_pointed_all_the_same(lookalike: Path) -> None:
    """A program may add folders to its path after a first try has failed."""
    code = f"""
import sys
kept, sys.path[:] = list(sys.path), []
try:
    import databento
except ImportError:
    sys.path[:] = [{str(lookalike)!r}, *kept]
{USE}
"""
    assert result_of(python(code)) == ["127.0.0.1", 13999, DOOR]


def test_another_module_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "databento.py").write_text("answer = 42")
    assert result_of(python("import databento; print(databento.answer)", tmp_path)) == 42


# --- other hooks ----------------------------------------------------------------------------------------------


def test_another_sitecustomize_on_the_path_runs_too(lookalike: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.theirs = __file__\n")
    code = f"""
import sys
assert sys.theirs.startswith({str(tmp_path)!r})
import sitecustomize
assert sitecustomize.__file__ == sys.theirs
{USE}"""
    assert result_of(python(code, tmp_path, lookalike)) == ["127.0.0.1", 13999, DOOR]


def test_another_sitecustomize_that_fails_is_reported_as_ever_and_stops_nothing(
    lookalike: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise RuntimeError('theirs')")
    done = python(USE, tmp_path, lookalike)
    assert "theirs" in done.stderr
    assert json.loads(done.stdout) == ["127.0.0.1", 13999, DOOR]


def test_the_hook_itself_is_not_run_twice(tmp_path: Path) -> None:
    code = "import sys; print(sum(type(f).__name__ == '_Finder' for f in sys.meta_path))"
    assert result_of(python(code, HOOK_DIR, Path(f"{HOOK_DIR}/."))) == 1


@pytest.mark.parametrize("option", ["-I", "-S", "-E"])
def test_an_interpreter_that_leaves_the_hook_out_holds_no_key(lookalike: Path, option: str) -> None:
    """It reaches for the vendor itself, with a token that means nothing there."""
    code = f"import os, sys\nsys.path.insert(0, {str(lookalike)!r})\n{USE}\nprint(os.environ['DATABENTO_API_KEY'])"
    clients, key = python(code, options=(option,)).stdout.splitlines()
    assert json.loads(clients) == [None, 13000, "https://hist.databento.com"]
    assert key == TOKEN


# --- programs of every kind -------------------------------------------------------------------------------------

POINTED = ["127.0.0.1", 13999, DOOR]


def interpreters() -> list[str]:
    """Pythons of other versions that run: those on the path, and those installed beside this one."""
    on_path = [shutil.which(f"python3.{minor}") for minor in range(6, 20)]
    beside = sorted(Path(sys.base_prefix).parent.glob("3.*/bin/python"))
    found: dict[bytes, str] = {}
    for path in filter(None, [*on_path, *map(str, beside)]):
        said = subprocess.run([path, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True)
        if said.returncode == 0:
            found.setdefault(said.stdout, path)
    return list(found.values())


@pytest.mark.parametrize("interpreter", interpreters())
def test_a_program_of_another_python_is_pointed_too(lookalike: Path, interpreter: str) -> None:
    assert result_of(python(USE, lookalike, interpreter=interpreter)) == POINTED


def _runs_its_own(interpreter: Path) -> bool:
    """Whether an environment's own sitecustomize runs without the hook: some systems bring one that comes first."""
    code = "import sys; print(hasattr(sys, 'sitecustomize'))"
    told = subprocess.run([str(interpreter), "-c", code], capture_output=True, text=True, env={}, timeout=60)
    return told.stdout.strip() == "True"


def test_a_program_in_an_environment_of_its_own_is_pointed(lookalike: Path, tmp_path: Path) -> None:
    """One in which budget-guard is not installed, and which has a sitecustomize and a usercustomize of its own."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    library = next(home.glob("lib/python*/site-packages"))
    shutil.copytree(lookalike / "databento", library / "databento")
    for name in ("sitecustomize", "usercustomize"):
        (library / f"{name}.py").write_text(f"import sys\nsys.{name} = True\n")
    code = f"""
import importlib.util, sys
assert importlib.util.find_spec("budget_guard") is None
assert hasattr(sys, "sitecustomize") == {_runs_its_own(home / "bin" / "python")}
{USE}"""
    environment = {**GUARDED, "PATH": os.environ["PATH"], "PYTHONPATH": str(HOOK_DIR)}
    done = subprocess.run(
        [str(home / "bin" / "python"), "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=60,
    )
    assert result_of(done) == POINTED


def test_a_usercustomize_runs_as_ever(lookalike: Path, tmp_path: Path) -> None:
    """Where the interpreter looks for one: beside the hook, which does not stand in for it."""
    (tmp_path / "usercustomize.py").write_text("import sys\nsys.theirs = True\n")
    code = f"""
import site, sys
assert not site.ENABLE_USER_SITE or sys.theirs
{USE}"""
    assert result_of(python(code, tmp_path, lookalike)) == POINTED


def test_a_module_and_a_zipped_application_are_pointed(lookalike: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.mkdir()
    (program / "__main__.py").write_text(USE)
    zipapp.create_archive(program, tmp_path / "program.pyz")
    assert result_of(start([sys.executable, str(tmp_path / "program.pyz")], lookalike)) == POINTED
    assert result_of(start([sys.executable, "-m", "program"], lookalike, tmp_path)) == POINTED
    assert result_of(start([sys.executable, str(program)], lookalike)) == POINTED


def test_a_library_inside_a_zip_is_pointed(lookalike: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "library"), "zip", lookalike)
    assert result_of(python(USE, Path(archive))) == POINTED


def test_the_programs_own_processes_are_pointed_however_they_are_started(
    lookalike: Path, tmp_path: Path
) -> None:
    (tmp_path / "workers.py").write_text(
        f"""
import multiprocessing, subprocess, sys, warnings

def use(results):
    import databento as d
    results.put([d.Live().gateway, d.Live().port, d.Historical()._gateway])

if __name__ == "__main__":
    import json
    warnings.simplefilter("ignore")
    found = [json.loads(subprocess.run([sys.executable, "-c", {USE!r}], stdout=subprocess.PIPE).stdout)]
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        results = context.SimpleQueue()
        child = context.Process(target=use, args=(results,))
        child.start()
        found.append(results.get())
        child.join()
    print(json.dumps(found))
"""
    )
    assert result_of(start([sys.executable, str(tmp_path / "workers.py")], lookalike)) == [POINTED] * 4
