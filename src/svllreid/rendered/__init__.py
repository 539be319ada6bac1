"""Rendered people: a re-identification dataset without downloads, the same for the same seed."""

from svllreid.rendered.attributes import Item, Person, Tint, draw_person
from svllreid.rendered.camera import Camera, make_camera
from svllreid.rendered.description import caption, describe_person
from svllreid.rendered.shot import draw_image
from svllreid.rendered.write import synthesize

__all__ = [
    "Camera",
    "Item",
    "Person",
    "Tint",
    "caption",
    "describe_person",
    "draw_image",
    "draw_person",
    "make_camera",
    "synthesize",
]
