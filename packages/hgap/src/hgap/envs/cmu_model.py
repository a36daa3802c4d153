"""The model of the CMU humanoid as plain MJCF, made from the file that dm-control installs.

dm-control's `CMUHumanoidPositionControlledV2020` is its `humanoid_CMU_V2020.xml` with lengths and sizes times 1.2, a
mass of 70 kg, a nose, and 56 filtered position servos instead of motors, on a floor. The same is done here to the XML,
so that dm-control itself is never imported: its releases do not run on MuJoCo 4.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from paperloop.errors import UserError
from paperloop.files import write_atomically

__all__ = ["END_EFFECTORS", "SERVOS", "model_path", "model_xml"]

SCALE, MASS, FILTER = 1.2, 70.0, 0.030
#: The bodies whose place relative to the root is observed.
END_EFFECTORS = ("rradius", "lradius", "rfoot", "lfoot", "head")
_FEET = ("lfoot", "rfoot")

#: Joint without its side -> stiffness of the servo, which is its largest torque too, and damping of the joint.
SERVOS: dict[str, tuple[float, float]] = {
    "femurrx": (300, 15), "femurry": (200, 10), "femurrz": (200, 10), "tibiarx": (160, 8), "footrx": (120, 6),
    "footrz": (50, 3), "toesrx": (20, 1), "lowerbackrx": (300, 15), "lowerbackry": (180, 20), "lowerbackrz": (200, 20),
    "upperbackrx": (300, 15), "upperbackry": (80, 8), "upperbackrz": (200, 12), "thoraxrx": (300, 15),
    "thoraxry": (80, 8), "thoraxrz": (200, 12), "lowerneckrx": (120, 20), "lowerneckry": (120, 20),
    "lowerneckrz": (120, 20), "upperneckrx": (60, 10), "upperneckry": (60, 10), "upperneckrz": (60, 10),
    "headrx": (40, 2), "headry": (40, 2), "headrz": (40, 2), "claviclery": (80, 20), "claviclerz": (80, 20),
    "humerusrx": (120, 6), "humerusry": (120, 6), "humerusrz": (120, 6), "radiusrx": (90, 5), "wristry": (20, 1),
    "handrx": (20, 1), "handrz": (20, 1), "fingersrx": (20, 1), "thumbrx": (20, 1), "thumbrz": (20, 1),
}  # fmt: skip


def model_path(mujoco: Any) -> Path:
    """Return the model's file, which is made on first use and kept in the user's cache.

    Raises:
        UserError: dm-control is not installed.
    """
    found = importlib.util.find_spec("dm_control")
    places = list(found.submodule_search_locations or ()) if found else []
    source = Path(places[0]) / "locomotion/walkers/assets/humanoid_CMU_V2020.xml" if places else None
    if source is None or not source.exists():
        raise UserError("The CMU humanoid's model comes with dm-control: pip install 'hgap[humanoid]'.")
    original = source.read_text(encoding="utf-8")
    stamp = hashlib.sha256((original + Path(__file__).read_text(encoding="utf-8")).encode()).hexdigest()[:12]
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hgap" / f"cmu_humanoid-{stamp}.xml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, model_xml(original, mujoco).encode())
    return path


def model_xml(original: str, mujoco: Any) -> str:
    """Return the finished model of the text of `humanoid_CMU_V2020.xml`."""
    tree = ET.fromstring(original)
    world = _only(tree, "worldbody")
    root = _only(world, "body")
    _add_nose(root)
    for element in world.iter():
        for name in ("pos", "size"):
            if element is not world and name in element.attrib:
                element.set(name, _numbers(SCALE * float(x) for x in element.attrib[name].split()))
    _set_mass(tree, root, mujoco)
    _replace_motors(tree, root)
    _add_sensors(tree, root)
    tree.insert(0, ET.Element(
        "option", cone="elliptic", noslip_iterations="5", noslip_tolerance="0", timestep="0.005"
    ))  # fmt: skip
    _only(tree, "compiler").attrib.update(boundmass="1e-5", boundinertia="1e-11")
    world.remove(root)
    frame = ET.SubElement(world, "body", name="walker")
    ET.SubElement(frame, "freejoint", name="root")
    frame.append(root)
    # The floor is not of the walker's default class: MuJoCo's own numbers are written out.
    world.insert(0, ET.Element(
        "geom", name="floor", type="plane", size="100 100 0.25", condim="3", friction="1 0.005 0.0001",
        solref="0.02 1", solimp="0.9 0.95 0.001",
    ))  # fmt: skip
    return ET.tostring(tree, encoding="unicode")


def _only(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    if found is None:
        raise UserError(f"The installed dm-control's CMU humanoid has no <{tag}>: install dm-control 1.0.30 or newer.")
    return found


def _numbers(values: Any) -> str:
    return " ".join(repr(float(x)) for x in values)


def _add_nose(root: ET.Element) -> None:
    """A face and a nose without mass or contacts, by which one sees where the head looks."""
    head = next(body for body in root.iter("body") if body.get("name") == "head")
    skull = next(geom for geom in head.iter("geom") if geom.get("name") == "head")
    ET.SubElement(
        head, "geom", name="face", type="capsule", size="0.065 0.014", pos="0.000341465 0.048184 0.01",
        quat="0.717887 0.696142 -0.00493334 0", mass="0", contype="0", conaffinity="0",
    )  # fmt: skip
    forward = float(head.get("pos", "0 0 0").split()[1]) - 0.02
    face = ET.SubElement(head, "body", name="face", pos=_numbers((0.0, 0.039, forward)))
    radius = float(skull.get("size", "0").split()[0]) / 4.75
    ET.SubElement(
        face, "geom", name="nose", type="capsule", size=_numbers((radius, 0.01)), quat="1 0.7 0 0", group="1",
        mass="0", contype="0", conaffinity="0",
    )  # fmt: skip


def _set_mass(tree: ET.Element, root: ET.Element, mujoco: Any) -> None:
    """Change the densities so that the body weighs `MASS`."""
    model = mujoco.MjModel.from_xml_string(ET.tostring(tree, encoding="unicode"))
    factor = MASS / float(model.body_subtreemass[model.body("root").id])
    for geom in root.iter("geom"):
        if "mass" in geom.attrib:
            geom.set("mass", repr(float(geom.attrib["mass"]) * factor))
        else:
            geom.set("density", repr(float(geom.get("density", "1000")) * factor))


def _replace_motors(tree: ET.Element, root: ET.Element) -> None:
    """Servos in the order of their names: a control in [-1, 1] is a place in the joint's range, through a filter."""
    _only(_only(tree, "default"), "general").set("forcelimited", "true")
    actuators = _only(tree, "actuator")
    actuators.clear()
    joints = {joint.attrib["name"]: joint for joint in root.iter("joint")}
    for name in sorted(joints):
        kp, damping = SERVOS[name] if name in SERVOS else SERVOS[name[1:]]
        joints[name].set("damping", repr(float(damping)))
        low, high = (float(x) for x in joints[name].attrib["range"].split())
        slope = (high - low) / 2
        ET.SubElement(
            actuators, "general", name=name, joint=name, biastype="affine", gainprm=_numbers((kp * slope,)),
            biasprm=_numbers((kp * (low + slope), -kp, 0.0)), ctrllimited="true", ctrlrange="-1 1",
            forcerange=_numbers((-kp, kp)), dyntype="filter", dynprm=_numbers((FILTER,)),
        )  # fmt: skip


def _add_sensors(tree: ET.Element, root: ET.Element) -> None:
    """Places of the end effectors in the root's frame, and contacts of everything but the feet with the floor."""
    sensors = _only(tree, "sensor")
    for name in END_EFFECTORS:
        ET.SubElement(
            sensors, "framepos", name=f"place_{name}", objtype="xbody", objname=name, reftype="xbody", refname="root"
        )
    feet = {b.get("name") for body in root.iter("body") if body.get("name") in _FEET for b in body.iter("body")}
    for body in root.iter("body"):
        if body.get("name") not in feet and body.find("geom") is not None:
            name = body.attrib["name"]
            ET.SubElement(sensors, "contact", name=f"down_{name}", geom1="floor", body2=name, data="found", num="1")
