"""What a stage holds beside the state that it shows: other variants, motions, layers in other units, switches that are off."""

from __future__ import annotations

from collections.abc import Iterator

from pxr import Usd, UsdGeom, UsdSkel

_UNITS = ("metersPerUnit", "kilogramsPerUnit", "upAxis")


def other_states(stage: Usd.Stage) -> Iterator[tuple[str, str, str, str]]:
    """What an asset does not keep of them, as (prim, what, stated, reason)."""
    for prim in Usd.PrimRange(stage.GetPseudoRoot()):
        if prim.IsPseudoRoot():
            continue
        path = str(prim.GetPath())
        sets = prim.GetVariantSets()
        for name in sets.GetNames():
            chosen = sets.GetVariantSelection(name)
            others = [variant for variant in sets.GetVariantSet(name).GetVariantNames() if variant != chosen]
            if others:
                reason = f"it is built as the file has it: {chosen or 'none is chosen'}"
                yield path, f"variants of {name}", ", ".join(others)[:120], reason
        moving = [attribute.GetName() for attribute in prim.GetAuthoredAttributes() if attribute.ValueMightBeTimeVarying()]
        if moving:
            yield (
                path,
                "animation",
                ", ".join(moving)[:120],
                "an asset moves by its joints: it is as it is without a time",
            )
        if prim.IsA(UsdSkel.Root):
            yield path, "skeleton", "authored", "an asset is rigid: it is as its file has it at rest"
        switch = prim.GetAttribute("newton:mimicEnabled")
        if switch and switch.Get() is False:
            yield path, "newton:mimicEnabled", "false", "it follows nothing"
        left = prim.GetAttribute("physics:excludeFromArticulation")
        if left and left.Get():
            yield path, "physics:excludeFromArticulation", "true", "all joints of an asset are of one tree"
    yield from _layers(stage)


def _layers(stage: Usd.Stage) -> Iterator[tuple[str, str, str, str]]:
    """Layers whose numbers are in other units than the stage's: USD composes them as they are."""
    root = stage.GetRootLayer().pseudoRoot
    for layer in stage.GetUsedLayers():
        for name in _UNITS:
            if not layer.pseudoRoot.HasInfo(name) or layer in (stage.GetRootLayer(), stage.GetSessionLayer()):
                continue
            usual = {"metersPerUnit": 0.01, "kilogramsPerUnit": 1.0, "upAxis": str(UsdGeom.GetFallbackUpAxis())}[name]
            own, whole = layer.pseudoRoot.GetInfo(name), root.GetInfo(name) if root.HasInfo(name) else usual
            if own != whole:
                yield (
                    layer.GetDisplayName(),
                    name,
                    str(own),
                    f"the stage has {whole}, and USD takes numbers as they are",
                )
