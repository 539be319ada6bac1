"""Synthetic people for re-identification: a dataset made on the spot, without downloads, the same for the same seed."""

from svllreid.data.synthetic.attributes import Item, Person, Tint, draw_person
from svllreid.data.synthetic.camera import Camera, make_camera
from svllreid.data.synthetic.description import caption, describe
from svllreid.data.synthetic.shot import draw_image
from svllreid.data.synthetic.write import synthesize

__all__ = [
    "Camera",
    "Item",
    "Person",
    "Tint",
    "caption",
    "describe",
    "draw_image",
    "draw_person",
    "make_camera",
    "synthesize",
]
