"""Draws a mesh with Blender's Cycles on the CPU. Runs alone, in an environment with Blender's Python module.

    python blender_script.py FOLDER

FOLDER holds the scene, and the pictures `frame_<i>.png` appear in it one by one:

    scene.json  size_px, fov_rad, near, far, samples, threads, seed, transparent, grey_linear (for what has no
                colour), world_linear, light_w, light_distance (in camera distances)
    scene.npz   vertices (V, 3), faces (F, 3), T_obj_cam (N, 4, 4) with OpenCV axes; where there are any, also
                vertex_normals, vertex_rgb, face_rgb, uv, face_texture and texture_0, texture_1 ...
                Lengths in scene units, colours in 8-bit sRGB, the rest as in gnomon's Mesh.

A line `@gnomon {"frame": i}` is printed after each picture. Light and renderer are set as BlenderProc sets them,
so that the pictures look like those that trained networks have seen.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import bpy
import mathutils
import numpy as np

Scene = dict[str, Any]
Arrays = dict[str, np.ndarray]

COLOUR = "colour"
"""Name of the vertex or corner colours that the material reads."""


def main(folder: Path) -> None:
    """Draw every view of the scene in `folder`."""
    scene: Scene = json.loads((folder / "scene.json").read_text())
    with np.load(folder / "scene.npz", allow_pickle=False) as stored:
        arrays: Arrays = {name: stored[name] for name in stored.files}
    bpy.ops.wm.read_factory_settings(use_empty=True)
    set_renderer(scene)
    set_world(scene["world_linear"])
    add_object(scene, arrays)
    camera, light = add_camera(scene), add_light(scene)
    for index, T_obj_cam in enumerate(arrays["T_obj_cam"]):
        place(camera, light, T_obj_cam, scene["light_distance"])
        draw(folder, index)


def set_renderer(scene: Scene) -> None:
    """Cycles on the CPU with BlenderProc's defaults, few bounces and a denoiser, and plain sRGB pictures."""
    target = bpy.context.scene
    target.render.engine = "CYCLES"
    cycles = target.cycles
    cycles.device = "CPU"
    cycles.seed = scene["seed"]
    cycles.samples = scene["samples"]
    cycles.use_adaptive_sampling = True
    cycles.adaptive_threshold = 0.01
    cycles.use_light_tree = False
    cycles.max_bounces = cycles.diffuse_bounces = 3
    cycles.glossy_bounces = cycles.transmission_bounces = cycles.volume_bounces = 0
    cycles.transparent_max_bounces = 8
    cycles.use_denoising = True
    cycles.denoiser = "OPENIMAGEDENOISE"
    cycles.denoising_input_passes = "RGB_ALBEDO_NORMAL"
    # The colour and normal passes of such a scene carry no noise. Cleaning them first, as is the default, takes
    # a third of the time and changes the picture by 2 of 255 at most.
    cycles.denoising_prefilter = "NONE"
    render = target.render
    render.threads_mode = "FIXED"
    render.threads = scene["threads"]
    # The mesh does not change between views, so its acceleration structure is kept.
    render.use_persistent_data = True
    render.resolution_x = render.resolution_y = scene["size_px"]
    render.resolution_percentage = 100
    render.film_transparent = scene["transparent"]
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGBA" if scene["transparent"] else "RGB"
    render.image_settings.color_depth = "8"
    render.dither_intensity = 0.0
    target.view_settings.view_transform = "Standard"
    target.view_settings.look = "None"


def set_world(grey_linear: float) -> None:
    """A uniform grey around the scene, which also lights it a little."""
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (grey_linear,) * 3 + (1.0,)
    bpy.context.scene.world = world


def add_camera(scene: Scene) -> Any:
    """The scene's camera, with a field of view given by its full angle."""
    camera = bpy.data.cameras.new("camera")
    camera.lens_unit = "FOV"
    camera.angle = scene["fov_rad"]
    camera.clip_start, camera.clip_end = scene["near"], scene["far"]
    bpy.context.scene.camera = link("camera", camera)
    return bpy.context.scene.camera


def add_light(scene: Scene) -> Any:
    """A point light without size."""
    light = bpy.data.lights.new("light", "POINT")
    light.energy = scene["light_w"]
    light.shadow_soft_size = 0.0
    return link("light", light)


def link(name: str, data: Any) -> Any:
    """A new object of the scene that shows `data`."""
    entry = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(entry)
    return entry


def place(camera: Any, light: Any, T_obj_cam: np.ndarray, light_distance: float) -> None:
    """Put the camera at its pose, and the light behind it on the line through the object's origin."""
    T_obj_gl = T_obj_cam @ np.diag([1.0, -1.0, -1.0, 1.0])
    camera.matrix_world = mathutils.Matrix(T_obj_gl.tolist())
    light.location = (light_distance * T_obj_cam[:3, 3]).tolist()


def draw(folder: Path, index: int) -> None:
    """Write one picture under a temporary name, rename it, and say so."""
    part, final = folder / f"part_{index}.png", folder / f"frame_{index}.png"
    bpy.context.scene.render.filepath = str(part)
    bpy.ops.render.render(write_still=True)
    part.replace(final)
    # Blender writes to the same descriptor behind Python's back: begin a line of our own, in one write.
    os.write(1, f"\n@gnomon {json.dumps({'frame': index})}\n".encode())


def add_object(scene: Scene, arrays: Arrays) -> None:
    """The mesh with its colours, one material for each texture and a last one for the rest."""
    mesh = bpy.data.meshes.new("object")
    vertices, faces = arrays["vertices"], arrays["faces"]
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", flat(vertices, np.float32))
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", flat(faces, np.int32))
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    textures = [name for name in arrays if name.startswith("texture_")]
    add_colours(mesh, arrays)
    if textures:
        add_uv(mesh, arrays)
        plain = arrays["face_texture"] < 0
        slots = np.where(plain, len(textures), arrays["face_texture"])
        mesh.polygons.foreach_set("material_index", flat(slots, np.int32))
    for number in range(len(textures)):
        mesh.materials.append(textured(arrays[f"texture_{number}"]))
    mesh.materials.append(coloured(scene["grey_linear"], has_colours=COLOUR in mesh.attributes))
    mesh.update(calc_edges=True)
    add_shading(mesh, arrays)
    mesh.validate(clean_customdata=False)
    link("object", mesh)


def add_shading(mesh: Any, arrays: Arrays) -> None:
    """Smooth shading by the file's normals, else flat faces."""
    if "vertex_normals" not in arrays:
        mesh.shade_flat()
        return
    normals = mesh.attributes.new("custom_normal", "FLOAT_VECTOR", "POINT")
    normals.data.foreach_set("vector", flat(arrays["vertex_normals"], np.float32))


def add_colours(mesh: Any, arrays: Arrays) -> None:
    """Colours on vertices, or on the three corners of each face; 8-bit sRGB."""
    if "vertex_rgb" in arrays:
        domain, rgb = "POINT", arrays["vertex_rgb"]
    elif "face_rgb" in arrays:
        domain, rgb = "CORNER", np.repeat(arrays["face_rgb"], 3, axis=0)
    else:
        return
    rgba = np.ones((len(rgb), 4), np.float32)
    rgba[:, :3] = rgb / np.float32(255)
    colours = mesh.color_attributes.new(COLOUR, "BYTE_COLOR", domain)
    colours.data.foreach_set("color_srgb", rgba.ravel())


def add_uv(mesh: Any, arrays: Arrays) -> None:
    """Texture coordinates, which Blender keeps on the corners of the faces."""
    corners = arrays["uv"][arrays["faces"].ravel()]
    mesh.uv_layers.new(name="uv").uv.foreach_set("vector", flat(corners, np.float32))


def coloured(grey_linear: float, *, has_colours: bool) -> Any:
    """A material that shows the mesh's own colours, or a grey where it has none."""
    material, shader = new_material()
    shader.inputs["Base Color"].default_value = (grey_linear,) * 3 + (1.0,)
    if has_colours:
        source = material.node_tree.nodes.new("ShaderNodeVertexColor")
        source.layer_name = COLOUR
        material.node_tree.links.new(source.outputs["Color"], shader.inputs["Base Color"])
    return material


def textured(rgb: np.ndarray) -> Any:
    """A material that shows a picture; rows come top first, and Blender keeps them bottom first."""
    height, width = rgb.shape[:2]
    rgba = np.ones((height, width, 4), np.float32)
    rgba[..., :3] = rgb[::-1, :, :3] / np.float32(255)
    picture = bpy.data.images.new("texture", width, height)
    picture.pixels.foreach_set(rgba.ravel())
    picture.update()
    picture.pack()
    material, shader = new_material()
    source = material.node_tree.nodes.new("ShaderNodeTexImage")
    source.image = picture
    material.node_tree.links.new(source.outputs["Color"], shader.inputs["Base Color"])
    return material


def new_material() -> tuple[Any, Any]:
    """A material with Blender's standard shader, and that shader's node."""
    material = bpy.data.materials.new("material")
    material.use_nodes = True
    return material, material.node_tree.nodes["Principled BSDF"]


def flat(values: np.ndarray, kind: type) -> np.ndarray:
    """The values in one row of the type that Blender copies without conversion."""
    return np.ascontiguousarray(values, dtype=kind).ravel()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
