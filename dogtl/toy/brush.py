"""Draw a dog, real or imaginary, from a few numbers.

A dog is a set of chains of balls in space (trunk, legs, neck, muzzle, ears, tail).
Balls stay round from wherever one looks, so one drawing gives side views, front views
and everything between. Lengths are in chest depths; x points to where the dog looks,
y up, z to the viewer. What is far away is painted first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from dogtl.toy.scenery import SCENES, behind, finish, in_front

Colour = tuple[float, float, float]
PINK, BLACK, WHITE = (226.0, 128.0, 138.0), (34.0, 29.0, 30.0), (250.0, 250.0, 246.0)
PALE = (196.0, 190.0, 200.0)  # what lightens a black coat


def span(low: float, high: float, usual):
    """A number (or three) of a dog: its range, and what it is unless a breed says."""
    return field(default=usual, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class Dog:
    """The build and the coat of a dog; every mixture within the ranges is drawable."""

    leg: float = span(0.3, 1.7, 1.0)  # length below the trunk, in chest depths
    length: float = span(1.0, 3.0, 1.7)  # from hip to shoulder
    tuck: float = span(0, 1, 0.3)  # how far the belly is drawn up
    bone: float = span(0.08, 0.2, 0.13)  # radius of the legs
    neck: float = span(0.1, 0.9, 0.4)
    head: float = span(0.28, 0.6, 0.4)  # radius of the skull
    muzzle: float = span(0.1, 2.2, 0.9)  # length, in radii of the skull, as all below
    snout: float = span(0.25, 0.75, 0.5)  # thickness of the muzzle
    stop: float = span(0, 1, 0.5)  # step from the forehead down to the muzzle
    jowl: float = span(0, 1, 0.0)  # hanging lips
    ear: float = span(0.4, 2.2, 1.0)  # length
    ear_width: float = span(0.2, 0.6, 0.4)
    ear_droop: float = span(0, 1, 0.5)  # 0 upright, 1 hanging
    ear_round: float = span(0, 1, 0.5)  # 0 pointed, 1 round
    tail: float = span(0.05, 2.0, 1.0)
    tail_set: float = span(0, 1, 0.4)  # 0 hanging, 1 upright
    tail_curl: float = span(0, 1, 0.0)  # 0 straight, 1 a ring
    plume: float = span(0, 1, 0.0)  # how bushy the tail is
    hair: float = span(0, 1, 0.0)  # 0 smooth, 1 down to the ground
    curls: float = span(0, 1, 0.0)  # 0 straight hair, 1 curly
    pompon: float = span(0, 1, 0.0)  # balls of hair on feet, tail, head and chest
    blue_eyes: float = span(0, 1, 0.0)
    saddle: float = span(0, 1, 0.0)  # extent of the dark back
    mask: float = span(0, 1, 0.0)  # how dark the muzzle and the ears are
    face: float = span(0, 1, 0.0)  # extent of light cheeks, muzzle and blaze
    bib: float = span(0, 1, 0.0)  # extent of the light chest and belly
    socks: float = span(0, 1, 0.0)  # how far up the legs are light
    spots: float = span(0, 1, 0.0)  # number of dark spots
    coat: Colour = span(0, 255, (190, 140, 90))
    dark: Colour = span(0, 255, (62, 57, 60))
    light: Colour = span(0, 255, (246, 242, 234))


NAMES = [f.name for f in fields(Dog)]
COUNT = np.array([np.size(f.default) for f in fields(Dog)])
LOW, HIGH = (
    np.repeat([float(f.metadata[end]) for f in fields(Dog)], COUNT)
    for end in ("low", "high")
)


def as_vector(dog: Dog) -> np.ndarray:
    """All numbers of a dog, each scaled from its range to 0..1; shape (37,)."""
    values = np.concatenate([np.atleast_1d(getattr(dog, name)) for name in NAMES])
    return (values - LOW) / (HIGH - LOW)


def from_vector(vector: np.ndarray) -> Dog:
    """The dog of a vector as `as_vector` gives it; values are clipped to 0..1."""
    values = np.split(LOW + np.clip(vector, 0, 1) * (HIGH - LOW), np.cumsum(COUNT)[:-1])
    numbers = [v.tolist() if len(v) == 1 else [tuple(v.tolist())] for v in values]
    return Dog(*(number for (number,) in numbers))


def vary(dog: Dog, rng: np.random.Generator, amount: float = 0.03) -> Dog:
    """A sibling of a dog: its numbers jittered by `amount` of their ranges.

    What a dog lacks (a number at an end of its range) it goes on lacking.
    """
    vector, noise = as_vector(dog), rng.normal(0, amount, len(LOW))
    noise[-9:] = noise[-9:] / 4 + np.repeat(rng.normal(0, amount, 3), 3)
    return from_vector(vector + noise * ((vector > 0) & (vector < 1)))


def sample_dog(rng: np.random.Generator) -> Dog:
    """A dog of an imaginary species: any build with any coat."""
    vector, first = rng.random(len(LOW)), NAMES.index("hair")
    vector[first:-9] *= rng.random(len(LOW) - 9 - first) < 0.4  # few markings each
    value = rng.random(3) * (1, 0.4, 0.4) + (0, 0, 0.6)  # coat, dark, light
    warmth = rng.uniform(0, 0.6, 3) * (1 - value**2)  # fur is brown, grey or cream
    hue = rng.uniform(0.25, 0.65, (3, 1))
    fade = warmth[:, None] * np.concatenate([0 * hue, hue, 0 * hue + 1], 1)
    vector[-9:] = (value[:, None] * (1 - fade)).ravel()
    return from_vector(vector)


class Pose(NamedTuple):
    """How a dog stands; angles in radians, `stride` in -1..1."""

    turn: float  # of the body to the viewer
    look: float  # of the head to the viewer
    nod: float
    neck: float  # 0 level, higher is up
    wag: float
    stride: float
    sits: bool
    tongue: bool
    collar: Colour | None


def sample_pose(rng: np.random.Generator) -> Pose:
    """Mostly a side view; the head now and then lowered or turned to the viewer."""
    turn = rng.normal(0, 0.22) if rng.random() < 0.8 else rng.uniform(0.5, 0.9)
    look = max(turn, rng.choice([0.3, 0.6, 1.15], p=[0.5, 0.3, 0.2]))
    look, nod = np.clip(look + rng.normal(0, 0.12), 0, 1.35), rng.normal(-0.05, 0.12)
    neck = max(0.7, rng.normal(0.95, 0.15) - 0.25 * (rng.random() > 0.85))
    stride, wag = rng.uniform(-1, 1) * (rng.random() < 0.6), rng.normal(0, 0.15)
    sits, tongue, collared = rng.random(3) < (0.2, 0.35, 0.25)
    collar = tuple(rng.uniform(40, 230, 3).tolist()) if collared else None
    return Pose(turn, look, nod, neck, wag, stride, sits, tongue, collar)


class Chain(NamedTuple):
    """Balls in a row: (n, 7) of x, y, z, radius, red, green, blue; and their hair."""

    balls: np.ndarray
    hair: float = 0.0
    spotted: bool = False
    flat: bool = False  # not shaded itself, being on something round
    onto: np.ndarray | None = None  # balls of what it grows out of without a seam


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """The colour between two."""
    return tuple(np.multiply(a, 1 - share) + np.multiply(b, share))


def chain(*nodes, hair=0.0, spotted=False) -> Chain:
    """A smooth chain through nodes (x, y, z, radius, colour), by Catmull and Rom."""
    knots = np.array([[*node[:4], *node[4]] for node in nodes], float)
    path = np.linalg.norm(np.diff(knots[:, :3], axis=0), axis=1).sum()
    dense = path / (0.12 * np.sqrt(knots[:, 3].mean()))
    t = np.linspace(0, len(knots) - 1 - 1e-9, int(np.clip(dense, 3, 60)) + 1)
    i, u = t.astype(int), (t % 1)[:, None]
    p = np.concatenate([knots[:1], knots, knots[-1:], knots[-1:]])
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    balls = b + u * (c - a) / 2 + u**2 * (a - 2.5 * b + 2 * c - d / 2)
    balls += u**3 * (1.5 * b - 1.5 * c + (d - a) / 2)
    balls[:, 3] = np.maximum(balls[:, 3], 0.012)
    balls[:, 4:] = (1 - u) * b[:, 4:] + u * c[:, 4:]
    return Chain(balls if len(knots) > 1 else knots, hair, spotted)


def nested(parent: Chain, share: float, way, paint: Colour, part=slice(None)) -> Chain:
    """A patch: smaller balls inside the parent's balls, pushed to one side."""
    balls = finer(parent.balls[part])
    balls[:, :3] += np.array(way) * (1 - share) * balls[:, 3:4]
    balls[:, 3] *= share
    balls[:, 4:] = paint
    return Chain(balls, parent.hair, flat=True)


def pompon(dog: Dog, x: float, y: float, z: float, radius: float) -> list[Chain]:
    """A ball of hair, if the dog is clipped that way."""
    ball = chain((x, y, z, radius, dog.coat), hair=0.12 * dog.pompon)
    return [ball] if dog.pompon else []


def spine(dog: Dog, pose: Pose) -> tuple[float, ...]:
    """Where the shoulder and the hip are (x, y, x, y), and the radius of the hip."""
    r = 0.5 * (1 - (0.1 if pose.sits else 0.35) * dog.tuck)
    if not pose.sits:
        return dog.length / 2, dog.leg + 0.5, -dog.length / 2, dog.leg + 1 - r, r
    rise = dog.leg + 0.4 + 0.12 * dog.length - r  # a sitting dog stretches its legs
    long = np.clip(dog.length, rise / 0.92, rise / 0.77)  # and rounds a long back
    reach = np.sqrt(long**2 - rise**2) / 2
    return reach, r + rise, -reach, r, r


def trunk(dog: Dog, pose: Pose) -> list[Chain]:
    """The trunk with its saddle, belly and bib."""
    sx, sy, hx, hy, r = spine(dog, pose)
    waist = 0.5 * (1 - (0.25 if pose.sits else 0.45) * dog.tuck)
    mx, my = (sx + hx) / 2 - 0.1 * pose.sits, (sy + 0.5 + hy + r) / 2 - waist + 0.02
    middle = (mx, my, 0, waist, dog.coat)
    ends = (hx, hy, 0, r, dog.coat), (sx, sy, 0, 0.5, dog.coat)
    body = chain(ends[0], middle, ends[1], hair=dog.hair, spotted=True)
    n, parts = len(body.balls), [body]
    if dog.bib:
        parts.append(nested(body, 0.15 + 0.4 * dog.bib, (0, -1, 0), dog.light))
    if dog.saddle:
        back = slice(0, max(2, int(n * (0.55 + 0.4 * dog.saddle))))
        parts.append(nested(body, 0.3 + 0.6 * dog.saddle, (0, 1, 0), dog.dark, back))
    if dog.pompon:
        mane = body.balls[n // 2 :] * ([1] * 3 + [1 + 0.2 * dog.pompon] + [1] * 3)
        parts.append(Chain(mane, max(dog.hair, 0.15 * dog.pompon)))
    return parts


def leg(dog: Dog, pose: Pose, front: bool, side: int) -> list[Chain]:
    """A leg from its top to the paw; `side` is 1 for the near one, -1 for the far."""
    sx, sy, x, y, r = spine(dog, pose)
    b, z, long = dog.bone, side * 0.27, dog.leg
    swing = (0.35 if front else -0.35) * side * pose.stride * long
    swing, lift = (0.7 * b, 0) if pose.sits else (swing, max(0, swing) * 0.22)
    if front:
        top, knee = (sx - 0.05, sy - 0.1), (sx - 0.16 + swing * 0.2, 0.8 * sy - 0.25)
        ankle = (sx - 0.08 + swing * 0.9, 2 * b + lift + 0.1 * long)
        paw, size, middle = sx - 0.08 + swing + 0.7 * b, 1.4 * b + 0.08, 1.35 * b
    elif pose.sits:
        top, knee, size = (x + 0.1 * r, y * 0.95), (x + 0.8 * r, r), r * 0.9
        ankle, paw, middle = (x + 0.75 * r, b), x + 0.8 * r + 0.2 + b, 0.55 * r
    else:
        top, size, middle = (x, y - 0.08), r * 0.8, b + 0.2 * r
        knee = (x + 0.14 + 0.12 * long + swing * 0.4, long * 0.66 + 0.12)
        ankle = (x - 0.2 * long + swing * 0.8, long * 0.3 + b + lift)
        paw = x - 0.15 * long + swing + 1.2 * b
    light = np.clip(dog.socks * 4 - np.array([4, 2, 1, 0]), 0, 1)
    tints = [mix(dog.coat, dog.light, share) for share in light]
    nodes = [(*top, z * 0.75, size, tints[0]), (*knee, z, middle, tints[1])]
    nodes += [(*mix(knee, ankle, 0.75), z, b * 0.9, tints[2])]
    nodes += [(*ankle, z, b * 0.78, tints[2])]
    nodes += [(paw - 0.7 * b, b + lift, z, b * 0.85, tints[3])]
    nodes += [(paw + 0.3 * b, 0.9 * b + lift, z, b * 0.9, tints[3])]
    limb = chain(*nodes, hair=dog.hair * 0.6, spotted=True)
    ball = ((ankle[0] + paw) / 2, ankle[1] / 2 + 1.5 * b, z, b + 0.14 * dog.pompon)
    return [limb, *pompon(dog, *ball)]


def tail(dog: Dog, pose: Pose) -> list[Chain]:
    """The tail: it sets out at an angle and turns forward as it goes."""
    _, _, x, y, r = spine(dog, pose)
    heading, nodes = np.radians(255 - 150 * dog.tail_set) + pose.wag, []
    height = 0.6 * dog.tail_set if pose.sits else 0.55
    place = np.array([x - 0.75 * r, y + height * r])
    tipped = dog.socks > 0.2 and dog.tail > 0.3
    for t in np.linspace(0, 1, 10):
        radius = 0.11 - 0.06 * t + 0.2 * dog.plume * np.sin(np.pi * t**0.8)
        tint = mix(dog.coat, dog.dark, min(1, 2 * dog.saddle))
        tint = dog.light if tipped and t > 0.72 else tint
        nodes.append((place[0], max(place[1], radius), 0.04 * t, radius, tint))
        place = place + dog.tail / 9 * np.array([np.cos(heading), np.sin(heading)])
        heading -= np.radians(25 + 370 * dog.tail_curl) / 9
    hair = max(dog.hair * 0.3, dog.plume * 0.25)
    end = (*nodes[-1][:3], 0.1 + 0.22 * dog.pompon)
    return [chain(*nodes, hair=hair, spotted=True), *pompon(dog, *end)]


def ear(dog: Dog, side: int) -> list[Chain]:
    """An ear in the frame of the head; it sets out upward and bends outward."""
    place, droop, nodes = np.array([-0.2, 0.62, 0]), dog.ear_droop, []
    place[2] = side * (0.5 + 0.17 * droop)
    tint = mix(dog.coat, dog.dark, dog.mask * 0.9)
    middle, end = 0.85 + 0.25 * droop, 0.1 + 0.8 * dog.ear_round
    for i, width in enumerate((1 - 0.35 * droop, middle, (middle + end) / 2, end)):
        nodes.append((*place, dog.ear_width * width, tint))
        angle = np.radians(18 + 155 * min(1, droop * (0.75 + 0.4 * i)))
        step = np.array([0.12 * droop, np.cos(angle), side * np.sin(angle) * 0.8])
        place = place + step * dog.ear / 3
    flap = chain(*nodes, hair=dog.hair * 0.7 + 0.1 * dog.pompon, spotted=True)
    if droop > 0.45:
        return [flap]
    inner = nested(flap, 0.55, (0.5, -0.1, 0), mix(tint, PINK, 0.6), slice(0, -2))
    return [flap, inner._replace(hair=0.0)]


def skull(dog: Dog) -> list[Chain]:
    """The skull with its light cheeks, brows and blaze."""
    brow, w, light = 0.25 * max(0.0, dog.face - 0.4), 0.16 * dog.face, dog.light
    back, front = (-0.1, 0.02, 0, 0.95, dog.coat), (0.15, 0, 0, 0.98, dog.coat)
    parts = [chain(back, front, hair=dog.hair * 0.5, spotted=True)]
    if dog.face:
        for side in (-1, 1):
            parts += [chain((0.25, -0.3, side * 0.3, 0.28 + 0.32 * dog.face, light))]
            parts += [chain((0.62, 0.42, side * 0.42, brow + 0.01, light))]
        blaze = (0.85, 0, 0, w * 1.6, light), (0.76, 0.5, 0, w, light)
        parts += [chain(*blaze, (0.45, 0.82, 0, w * 0.5, light))]
    return [*parts, *pompon(dog, -0.1, 0.75, 0, 0.3 + 0.55 * dog.pompon)]


def muzzle(dog: Dog, pose: Pose) -> list[Chain]:
    """Muzzle, lips, mouth and nose; sometimes the tongue."""
    s, tip, reach = dog.snout, dog.snout * 0.72, 0.62 + dog.muzzle
    high = -0.12 - 0.28 * dog.stop
    low, sides = high - 0.1 - 0.1 * dog.stop, (-1, 1) if pose.look > 0.85 else (1,)
    paint = mix(dog.light if dog.face > 0.2 else dog.coat, dog.dark, dog.mask)
    paint = mix(paint, PALE, max(0, 0.32 - 0.003 * np.mean(paint)))  # seen on black
    lip, line = mix(paint, BLACK, 0.07), mix(paint, BLACK, 0.75)
    parts = [chain((0.2, high, 0, s * 1.15, paint), (reach - tip, low, 0, tip, paint))]
    for side in (-1, 1) if dog.jowl else ():
        back = (0.45, low - 0.15, side * s * 0.5, s * (0.4 + 0.45 * dog.jowl), lip)
        front = (reach - tip * 1.1, low - 0.2, side * s * 0.3, s * 0.55, lip)
        parts.append(chain(back, front))
    if pose.tongue:
        x, y = reach - tip * 0.8, low - tip * 0.8
        parts.append(chain((x, y, 0, 0.15, PINK), (x, y - 0.4, 0, 0.14, PINK)))
    front = (reach - tip * 0.15, low - tip * 0.4, 0, 0.03, line)
    for side in sides:
        middle = (reach - tip * 0.6, low - tip * 0.66, side * tip * 0.5, 0.03, line)
        bend = (0.35 + 0.4 * reach, low - tip * 0.5, s * 0.85, 0.035, line)
        corner = (0.26 + 0.3 * reach, low + tip * 0.2, s * 1.0, 0.045, line)
        if side < 0:  # shorter, as the muzzle hides its end
            bend = corner = (reach - tip, low - tip * 0.25, -tip * 0.85, 0.035, line)
        parts.append(chain(front, middle, bend, corner)._replace(flat=True))
    nose = (reach - tip * 0.25, low + tip * 0.5, 0, 0.13 + 0.2 * s, BLACK)
    shine = (reach - tip * 0.2, low + tip * 0.5 + 0.1, 0.1, 0.05, (150, 145, 150))
    return [*parts, chain(nose), chain(shine)._replace(flat=True)]


def eye(dog: Dog, pose: Pose, side: int) -> list[Chain]:
    """An eye: white, iris, pupil, a highlight; narrow, or none, where it faces away."""
    faces, parts = np.sin(pose.look + 0.56 * side), []
    if faces < -0.15:
        return []
    wide = np.clip(0.5 + faces, 0.55, 1)
    iris = mix((84, 52, 30), (130, 200, 242), dog.blue_eyes)
    rings = (0.24, BLACK), (0.215, WHITE), (0.18, iris), (0.125, BLACK)
    for out, (radius, ink) in zip((0, 0.01, 0.03, 0.05), rings, strict=True):
        x, z, tall = 0.74 + out, (0.46 + out / 2) * side, radius * (1 - wide)
        ends = [(x, 0.2 + dy, z, radius * wide, ink) for dy in (-tall, tall)]
        parts.append(chain(*ends)._replace(flat=True))
    shine = chain((0.84, 0.28, 0.46 * side, 0.075 * wide, WHITE))
    return [*parts, shine._replace(flat=True)]


def collar(neck: Chain, pose: Pose) -> Chain:
    """The near half of a ring around the neck."""
    x, y, z, r = neck.balls[int(len(neck.balls) * 0.6), :4]
    up, nodes = np.array([-np.sin(pose.neck), np.cos(pose.neck)]) * r, []
    for angle in np.linspace(0, np.pi, 7):
        dx, dy = up * np.cos(angle)
        nodes.append((x + dx, y + dy, z + r * np.sin(angle), 0.055, pose.collar))
    return chain(*nodes)


def neck_and_head(dog: Dog, pose: Pose, body: Chain) -> tuple[list[Chain], ...]:
    """The neck, which grows out of the body, and the head, turned and nodding."""
    x, y, *_ = spine(dog, pose)
    look = max(pose.look, 0.85 - 0.5 * dog.muzzle)  # a flat face is shown
    pose = pose._replace(look=look, neck=pose.neck + 0.2 * pose.sits)
    way = np.array([np.cos(pose.neck), np.sin(pose.neck), 0])
    base = np.array([x + 0.08, y + 0.12, 0])
    where = base + way * (dog.neck + dog.head + 0.1)
    where[1] = max(where[1], dog.head * 1.3)
    throat = where - way * dog.head * 0.3
    ends = (*base, 0.4, dog.coat), (*throat, dog.head * 0.68, dog.coat)
    neck = chain(*ends, hair=dog.hair * 0.8, spotted=True)
    parts = [neck._replace(onto=body.balls)]
    if dog.bib:
        front = neck._replace(balls=np.concatenate([body.balls[-1:], neck.balls]))
        parts.append(nested(front, 0.3 + 0.5 * dog.bib, (0.85, -0.5, 0), dog.light))
    if pose.collar:
        parts.append(collar(neck, pose))
    face = [*skull(dog), *muzzle(dog, pose), *eye(dog, pose, -1), *eye(dog, pose, 1)]
    head = [*ear(dog, -1), *face, *ear(dog, 1)]
    if dog.hair > 0.4 and pose.look > 0.8:  # long hair would hang over the face
        head = [*ear(dog, -1), *ear(dog, 1), *face]
    c, s = np.cos(pose.look - pose.turn), np.sin(pose.look - pose.turn)
    e, f = np.cos(pose.nod), np.sin(pose.nod)
    view = np.array([[c * e, -c * f, -s], [f, e, 0], [s * e, -s * f, c]]) * dog.head
    for balls in (part.balls for part in head):
        balls[:, :3] = balls[:, :3] @ view.T + where
        balls[:, 3] *= dog.head
    return parts, head


def skeleton(dog: Dog, pose: Pose) -> list[list[Chain]]:
    """All chains of a dog, in groups that are painted together, far ones first."""
    body = trunk(dog, pose)
    neck, head = neck_and_head(dog, pose, body[0])
    groups = [tail(dog, pose), body + neck, head]
    for front, side in (True, -1), (True, 1), (False, -1), (False, 1):
        limb, *rest = leg(dog, pose, front, side)
        groups.append([limb._replace(onto=body[0].balls), *rest])
    near = [group[0].balls[:, 2].mean() > 0.15 for group in groups]
    c, s = np.cos(pose.turn), np.sin(pose.turn)
    view = np.array([[c, 0, -s], [0.06 * s, 1, -0.12 * c], [s, 0.05, c]])
    for balls in (part.balls for group in groups for part in group):
        balls[:, :3] = balls[:, :3] @ view.T
    depth = np.array([g[0].balls[:, 2].mean() for g in groups])
    depth[near] = np.maximum(depth[near], 0.15)  # never behind the trunk
    depth[2] = depth.max() + 1  # the head is before everything
    return [groups[i] for i in np.argsort(depth, kind="stable")]


NEUTRAL = 127  # in the layer of shades; less is darker, more is lighter
TONES = (90, 100, 109, 117, 125, 133, 141)  # of a ball, from its rim inward


def discs(draw: ImageDraw.ImageDraw, xyr: np.ndarray, inks: list) -> None:
    """Filled circles: (n, 3) of x, y, radius in pixels, and n inks."""
    corners = np.concatenate([xyr[:, :2] - xyr[:, 2:], xyr[:, :2] + xyr[:, 2:]], 1)
    for box, ink in zip(corners.tolist(), inks, strict=True):
        draw.ellipse(box, fill=ink)


def opaque(rgb: np.ndarray) -> list[tuple[int, ...]]:
    """Inks for a canvas with an alpha channel, from (n, 3) of colours."""
    return [(*ink, 255) for ink in np.clip(rgb, 0, 255).astype(int).tolist()]


def finer(balls: np.ndarray, times: int = 3) -> np.ndarray:
    """The same row with more balls in it."""
    rows = np.arange(len(balls))
    t = np.linspace(0, rows[-1], times * len(rows))
    return np.stack([np.interp(t, rows, column) for column in balls.T], 1)


def scatter(balls: np.ndarray, count: int, inner: float, rng) -> tuple:
    """Balls at random and, for each, a place in the unit circle's outer part."""
    angle, out = rng.uniform(0, 6.3, count), np.sqrt(rng.uniform(inner, 1, count))
    way = np.stack([np.cos(angle), np.sin(angle)], 1) * out[:, None]
    return balls[rng.integers(len(balls), size=count)], way


def paint_hair(draw, part: Chain, dog: Dog, scale: float, floor: float, rng) -> None:
    """Locks that hang from a chain's balls to the floor, or bumps where it's curly."""
    balls, length, fuzz = part.balls, part.hair * scale, 0.04 + 0.1 * part.hair
    count, rim = int(len(balls) * 9) + 24, 0.9 - 1.5 * part.hair
    pick, normal = scatter(balls, count, max(0.2, rim), rng)
    root = pick[:, :2] + normal * pick[:, 3:4] * 0.95
    way, curly = normal * 0.35 + np.array([0.0, 0.75]), dog.curls > 0.5
    tip = root + way * length * rng.uniform(0.4, 0.9, (count, 1))
    middle = root if curly else (root + tip) / 2
    away = np.linalg.norm(balls[:, None, :2] - middle, axis=2) / balls[:, 3:4]
    shade = 0.98 - fuzz * normal[:, 1:] + rng.normal(0, fuzz / 3, (count, 1))
    tint = balls[away.argmin(0), 4:] * shade + rng.normal(0, 2.5, (count, 1))
    order = np.argsort(-root[:, 1])  # upper locks lie on lower ones
    order = order[curly | (away.min(0)[order] > rim)]  # short hair: at the rim
    if curly:
        size = scale * rng.uniform(0.05, 0.09, (count, 1))
        discs(draw, np.hstack([root, size])[order], opaque(tint[order]))
        return
    side = way[:, ::-1] * (-1, 1) * (0.025 * scale + 0.07 * length)
    bend = middle + side * rng.uniform(0.2, 1.0, (count, 1))
    lock = np.hstack([root - side, root + side, bend + side * 0.4, tip, bend - side])
    floor = floor + scale * rng.uniform(0, 0.06, (count, 1))
    lock[:, 1::2] = np.minimum(lock[:, 1::2], floor)
    for outline, ink in zip(lock[order].tolist(), opaque(tint[order]), strict=True):
        draw.polygon(outline, fill=ink)


def paint_spots(draw, part: Chain, dog: Dog, scale: float, rng) -> None:
    """Dark spots inside a chain's outline."""
    thick = 1.5 * part.balls[:, 3].mean() / scale
    count = int(len(part.balls) * 3 * thick * dog.spots)
    pick, way = scatter(part.balls, count, 0, rng)
    size = scale * rng.uniform(0.025, 0.075, (count, 1))
    size = np.minimum(size, pick[:, 3:4] * 0.6)
    where = pick[:, :2] + way * (pick[:, 3:4] - size)
    discs(draw, np.hstack([where, size]), opaque(np.tile(dog.dark, (count, 1))))


def shade(shades: Image.Image, part: Chain, light: np.ndarray) -> None:
    """Shade a chain as one smooth body, in a layer half as large as the canvas."""
    xyr = part.balls[:, [0, 1, 3]] / 2
    low = np.maximum(np.floor((xyr[:, :2] - xyr[:, 2:]).min(0)), 0).astype(int)
    high = np.ceil((xyr[:, :2] + xyr[:, 2:]).max(0) + 1).astype(int)
    high = np.minimum(high, shades.size)
    if part.flat or (high <= low).any():
        return
    size, strength = tuple((high - low).tolist()), 1 - 0.8 * min(1, 2 * part.hair)
    mask, layer = Image.new("L", size), Image.new("L", size, TONES[0])
    own = xyr - (*low, 0)
    discs(ImageDraw.Draw(mask), own, [int(255 * strength)] * len(own))
    body = [] if part.onto is None else [part.onto[:, [0, 1, 3]] / 2 - (*low, 0)]
    whole, draw = np.concatenate([*body, own]), ImageDraw.Draw(layer)
    for k in range(1, len(TONES)):
        inner = whole * (1, 1, 1 - 0.1 * k)
        inner[:, :2] += light * 0.09 * k * whole[:, 2:]
        discs(draw, inner, [TONES[k]] * len(whole))
    layer = layer.filter(ImageFilter.BoxBlur(0.16 * float(own[:, 2].mean())))
    shades.paste(layer, tuple(low.tolist()), mask)


def paint_chain(draw, part: Chain, scale: float) -> None:
    """The balls in their colours; far ones darker; a dark edge around a limb's end."""
    part.balls[:, 4:] *= 1 + np.clip(0.3 * part.balls[:, 2:3], -0.12, 0)
    blended = np.ptp(part.balls[:, 4:], 0).max() > 30
    balls = finer(part.balls, 6 if blended else 2)
    if part.onto is not None:
        edge = balls[len(balls) // 3 :]
        wider = edge[:, [0, 1, 3]] + (0, 0, 0.022 * scale)
        discs(draw, wider, opaque(edge[:, 4:] * 0.6))
    discs(draw, balls[:, [0, 1, 3]], opaque(balls[:, 4:]))


def paint(groups: list, dog: Dog, size: tuple, scale: float, rng) -> Image.Image:
    """An RGBA image of this size of chains that were fitted to it."""
    canvas = Image.new("RGBA", (2 * size[0], 2 * size[1]))
    shades, draw = Image.new("L", size, NEUTRAL), ImageDraw.Draw(canvas)
    light = np.array([rng.uniform(-0.6, 0.6), -0.8])
    parts = [part for group in groups for part in group]
    floor = max((part.balls[:, 1] + part.balls[:, 3]).max() for part in parts)
    for part in parts:
        paint_chain(draw, part, scale)
        shade(shades, part, light)
        if part.hair > 0.02:
            paint_hair(draw, part, dog, scale, floor, rng)
        if part.spotted and dog.spots:
            paint_spots(draw, part, dog, scale, rng)
    shades = shades.filter(ImageFilter.BoxBlur(0.7))
    shades = Image.merge("RGBA", [shades] * 3 + [Image.new("L", size, NEUTRAL)])
    dog_only = ImageChops.hard_light(canvas.reduce(2), shades)
    rim = dog_only.getchannel("A").filter(ImageFilter.BoxBlur(float(0.009 * scale)))
    edge = mix(np.multiply(dog.coat, 0.4), PALE, 0.5 * (np.mean(dog.coat) < 100))
    outlined = Image.new("RGBA", size, tuple(int(c) for c in edge))
    outlined.putalpha(rim.point(lambda a: min(255, 4 * a)))
    outlined.alpha_composite(dog_only)
    return outlined


def fit(groups: list, size: tuple[int, int], rng) -> tuple[float, tuple[float, ...]]:
    """Bring chains to pixels of a frame twice as large; their scale and their box."""
    balls = np.concatenate([part.balls for group in groups for part in group])
    low = (balls[:, :2] - balls[:, 3:4]).min(0)
    high = (balls[:, :2] + balls[:, 3:4]).max(0)
    frame, side, reach = 2 * np.array(size), 2 * min(size), high - low
    scale = min(rng.uniform(0.55, 1.05) * side / reach[0], 0.92 * side / reach[1])
    room = side - reach * scale  # in the centre square, where most of the dog lies
    shift = (abs(room[0]) / 2 + 0.03 * side) * rng.uniform(-1, 1)
    left = (frame[0] - side + room[0]) / 2 + shift
    foot = (frame[1] + side) / 2 - room[1] * rng.uniform(0.05, 0.7)
    flip = rng.choice([-1, 1])
    for b in (part.balls for group in groups for part in group):
        b[:, 0] = (b[:, 0] - (low[0] if flip > 0 else high[0])) * flip * scale + left
        b[:, 1] = foot - (b[:, 1] - low[1]) * scale
        b[:, 3] *= scale
    box = (left, foot - reach[1] * scale, left + reach[0] * scale, foot)
    return scale, tuple(float(edge) / 2 for edge in box)


def sample_size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of a photo in pixels: 250 to 700, landscape or portrait."""
    wide = rng.uniform(360, 700)
    tall = max(250, wide / rng.choice([1.0, 1.25, 1.33, 1.5]))
    size = int(wide), int(tall)
    return size if rng.random() < 0.72 else size[::-1]


def draw_photo(
    dog: Dog,
    rng: np.random.Generator,
    size: tuple[int, int] | None = None,
    *,
    pose: Pose | None = None,
    scene: str | None = None,
) -> tuple[Image.Image, Image.Image]:
    """A photo of a dog and the dog's mask: an RGB image and an L image of one size.

    Everything random about the photo comes from `rng`, but what is given: its size
    (width and height in pixels), the dog's pose, the scene (one of `SCENES`). Each has
    a random stream of its own, so the rest stays as it is if one is changed. The mask
    is 255 where the dog is seen, 0 elsewhere.
    """
    streams = [np.random.default_rng(seed) for seed in rng.integers(2**62, size=8)]
    sized, posed, chosen, placed, painted, backed, covered, finished = streams
    size, pose = size or sample_size(sized), pose or sample_pose(posed)
    scene, groups = scene or str(chosen.choice(list(SCENES))), skeleton(dog, pose)
    scale, box = fit(groups, size, placed)
    canvas = paint(groups, dog, size, scale, painted)
    photo, mask = behind(scene, size, box, backed), canvas.getchannel("A")
    photo.paste(canvas, mask=mask)
    in_front(scene, photo, mask, box, covered)
    return finish(photo, finished), mask.point(lambda a: 255 * (a > 127))
