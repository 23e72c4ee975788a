"""Public USD validators beside our own checks: OpenUSD's, which usd-core brings, omniverse-asset-validator and simready-validate.

They use global registries, log handlers and plug-ins, so each runs over all files in a process of its own. They find few physical
faults, which our own checks find, but other tools ask for their result.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pxr import Tf, Usd, UsdValidation

from embodichain.assets.usd.usd_contents import Issue
from embodichain.errors import AssetError
from embodichain.processes import ProcessDied, call

PROFILE, PROFILE_VERSION = "Robotics-Prop", "3.2.0"
"""The SimReady profile that every delivered asset satisfies."""
INSTALL = "pip install 'embodichain[validate]'"

Verdicts = dict[str, list[Issue]]
"""Faults by the file's name as given."""


def openusd(files: Sequence[str]) -> Verdicts:
    """The errors that OpenUSD's own validators find, which `usdchecker` also runs; warnings are left out as mere advice."""
    context = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators())
    found: Verdicts = {}
    for file in files:
        try:
            stage = Usd.Stage.Open(file)
        except Tf.ErrorException as error:
            found[file] = [Issue(check="readable", prim="/", message=str(error))]
            continue
        faults = [fault for fault in context.Validate(stage) if fault.GetType() == UsdValidation.ValidationErrorType.Error]
        found[file] = [
            Issue(check=fault.GetValidator().GetMetadata().name, prim=_sites(fault), message=str(fault.GetMessage()))
            for fault in faults
        ]
    return found


def _sites(fault: Any) -> str:
    """Paths of the prims and properties that a fault of OpenUSD's validators refers to, or "/" when it names only the stage."""
    places = [site.GetPrim() if site.IsPrim() else site.GetProperty() for site in fault.GetSites()]
    return ", ".join(str(place.GetPath()) for place in places if place) or "/"


def omniverse(files: Sequence[str]) -> Verdicts:
    """The errors and failures that omniverse-asset-validator's default rules find; warnings are left out as mere advice.

    Raises:
        ImportError: it is not installed.
    """
    logging.disable(logging.WARNING)
    validator = importlib.import_module("omni.asset_validator")
    engine = validator.ValidationEngine()
    found: Verdicts = {}
    for file in files:
        faults = (validator.IssueSeverity.ERROR, validator.IssueSeverity.FAILURE)
        issues = [issue for issue in engine.validate(file).issues() if issue.severity in faults]
        found[file] = [
            Issue(check=issue.rule.__name__ if issue.rule else "engine", prim=_where(issue.at), message=str(issue.message))
            for issue in issues
        ]
    return found


def simready(files: Sequence[str]) -> Verdicts:
    """What simready-validate finds against the profile's mandatory requirements; runtime features of single engines are optional.

    Raises:
        ImportError: it, or the wheel with the profiles, is not installed.
    """
    logging.disable(logging.WARNING)
    validator = importlib.import_module("simready.validate")
    importlib.import_module("simready.foundation.tier_core")
    validator.initialize(rules_and_requirements_paths=[], features_paths=[], profiles_paths=[])
    found: Verdicts = {}
    for file in files:
        request = validator.AssetValidationConfig(asset_path=file, profile_id=PROFILE, profile_version=PROFILE_VERSION)
        result = validator.validate_asset(request)
        if result is None:
            found[file] = [Issue(check="readable", prim="/", message=f"no verdict for profile {PROFILE} {PROFILE_VERSION}")]
            continue
        found[file] = [
            Issue(
                check=str(issue.requirement.code) if issue.requirement else "engine", prim=_where(issue.at), message=issue.message
            )
            for issue in result.issues
        ]
        if not found[file] and not validator.features_summary_passed(result.features_summary):
            failed = [name for name, summary in result.features_summary.items() if validator.is_blocking_failure(summary)]
            found[file] = [Issue(check="profile", prim="/", message=f"features failed: {', '.join(sorted(failed))}")]
    return found


PUBLIC: Mapping[str, tuple[tuple[str, ...], Callable[[Sequence[str]], Verdicts]]] = {
    "openusd": (("usd-core",), openusd),
    "omniverse": (("omniverse-asset-validator",), omniverse),
    "simready": (("simready-validate", "simready-foundation-tier-core"), simready),
}
"""For each column title: the distributions that the validator needs, and the function that runs it."""


def installed() -> tuple[str, ...]:
    """Names of the public validators that can run here."""
    return tuple(name for name, (packages, _) in PUBLIC.items() if all(map(_has, packages)))


def check(name: str, files: Sequence[Path]) -> Verdicts:
    """Runs one public validator on the files, in a process of its own.

    Raises:
        AssetError: it is not installed, or its process died.
    """
    packages, run = PUBLIC[name]
    missing = [package for package in packages if not _has(package)]
    if missing:
        raise AssetError(f"validate: {name} needs {', '.join(missing)}, which is not installed: {INSTALL}")
    try:
        return call(run, [str(file) for file in files])
    except ProcessDied as error:
        raise AssetError(f"validate: the process of {name} died on one of {len(files)} files; check them one by one") from error


def _has(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _where(at: object) -> str:
    """The prim path in a validator's location, or "/" when it names the stage."""
    path = getattr(at, "prim_path", None) or getattr(at, "path", None)
    return str(path) if path else "/"
