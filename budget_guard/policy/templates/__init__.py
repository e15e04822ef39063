"""Starting policies, as package data: each is an example in `policies/` of the source too."""

from __future__ import annotations

from importlib.resources import files

_SUFFIX = ".yaml"


def template_names() -> tuple[str, ...]:
    """The names that `template_text` takes."""
    names = (entry.name for entry in files(__name__).iterdir() if entry.name.endswith(_SUFFIX))
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names))


def template_text(name: str) -> str:
    """A template's YAML, comments included. Raises FileNotFoundError for an unknown name."""
    return files(__name__).joinpath(name + _SUFFIX).read_text(encoding="utf-8")


def template_summary(name: str) -> str:
    """What a template is, in one line: the first of its comment."""
    return template_text(name).splitlines()[0].removeprefix("#").strip()
