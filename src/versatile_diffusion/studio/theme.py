"""How the studio looks: fonts of the system, colours of its own, a little CSS, and keys."""

from __future__ import annotations

from pathlib import Path

from gradio import themes

CSS = Path(__file__).with_name("studio.css")
KEYS = Path(__file__).with_name("studio.js")
_INK = themes.Color(
    c50="#f2f5ff", c100="#e3e9fe", c200="#c9d4fd", c300="#a5b6fa", c400="#7f92f4", c500="#5a6de8", c600="#4150d2",
    c700="#333fb0", c800="#2c368d", c900="#283171", c950="#181c42", name="ink",
)  # fmt: skip
_STONE = themes.Color(
    c50="#faf9f7", c100="#f3f1ed", c200="#e6e2db", c300="#d2ccc2", c400="#a49c90", c500="#6f685e", c600="#57514a",
    c700="#433e39", c800="#282624", c900="#1c1b1a", c950="#131211", name="stone",
)  # fmt: skip


def theme() -> themes.Base:
    """The theme."""
    return themes.Base(  # pyright: ignore[reportUnknownMemberType] - gradio types it in part
        primary_hue=_INK,
        secondary_hue=_INK,
        neutral_hue=_STONE,
        radius_size=themes.sizes.radius_md,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif"],
        font_mono=["ui-monospace", "SF Mono", "Cascadia Mono", "Liberation Mono", "monospace"],
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_label_background_fill="white",
        block_label_background_fill_dark="*neutral_900",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        checkbox_label_background_fill="*neutral_50",
        checkbox_label_background_fill_dark="*neutral_950",
        checkbox_label_background_fill_hover="*neutral_100",
        checkbox_label_background_fill_hover_dark="*neutral_800",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="*primary_950",
        checkbox_label_border_width="1px",
        checkbox_label_border_color="*neutral_200",
        checkbox_label_border_color_dark="*neutral_700",
        checkbox_label_border_color_selected="*primary_500",
        checkbox_label_border_color_selected_dark="*primary_500",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
        button_cancel_background_fill="#b3362f",
        button_cancel_background_fill_dark="#b3362f",
        button_cancel_background_fill_hover="#952b25",
        button_cancel_background_fill_hover_dark="#c9463e",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
        input_background_fill="white",
        input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_200",
        input_border_color_dark="*neutral_700",
        input_border_width="1px",
        block_shadow="none",
    )
