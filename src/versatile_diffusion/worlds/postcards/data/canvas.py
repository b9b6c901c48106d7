"""A square to draw on in unit coordinates (x to the right, y down), and colours to draw with."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Light = tuple[float, float, float]
Point = tuple[float, float]

INK: Color = (44, 34, 48)
BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)


def mix(a: Color, b: Color, share: float) -> Color:
    """Returns `a` with `share` of it replaced by `b`."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def tint(color: Color, light: Light) -> Color:
    """Returns `color` seen under a light of the given red, green and blue strength."""
    red, green, blue = (min(255, round(x * y)) for x, y in zip(color, light, strict=True))
    return red, green, blue


class Canvas:
    """Shapes with an optional dark outline; lengths are fractions of the picture's side."""

    outline = 0.02

    def __init__(self, background: Image.Image) -> None:
        self.image = background
        self.side = background.width
        self._draw = ImageDraw.Draw(background, "RGBA")

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.side, y * self.side) for x, y in points]

    def _opaque(self, color: Color, alpha: float) -> tuple[int, int, int, int]:
        return (*color, round(255 * alpha))

    def line(self, points: Sequence[Point], color: Color, width: float, alpha: float = 1.0) -> None:
        self._draw.line(self._scaled(points), self._opaque(color, alpha), max(1, round(width * self.side)))

    def polygon(self, points: Sequence[Point], color: Color, *, inked: bool = False, alpha: float = 1.0) -> None:
        self._draw.polygon(self._scaled(points), self._opaque(color, alpha))
        if inked:
            self.line([*points, *points[:2]], INK, self.outline)

    def box(self, left: float, top: float, right: float, bottom: float, color: Color, *, inked: bool = False) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], color, inked=inked)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, color: Color, *, inked: bool = False, alpha: float = 1.0
    ) -> None:
        if inked:
            edge = self.outline / 2
            self.ellipse(x, y, rx + edge, ry + edge, INK)
            rx, ry = rx - edge, ry - edge
        corners = self._scaled([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse(corners, self._opaque(color, alpha))
