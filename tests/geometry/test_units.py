import math

import numpy as np
import pytest

from gnomon.errors import InputError
from gnomon.geometry.units import (
    LARGEST_DIAMETER_M,
    METRES_PER_UNIT,
    SMALLEST_DIAMETER_M,
    check_size,
    to_metres,
)


@pytest.mark.parametrize(("unit", "metres"), [("mm", 0.128), ("cm", 1.28), ("m", 128.0), ("inch", 3.2512)])
def test_converts_numbers_and_arrays(unit, metres):
    assert to_metres(128.0, unit) == pytest.approx(metres)
    np.testing.assert_allclose(to_metres(np.array([[128.0], [-64.0]]), unit), [[metres], [-metres / 2]])


@pytest.mark.parametrize(("diameter", "unit"), [(128.0, "mm"), (1.0, "mm"), (20.0, "m"), (4.5, "inch")])
def test_a_plausible_size_passes(diameter, unit):
    check_size(diameter, unit, name="mug.ply")


def test_an_implausible_size_says_which_units_would_do():
    with pytest.raises(InputError) as caught:
        check_size(128.0, "m", name="mug.ply")
    error = caught.value
    assert error.message == ('mug.ply would be 128 m across (128 in unit "m"): did you mean "mm", "cm" or "inch"?')
    assert (error.code, error.field, error.value) == ("unit_implausible", "mesh_unit", "m")
    assert error.expected == (
        '1 mm to 20 m across; "mm" would make it 128 mm; "cm" would make it 1.28 m; "inch" would make it 3.25 m'
    )
    assert error.fix == "--mesh-unit mm or --mesh-unit cm or --mesh-unit inch or --allow-any-size"


def test_one_candidate_reads_as_one_and_the_flag_follows_the_field():
    with pytest.raises(InputError, match=r'would be 0\.02 mm across .*: did you mean "m"\?') as caught:
        check_size(0.02, "mm", field="scene_unit", name="chip.stl")
    assert caught.value.field == "scene_unit"
    assert caught.value.fix == "--scene-unit m or --allow-any-size"


@pytest.mark.parametrize("diameter", [0.0, math.nan, math.inf, 1e9])
def test_a_size_no_unit_can_save_offers_none(diameter):
    with pytest.raises(InputError, match="implausible in every unit") as caught:
        check_size(diameter, "mm", name="odd.obj")
    assert caught.value.fix == "--allow-any-size"


@pytest.mark.parametrize("unit", METRES_PER_UNIT)
def test_the_limits_are_the_named_constants_in_every_unit(unit):
    factor = METRES_PER_UNIT[unit]
    check_size(SMALLEST_DIAMETER_M / factor * 1.001, unit, name="a")
    check_size(LARGEST_DIAMETER_M / factor * 0.999, unit, name="a")
    for outside_m in (SMALLEST_DIAMETER_M * 0.999, LARGEST_DIAMETER_M * 1.001):
        with pytest.raises(InputError):
            check_size(outside_m / factor, unit, name="a")
