"""Every value that crosses a boundary between two rooms. SI units; world frame: origin at the centre of the table top, X away from
the robot, Y to its left, Z up.
"""

from embodichain.types.assets import Asset, Body, Joint, JointKind, Material, Mesh
from embodichain.types.poses import Pose, Quaternion, Vec3, rotate
from embodichain.types.rings import FullPolicy, ReplayMode, RingSpec
from embodichain.types.robots import Arm, Camera, Robot
from embodichain.types.scenes import (
    Contact,
    Dynamics,
    Light,
    ObjectPlacement,
    ObjectRequest,
    Range,
    Scene,
    SceneRequest,
    Segment,
    Step,
    Verdict,
    WorldState,
)
from embodichain.types.trajectories import (
    ACTION_DIM,
    CHUNK,
    CONTROL_HZ,
    INFO_BYTES,
    INSTRUCTION_BYTES,
    Field,
    TrajectoryId,
    TrajectoryInfo,
    TrajectorySpec,
    camera_spec,
    read_text,
    write_text,
)

__all__ = [
    "ACTION_DIM",
    "CHUNK",
    "CONTROL_HZ",
    "INFO_BYTES",
    "INSTRUCTION_BYTES",
    "Arm",
    "Asset",
    "Body",
    "Camera",
    "Contact",
    "Dynamics",
    "Field",
    "FullPolicy",
    "Joint",
    "JointKind",
    "Light",
    "Material",
    "Mesh",
    "ObjectPlacement",
    "ObjectRequest",
    "Pose",
    "Quaternion",
    "Range",
    "ReplayMode",
    "RingSpec",
    "Robot",
    "Scene",
    "SceneRequest",
    "Segment",
    "Step",
    "TrajectoryId",
    "TrajectoryInfo",
    "TrajectorySpec",
    "Vec3",
    "Verdict",
    "WorldState",
    "camera_spec",
    "read_text",
    "rotate",
    "write_text",
]
