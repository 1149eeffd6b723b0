"""Method `render-compare`: thousands of hypotheses, refined and judged by drawing the mesh and comparing.

The way from a mask to a pose, one module a step:

1. `model`        once a mesh: fewer triangles, points seen from 162 directions, colours by place, symmetries.
2. `observation`  the picture around the mask, small: depth, normals, mask distance, colour.
3. `points`       7,776 hypotheses scored by 256 points each; the best 600 refined as point sets.
4. `dense`        the best 64 refined by drawing the mesh: depth along normals, silhouette, colour.
5. `likelihood`   how well a drawn hypothesis explains each pixel; decides between the last few and their near twins.
6. `look`         how well outlines fit the picture's own colours; decides where depth and mask hardly do.
7. `search`       puts the steps together.

The family of methods: M. Stoiber et al., "ICG: Iterative Corresponding Geometry", CVPR 2022 (region and depth
residuals); S. Hinterstoisser et al., "Going further with point pair features", ECCV 2016 (scoring by rendering);
E. Brachmann et al., "Learning 6D object pose estimation using 3D object coordinates", ECCV 2014 (hypotheses,
preemptive refinement).
"""

from pathlib import Path

from gnomon.geometry.kernel_cache import forget_stale

forget_stale(Path(__file__).parent)
