"""What the settings of an augmentation op may be: a recipe may come from a stranger, and an op may take any time."""

import math

from tlkit.errors import RecipeError, shown

MOST_OPS = 50  # of a policy
READING = frozenset({"font_path", "read_fn", "reference_images"})  # settings that name files or code
MOST = 20_000  # largest number of a setting that isn't named below
MOST_OF = {
    setting: most
    for most, settings in {
        8192: (
            "height width size image_size target_size max_size max_size_hw min_max_height min_height min_width px "
            "padding x_min x_max y_min y_max plasma_size translate_px"
        ),
        1000: (
            "num_holes_range holes_number_xy num_masks_x num_masks_y number_of_patches num_flare_circles_range "
            "num_shadows_limit shadow_dimension n_segments drop_length drop_width src_radius blur_value"
        ),
        255: "blur_limit kernel_size sigma sigma_limit sigma_x_limit sigma_y_limit gauss_sigma max_delta",
        64: "radius grid grid_yx num_grid_xy num_steps tile_grid_size",
        16: "iterations nb_rows nb_cols num_control_points",
        8: "scale scale_limit percent max_factor ratio w2h_ratio",
    }.items()
    for setting in settings.split()
}
LEAST_OF = {"step_factor": 0.005}  # of a zoom, to the largest one


def check_bounds(where, settings):
    """Refuse settings of an op that name files or code, or numbers that would take the machine's time or memory.

    Args:
        where: The op's place, for the message.
        settings: Dict of setting to value.

    Raises:
        RecipeError: If there is such a setting.
    """
    for setting, value in settings.items():
        if setting in READING:
            raise RecipeError(f"{where}: `{setting}` names files, which a recipe can't. Leave it out")
        most, least = MOST_OF.get(setting, MOST), LEAST_OF.get(setting, 0)
        if not all(math.isfinite(number) and least <= abs(number) <= most for number in _numbers(value)):
            at_least = f"at least {least}, " if least else ""
            raise RecipeError(
                f"{where}: `{setting}` must be {at_least}at most {most} in size. Received: {shown(value)}"
            )


def _numbers(value):
    """Yield all numbers in a value of lists and tables."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value
