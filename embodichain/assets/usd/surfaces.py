"""Surfaces of assets in USD: meshes, analytic colliders, and looks with their textures, written and read back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics, UsdShade, Vt

from embodichain.assets.families.parts import Finish, Image, Look
from embodichain.assets.families.tables import wikidata_codes
from embodichain.assets.geometry.shapes import drawn
from embodichain.assets.usd.values import bind, extent, label, pose_of, set_pose
from embodichain.errors import AssetError
from embodichain.types import Body, Mesh, Pose, Shape, ShapeKind

_KINDS = {
    UsdGeom.Cube: ShapeKind.BOX,
    UsdGeom.Sphere: ShapeKind.SPHERE,
    UsdGeom.Cylinder: ShapeKind.CYLINDER,
    UsdGeom.Capsule: ShapeKind.CAPSULE,
}
TEXTURES = "textures"
"""Folder beside a USD file that contains its textures."""


# ---------------------------------------------------------------------------------------------------------------- shapes


def set_mesh(geometry: UsdGeom.Mesh, mesh: Mesh) -> None:
    """Writes triangles and flat normals into a mesh prim."""
    _set_faces(geometry, mesh)
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    geometry.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(normals, np.float32)))
    geometry.SetNormalsInterpolation(UsdGeom.Tokens.uniform)


def _set_faces(geometry: UsdGeom.Mesh, mesh: Mesh) -> None:
    geometry.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.vertices, np.float32)))
    geometry.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    geometry.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(mesh.faces, np.int32).ravel()))
    geometry.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    geometry.CreateOrientationAttr(UsdGeom.Tokens.rightHanded)
    geometry.CreateExtentAttr(extent(np.stack([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)])))


def write_collider(stage: Usd.Stage, path: Sdf.Path, hull: Mesh, material: UsdShade.Material) -> None:
    """Writes one convex collider: a mesh, or an analytic shape."""
    if hull.shape is None:
        mesh = UsdGeom.Mesh.Define(stage, path)
        set_mesh(mesh, hull)
        geometry: UsdGeom.Gprim = mesh
        UsdPhysics.MeshCollisionAPI.Apply(mesh.GetPrim()).CreateApproximationAttr(UsdPhysics.Tokens.convexHull)
    else:
        geometry = _analytic(stage, path, hull.shape)
    geometry.CreatePurposeAttr(UsdGeom.Tokens.guide)
    UsdPhysics.CollisionAPI.Apply(geometry.GetPrim()).CreateCollisionEnabledAttr(True)
    bind(geometry.GetPrim(), material, "physics")


def _analytic(stage: Usd.Stage, path: Sdf.Path, shape: Shape) -> UsdGeom.Gprim:
    a, b, c = shape.size
    if shape.kind is ShapeKind.BOX:
        geometry = UsdGeom.Cube.Define(stage, path)
        geometry.CreateSizeAttr(1.0)
        set_pose(geometry, shape.pose)
        geometry.AddScaleOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Vec3d(a, b, c))
        half = np.full(3, 0.5)
    elif shape.kind is ShapeKind.SPHERE:
        geometry = UsdGeom.Sphere.Define(stage, path)
        geometry.CreateRadiusAttr(a)
        set_pose(geometry, shape.pose)
        half = np.full(3, a)
    else:
        geometry = (UsdGeom.Cylinder if shape.kind is ShapeKind.CYLINDER else UsdGeom.Capsule).Define(stage, path)
        geometry.CreateRadiusAttr(a)
        geometry.CreateHeightAttr(b)
        geometry.CreateAxisAttr(UsdGeom.Tokens.z)
        set_pose(geometry, shape.pose)
        half = np.array([a, a, b / 2 + (a if shape.kind is ShapeKind.CAPSULE else 0.0)])
    geometry.CreateExtentAttr(extent(np.stack([-half, half])))
    return geometry


def read_collider(prim: Usd.Prim, body: Usd.Prim) -> Mesh | None:
    """The collider that a prim represents, in its body's frame; None if assets do not have this kind."""
    if prim.IsA(UsdGeom.Mesh):
        return read_mesh(UsdGeom.Mesh(prim), body)
    kind = next((kind for schema, kind in _KINDS.items() if prim.IsA(schema)), None)
    if kind is None:
        return None
    matrix = UsdGeom.XformCache().ComputeRelativeTransform(prim, body)[0]
    x, y, z = (float(np.linalg.norm(row)) for row in np.array(matrix)[:3, :3])
    pose: Pose = pose_of(matrix.RemoveScaleShear())
    if kind is ShapeKind.BOX:
        edge = float(UsdGeom.Cube(prim).GetSizeAttr().Get())
        return drawn(Shape(kind=kind, size=(edge * x, edge * y, edge * z), pose=pose))
    if kind is ShapeKind.SPHERE:
        return drawn(Shape(kind=kind, size=(float(UsdGeom.Sphere(prim).GetRadiusAttr().Get()) * x, 0.0, 0.0), pose=pose))
    rod = UsdGeom.Cylinder(prim) if kind is ShapeKind.CYLINDER else UsdGeom.Capsule(prim)
    if str(rod.GetAxisAttr().Get()) != "Z":
        raise AssetError(f"usd: {prim.GetPath()} lies along {rod.GetAxisAttr().Get()}; write its axis as Z, and turn it")
    size = (float(rod.GetRadiusAttr().Get()) * x, float(rod.GetHeightAttr().Get()) * z, 0.0)
    return drawn(Shape(kind=kind, size=size, pose=pose))


def read_mesh(mesh: UsdGeom.Mesh, body: Usd.Prim) -> Mesh:
    """The triangles of a mesh prim in its body's frame."""
    counts = np.asarray(mesh.GetFaceVertexCountsAttr().Get())
    if not np.all(counts == 3):
        raise AssetError(f"usd: mesh {mesh.GetPath()} has polygons; triangulate it")
    points = np.asarray(mesh.GetPointsAttr().Get(), np.float64)
    matrix, resets = UsdGeom.XformCache().ComputeRelativeTransform(mesh.GetPrim(), body)
    matrix = np.array(matrix)
    if resets or not np.array_equal(matrix, np.eye(4)):
        points = points @ matrix[:3, :3] + matrix[3, :3]
    return Mesh(vertices=points, faces=np.asarray(mesh.GetFaceVertexIndicesAttr().Get(), np.int32).reshape(-1, 3))


# ----------------------------------------------------------------------------------------------------------------- looks


def write_look(
    stage: Usd.Stage, root: Usd.Prim, path: Sdf.Path, body: Body, look: Look | None, used: NDArray[np.int32] | None = None
) -> None:
    """Writes the look of a body: a single colour, or that of its file with a material for each subset.

    `used` are the indices of the finishes that get a subset, by default those that faces use.
    """
    visual = UsdGeom.Mesh.Define(stage, path)
    if look is None:
        set_mesh(visual, body.visual)
    else:
        _set_faces(visual, body.visual)
        _set_primvars(visual, look)
    if look is None or look.colors is None:
        visual.CreateDisplayColorPrimvar(UsdGeom.Tokens.constant).Set(Vt.Vec3fArray([Gf.Vec3f(*body.color[:3])]))
        visual.CreateDisplayOpacityPrimvar(UsdGeom.Tokens.constant).Set(Vt.FloatArray([body.color[3]]))
    if look is None:
        bind(visual.GetPrim(), _plain(stage, root, body), UsdShade.Tokens.allPurpose)
        return
    used = np.unique(look.finish) if used is None else used
    for number in used:
        finish = look.finishes[number]
        told = finish.name or (str(number) if len(used) > 1 else "")
        name = _identifier(f"{body.name}_{told}" if told else body.name)
        material = _surface(stage, root, name, finish, body, colored=look.colors is not None)
        if len(used) == 1:
            bind(visual.GetPrim(), material, UsdShade.Tokens.allPurpose)
            continue
        faces = Vt.IntArray.FromNumpy(np.flatnonzero(look.finish == number).astype(np.int32))
        subset = UsdGeom.Subset.CreateGeomSubset(
            visual, _identifier(finish.name or f"finish_{number}"), UsdGeom.Tokens.face, faces, UsdShade.Tokens.materialBind
        )
        bind(subset.GetPrim(), material, UsdShade.Tokens.allPurpose)
    if len(used) > 1:
        UsdShade.MaterialBindingAPI.Apply(visual.GetPrim()).SetMaterialBindSubsetsFamilyType(UsdGeom.Tokens.partition)


def textures(looks: Mapping[str, Look]) -> dict[str, bytes]:
    """The image files of some looks by name."""
    images = [image for look in looks.values() for finish in look.finishes for image in finish.images.values()]
    return {file_name(image): image.data for image in images}


def file_name(image: Image) -> str:
    """The file name of an image, different from that of any other image."""
    ending = "jpg" if image.data[:2] == b"\xff\xd8" else "png"
    return f"{_identifier(image.name)[:40]}_{hashlib.sha256(image.data).hexdigest()[:8]}.{ending}"


def _set_primvars(visual: UsdGeom.Mesh, look: Look) -> None:
    primvars = UsdGeom.PrimvarsAPI(visual)
    if look.uv is not None:
        uv = Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(look.uv, np.float32))
        primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex).Set(uv)
    if look.normals is not None:
        visual.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(look.normals, np.float32)))
        visual.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    else:
        corners = look.mesh.vertices[look.mesh.faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
        visual.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(normals, np.float32)))
        visual.SetNormalsInterpolation(UsdGeom.Tokens.uniform)
    if look.colors is not None:
        rgb = Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(look.colors[:, :3], np.float32))
        visual.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex).Set(rgb)


def _plain(stage: Usd.Stage, root: Usd.Prim, body: Body) -> UsdShade.Material:
    scope = root.GetPath().AppendChild("looks")
    UsdGeom.Scope.Define(stage, scope)
    shade = UsdShade.Material.Define(stage, scope.AppendChild(body.name))
    surface = UsdShade.Shader.Define(stage, shade.GetPath().AppendChild("surface"))
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(Gf.Vec3f(*body.color[:3]))
    surface.CreateInput("opacity", Sdf.ValueTypeNames.Float).Set(body.color[3])
    surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(0.5)
    shade.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    label(shade.GetPrim(), "material", wikidata_codes(), body.material.name)
    return shade


def _surface(stage: Usd.Stage, root: Usd.Prim, name: str, finish: Finish, body: Body, *, colored: bool) -> UsdShade.Material:
    """Writes a preview surface with the textures of a finish, as the specification of UsdPreviewSurface requires."""
    scope = root.GetPath().AppendChild("looks")
    UsdGeom.Scope.Define(stage, scope)
    shade = UsdShade.Material.Define(stage, scope.AppendChild(name))
    surface = UsdShade.Shader.Define(stage, shade.GetPath().AppendChild("surface"))
    surface.CreateIdAttr("UsdPreviewSurface")
    types = Sdf.ValueTypeNames
    diffuse = surface.CreateInput("diffuseColor", types.Color3f)
    diffuse.Set(Gf.Vec3f(*finish.color[:3]))
    surface.CreateInput("opacity", types.Float).Set(finish.color[3])
    roughness, metallic = surface.CreateInput("roughness", types.Float), surface.CreateInput("metallic", types.Float)
    roughness.Set(finish.roughness)
    metallic.Set(finish.metallic)
    glow = surface.CreateInput("emissiveColor", types.Color3f)
    glow.Set(Gf.Vec3f(*finish.emissive))
    if colored and "diffuse" not in finish.images:
        reader = UsdShade.Shader.Define(stage, shade.GetPath().AppendChild("color"))
        reader.CreateIdAttr("UsdPrimvarReader_float3")
        reader.CreateInput("varname", types.String).Set("displayColor")
        diffuse.ConnectToSource(reader.CreateOutput("result", types.Float3))
    if finish.images:
        reader = UsdShade.Shader.Define(stage, shade.GetPath().AppendChild("st"))
        reader.CreateIdAttr("UsdPrimvarReader_float2")
        reader.CreateInput("varname", types.String).Set("st")
        st = reader.CreateOutput("result", types.Float2)
        for role, image in finish.images.items():
            texture = UsdShade.Shader.Define(stage, shade.GetPath().AppendChild(role))
            texture.CreateIdAttr("UsdUVTexture")
            texture.CreateInput("file", types.Asset).Set(Sdf.AssetPath(f"./{TEXTURES}/{file_name(image)}"))
            texture.CreateInput("st", types.Float2).ConnectToSource(st)
            texture.CreateInput("wrapS", types.Token).Set("repeat")
            texture.CreateInput("wrapT", types.Token).Set("repeat")
            texture.CreateInput("sourceColorSpace", types.Token).Set("sRGB" if role in ("diffuse", "emissive") else "raw")
            if role == "diffuse":
                texture.CreateInput("scale", types.Float4).Set(Gf.Vec4f(*finish.color[:3], 1.0))
                diffuse.ConnectToSource(texture.CreateOutput("rgb", types.Float3))
            elif role == "emissive":
                glow.ConnectToSource(texture.CreateOutput("rgb", types.Float3))
            elif role == "normal":
                texture.CreateInput("scale", types.Float4).Set(Gf.Vec4f(2.0, 2.0, 2.0, 1.0))
                texture.CreateInput("bias", types.Float4).Set(Gf.Vec4f(-1.0, -1.0, -1.0, 0.0))
                surface.CreateInput("normal", types.Normal3f).ConnectToSource(texture.CreateOutput("rgb", types.Float3))
            else:
                roughness.ConnectToSource(texture.CreateOutput("g", types.Float))
                metallic.ConnectToSource(texture.CreateOutput("b", types.Float))
    shade.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    label(shade.GetPrim(), "material", wikidata_codes(), body.material.name)
    return shade


def write_textures(folder: Path, looks: Mapping[str, Look]) -> None:
    """Writes the images of some looks into the folder for textures, if there are any."""
    for name, data in textures(looks).items():
        target = folder / TEXTURES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _identifier(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return plain if plain and not plain[0].isdigit() else f"m_{plain}"
