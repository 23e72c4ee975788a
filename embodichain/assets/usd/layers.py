"""The layers of a delivered asset: an interface that opens quickly, and a payload of geometry, physics and looks.

Asset pipelines expect this structure of a component: an interface layer that names, labels and bounds it and loads its contents on
demand (Pixar's guidelines for asset structure, and the layout of NVIDIA's converters). Levels of detail are a variant set `lod` of
the interface: each variant selects a payload whose strongest layer replaces the visual meshes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pxr import Sdf

PAYLOAD = "payload"
"""Folder beside an interface that contains its layers."""
LEVELS = "lod"
"""Name of the variant set of levels of detail."""
FULL = "full"
_LAYERS = ("physics", "looks", "geometry")
"""Layers from the strongest to the weakest."""
_SCOPES = {"joints": "physics", "materials": "physics", "looks": "looks"}
"""Children of the root that belong to a single layer with everything below them."""
_PHYSICS = ("physics:", "physx", "newton:", "drive:", "limit:", "state:")
_PHYSICS_SCHEMAS = ("Physics", "Physx", "Newton")
_STAGE = ("metersPerUnit", "kilogramsPerUnit", "upAxis", "defaultPrim")


def write_layers(whole: Sdf.Layer, path: Path, levels: Mapping[str, Sdf.Layer]) -> bool:
    """Splits an asset in one layer into an interface at `path` and the layers of its payload; returns whether all files were
    written.

    Args:
        whole: the asset under its default prim.
        path: the interface's file.
        levels: coarser meshes by level, authored as in `whole`; only their geometry is used.
    """
    folder = path.parent / PAYLOAD
    folder.mkdir(parents=True, exist_ok=True)
    root = Sdf.Path.absoluteRootPath.AppendChild(whole.defaultPrim)
    written = [_part(whole, root, kind).Export(str(folder / f"{kind}.usdc")) for kind in _LAYERS]
    written.append(_contents(whole, [f"./{kind}.usdc" for kind in _LAYERS]).Export(str(folder / "contents.usda")))
    for level, layer in levels.items():
        name = f"{LEVELS}_{level}.usdc"
        written.append(_part(layer, root, "geometry").Export(str(folder / name)))
        stack = [f"./{name}", "./contents.usda"]
        written.append(_contents(whole, stack).Export(str(folder / f"contents_{level}.usda")))
    return all([*written, _interface(whole, root, tuple(levels)).Export(str(path))])


def _interface(whole: Sdf.Layer, root: Sdf.Path, levels: tuple[str, ...]) -> Sdf.Layer:
    """The root prim with its name, labels, bounds and payload."""
    layer = Sdf.Layer.CreateAnonymous(".usda")
    layer.TransferContent(whole)
    prim = layer.GetPrimAtPath(root)
    for name in [child.name for child in prim.nameChildren]:
        del prim.nameChildren[name]
    _schemas(prim, physics=False)
    for name in [entry.name for entry in prim.properties if _kind_of(entry.name) != "geometry"]:
        prim.RemoveProperty(prim.properties[name])
    if not levels:
        prim.payloadList.Prepend(Sdf.Payload(f"./{PAYLOAD}/contents.usda"))
        return layer
    variants = Sdf.VariantSetSpec(prim, LEVELS)
    for level in (FULL, *levels):
        inner = Sdf.VariantSpec(variants, level).primSpec
        inner.payloadList.Prepend(Sdf.Payload(f"./{PAYLOAD}/contents{'' if level == FULL else '_' + level}.usda"))
    prim.variantSetNameList.Prepend(LEVELS)
    prim.variantSelections[LEVELS] = FULL
    return layer


def _contents(whole: Sdf.Layer, stack: list[str]) -> Sdf.Layer:
    layer = Sdf.Layer.CreateAnonymous(".usda")
    for key in _STAGE:
        layer.pseudoRoot.SetInfo(key, whole.pseudoRoot.GetInfo(key))
    layer.subLayerPaths = stack
    return layer


def _part(whole: Sdf.Layer, root: Sdf.Path, kind: str) -> Sdf.Layer:
    """The parts of an asset that belong to one layer: definitions of its own prims, overrides of others."""
    layer = Sdf.Layer.CreateAnonymous(".usda")
    layer.TransferContent(whole)
    layer.customLayerData, layer.documentation = {}, ""
    prim = layer.GetPrimAtPath(root)
    for key in ("kind", "assetInfo", "displayName"):
        prim.ClearInfo(key)
    for entry in list(prim.properties):
        if _kind_of(entry.name) == "geometry":
            prim.RemoveProperty(entry)  # this property belongs to the interface
    for child in list(prim.nameChildren):
        home = _SCOPES.get(child.name)
        if home is None:
            if not _pruned(child, kind):
                del prim.nameChildren[child.name]
        elif home != kind:
            del prim.nameChildren[child.name]
    _own(prim, kind)
    if kind == "geometry":
        prim.ClearInfo("apiSchemas")
    else:
        prim.specifier = Sdf.SpecifierOver
        prim.typeName = ""
    _moved_textures(layer) if kind == "looks" else None
    return layer


def _pruned(prim: Sdf.PrimSpec, kind: str) -> bool:
    """Removes everything that belongs to another layer from a prim and its children; returns whether anything is left."""
    for child in list(prim.nameChildren):
        if not _pruned(child, kind):
            del prim.nameChildren[child.name]
    _own(prim, kind)
    if kind == "geometry":
        return True
    prim.specifier = Sdf.SpecifierOver
    for key in [key for key in prim.ListInfoKeys() if key not in ("specifier", "apiSchemas")]:
        prim.ClearInfo(key)
    return bool(prim.properties or prim.nameChildren or prim.HasInfo("apiSchemas"))


def _own(prim: Sdf.PrimSpec, kind: str) -> None:
    for entry in list(prim.properties):
        if _kind_of(entry.name) != kind:
            prim.RemoveProperty(entry)
    _schemas(prim, physics=kind == "physics", binding=any(e.name.startswith("material:binding") for e in prim.properties))


def _kind_of(name: str) -> str:
    """The layer to which a property belongs, by its name."""
    if name.startswith(_PHYSICS) or name == "material:binding:physics":
        return "physics"
    return "looks" if name.startswith("material:binding") else "geometry"


def _schemas(prim: Sdf.PrimSpec, *, physics: bool, binding: bool = False) -> None:
    """Keeps the applied schemas of a layer: those of physics or all others, and the binding schema if there are bindings."""
    if not prim.HasInfo("apiSchemas"):
        return
    applied = prim.GetInfo("apiSchemas").prependedItems
    kept = [
        name
        for name in applied
        if (binding if name == "MaterialBindingAPI" else name.startswith(_PHYSICS_SCHEMAS) == physics)
        and (physics or not binding or name == "MaterialBindingAPI")
    ]
    if kept:
        prim.SetInfo("apiSchemas", Sdf.TokenListOp.Create(kept))
    else:
        prim.ClearInfo("apiSchemas")


def _moved_textures(layer: Sdf.Layer) -> None:
    """Adjusts texture paths: textures are beside the interface, one folder above the layer that refers to them."""

    def visit(path: Sdf.Path) -> None:
        spec = layer.GetObjectAtPath(path)
        if isinstance(spec, Sdf.AttributeSpec) and isinstance(spec.default, Sdf.AssetPath) and spec.default.path.startswith("./"):
            spec.default = Sdf.AssetPath(f".{spec.default.path}")

    layer.Traverse(Sdf.Path.absoluteRootPath, visit)
