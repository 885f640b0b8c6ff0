"""An operator's own code, loaded as `kopf run` loads it, and not run."""

import contextlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NoReturn

import kopf

from .._configure import configured_in
from .._errors import ConfigurationError
from .._finalizers import Finalizers
from .errors import CommandError


def finalizers_of(paths: tuple[str, ...], modules: tuple[str, ...], *, verbose: bool) -> Finalizers:
    """The `Finalizers` that the operator in these files and modules configures."""
    with _registry_of_its_own():
        # What a module prints while it is imported is not part of the document.
        with contextlib.redirect_stdout(sys.stderr):
            load(paths, modules, verbose=verbose)
        finalizers = configured_in(kopf.get_default_registry())
    if finalizers is None:
        raise CommandError(
            f"{', '.join(paths + modules)}: kopf_finalizers.configure() is never called, so this"
            " operator has no finalizers of its own that could be documented. One that makes its"
            " Finalizers itself can print what their inventory() returns."
        )
    return finalizers


def operator_in(
    paths: tuple[str, ...], modules: tuple[str, ...], *, verbose: bool
) -> tuple[kopf.OperatorRegistry, list[ModuleType]]:
    """The handlers of the operator in these files and modules, and all modules that are its own.

    Its own are those that are named, with what is in the same packages, and those that they import
    from anywhere but where packages are installed.
    """
    before = set(sys.modules)
    with _registry_of_its_own() as registry, contextlib.redirect_stdout(sys.stderr):
        load(paths, modules, verbose=verbose)
    named = {_name_of(path, index) for index, path in enumerate(paths)}
    named |= {name.partition(".")[0] for name in modules}
    found = [
        module
        for name, module in sys.modules.items()
        if getattr(module, "__file__", None)
        and (name.partition(".")[0] in named or name in named or _is_new(name, module, before))
    ]
    return registry, found


_LIBRARY = Path(__file__).resolve().parents[1]


def _is_new(name: str, module: ModuleType, before: Collection[str]) -> bool:
    """Whether the operator has brought it along, and it is not installed for everybody."""
    file = Path(module.__file__ or "").resolve()
    paths = sysconfig.get_paths()
    installed = [paths[one] for one in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = [_LIBRARY, *(Path(one).resolve() for one in installed)]
    return name not in before and not any(file.is_relative_to(one) for one in folders)


@contextlib.contextmanager
def _registry_of_its_own() -> Iterator[kopf.OperatorRegistry]:
    """A fresh default registry, and `sys.path` put back: nothing of the operator is left behind."""
    registry, path = kopf.get_default_registry(), sys.path[:]
    kopf.set_default_registry(its := kopf.OperatorRegistry())
    try:
        yield its
    finally:
        kopf.set_default_registry(registry)
        sys.path[:] = path


def load(paths: Iterable[str], modules: Iterable[str], *, verbose: bool) -> None:
    """As `kopf run` does it (1.44 to 1.45), which has no public name: a test compares the two."""
    for index, path in enumerate(paths):
        if not Path(path).is_file():
            raise CommandError(f"{path} does not exist, or is no file.")
        with _one_line(path, verbose=verbose):
            _load_file(path, index)
    for module in modules:
        with _one_line(module, verbose=verbose):
            importlib.import_module(module)


def _name_of(path: str, index: int) -> str:
    return f"__kopf_script_{index}__{path}"


def _load_file(path: str, index: int) -> None:
    sys.path.insert(0, str(Path(path).parent.absolute()))
    module_name = _name_of(path, index)
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)


@contextlib.contextmanager
def _one_line(source: str, *, verbose: bool) -> Iterator[None]:
    """What goes wrong in the operator's own code, as one clear line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if verbose:
            traceback.print_exception(error.with_traceback(_own_frames(error)))
        _refuse(source, error, verbose=verbose)


def _own_frames(error: BaseException) -> TracebackType | None:
    """The traceback from where the operator's own code begins, not from how it was loaded."""
    frames = error.__traceback__
    while frames is not None and _loads(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _loads(file: str) -> bool:
    return file in (__file__, importlib.__file__) or file.startswith("<frozen importlib")


def _refuse(source: str, error: BaseException, *, verbose: bool) -> NoReturn:
    what = " ".join(str(error).split())
    if not isinstance(error, ConfigurationError):
        what = f"{type(error).__name__}: {what}" if what else type(error).__name__
    hint = "" if verbose else " (the traceback: --verbose)"
    raise CommandError(f"{source} cannot be loaded: {what}{hint}") from None
